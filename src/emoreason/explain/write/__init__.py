"""Builds the grammars of explanations from prompts/*.yaml and constrains a language model to them."""
