"""Synthetic data: back-translation and distillation, made in blocks that a killed command resumes after."""
