"""Writes explanations and answers: the grammar, its phrases, and the walk of a language model through it."""
