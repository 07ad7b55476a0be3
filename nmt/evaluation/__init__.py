"""Scores of translations, and where they are stored."""
