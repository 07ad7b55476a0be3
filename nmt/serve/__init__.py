"""Runs behind HTTP: ``nmt serve``, an interface in the shape of LibreTranslate's, and one page."""
