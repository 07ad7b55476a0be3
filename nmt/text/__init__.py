"""Text alone, without a model: placeholders, sentences of a paragraph, and formats of documents."""
