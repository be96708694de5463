"""Running models and reading teachers: outputs, predictions, and losses summed a chunk of tokens at a time."""
