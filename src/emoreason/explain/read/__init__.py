"""Reads texts back: sections, movements, claims."""
