"""Training: the loop, optimizer steps, checkpoints, metrics and the final model."""
