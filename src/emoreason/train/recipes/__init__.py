"""Recipes: the training of the mini models, Exp-CLIP, and small made-up data to try recipes on."""
