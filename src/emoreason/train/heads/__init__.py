"""Trains label heads, action units, valence and arousal on frozen features."""
