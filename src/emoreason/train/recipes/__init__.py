"""Recipes: how the mini was made, Exp-CLIP, and small made-up data to try them on."""
