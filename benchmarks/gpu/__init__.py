"""Checks and measurements of nmt on one GPU; see the README."""
