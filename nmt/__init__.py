"""Neural machine translation from one YAML file to BLEU."""

__version__ = "0.1.0"
