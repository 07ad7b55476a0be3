"""Checks of the data of a configuration, before a training."""
