"""Atomic files, and locks."""
