"""Trained models to start from: their weights under our names, their vocabulary as our tokenizer."""
