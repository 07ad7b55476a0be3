"""Corpora, subwords, encoded pairs and batches."""
