"""Parses explanations and answers: their sections, movements and claims."""
