"""Trains explainers: language models that describe faces, from generated texts or your own."""
