"""Explanations and answers: the prompts, the grammar of the texts, and the code that reads and checks texts."""
