"""Classifies follow-up questions and builds their answers."""
