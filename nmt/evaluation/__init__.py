"""Evaluation: scores of translations, stored results, and checks of the target text."""
