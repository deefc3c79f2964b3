"""Explanations and answers: the sheets, the prompts, and the code that writes, reads and checks texts."""
