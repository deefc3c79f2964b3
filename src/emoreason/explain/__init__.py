"""The words: what the model is told, what it may write, and how that is read back and checked."""
