"""``nmt serve``: an HTTP API like LibreTranslate's, and a web page."""
