"""What finds the best target ids of source ids: the model itself in PyTorch, or another program that runs it."""
