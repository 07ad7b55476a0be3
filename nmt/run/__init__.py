"""A run directory: its paths and settings, its checkpoints, and the differences between two runs."""
