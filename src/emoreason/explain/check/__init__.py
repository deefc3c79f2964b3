"""Checks explanations and answers against the evidence sheet."""
