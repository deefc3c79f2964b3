"""The built-in texts: the net under the language model, and teachers for training."""
