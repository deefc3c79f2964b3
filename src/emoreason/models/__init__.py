"""Encoders, language models and explainers: find, load, store and share them."""
