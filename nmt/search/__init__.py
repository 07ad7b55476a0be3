"""Search for the best hypotheses, given only a step function, not a model class."""
