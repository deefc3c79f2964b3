"""The language models that write: our own, transformers, OpenAI-compatible servers."""
