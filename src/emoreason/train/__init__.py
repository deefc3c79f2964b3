"""Trains heads, image towers, explainers and projections, and holds the recipes of the shipped models."""
