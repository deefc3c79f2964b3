"""Probabilities: softmax, prior correction, and formatting as percent."""

from collections.abc import Sequence

import numpy as np


def correct_prior(logits: np.ndarray, prior: Sequence[float] | np.ndarray, strength: float) -> np.ndarray:
    """Remove `strength` (0 to 1) of the training prior from the logits: rare labels gain, frequent ones lose."""
    return logits - strength * np.log(np.maximum(np.asarray(prior, dtype=np.float64), 1e-6))


def softmax(logits: np.ndarray, temperature: float | np.ndarray = 1.0) -> np.ndarray:
    """(B, L) logits -> (B, L) rows that sum to 1. The temperature is one number or (B, 1)."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def percent(probability: float) -> str:
    """Format a probability for tables, bars and sentences: whole percents, but never 0% or 100%, which no measurement
    can give."""
    if probability <= 0.005:
        return "under 1%"
    return "over 99%" if probability >= 0.995 else f"{probability:.0%}"
