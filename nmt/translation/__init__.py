"""Lines in, lines out: the translator and its engines."""
