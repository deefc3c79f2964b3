"""Checks texts against the evidence sheet."""
