"""Search for the best hypotheses; knows a step function, never a model class."""
