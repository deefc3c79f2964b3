"""Explainers: our own language model, transformers chat models and OpenAI-compatible servers."""
