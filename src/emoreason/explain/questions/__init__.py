"""Understands follow-up questions."""
