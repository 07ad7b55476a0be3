"""Synthetic data: back-translation and distillation, written in blocks so that a killed command can resume."""
