"""Emotions and faces as data: label sets, action units, and the words for both."""
