"""Probabilities: softmax, prior correction, and the one way in which a probability is written."""

from collections.abc import Sequence

import numpy as np


def correct_prior(logits: np.ndarray, prior: Sequence[float] | np.ndarray, strength: float) -> np.ndarray:
    """Take `strength` (0 to 1) of the training prior out of the answer: rare labels gain, frequent ones lose."""
    return logits - strength * np.log(np.maximum(np.asarray(prior, dtype=np.float64), 1e-6))


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(B, L) -> rows that sum to 1."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def percent(probability: float) -> str:
    """A probability as it is written in every table, bar and sentence: whole percents, and never 0% or 100%, which no
    measurement gives."""
    if probability < 0.005:
        return "under 1%"
    return "over 99%" if probability > 0.995 else f"{probability:.0%}"
