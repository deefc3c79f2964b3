"""Fits operating points (temperature and prior correction) on held-out faces."""

import numpy as np

from emoreason.core.probabilities import correct_prior
from emoreason.evidence.calibration import fit_temperature


def fit_points(logits: np.ndarray, target: np.ndarray, distribution: np.ndarray, prior: np.ndarray) -> dict[str, dict]:
    """The points `accurate` and `balanced`. target: (n,) class numbers, -1 for none; distribution: (n, L) the votes."""
    clear = target >= 0
    strengths = np.linspace(0, 1, 21)
    scores = [soft_scores(correct_prior(logits, prior, s), distribution) for s in strengths]
    gains = [accuracy + uar for accuracy, uar in scores]
    balanced = round(float(strengths[int(np.argmax(gains))]), 2)
    points = {}
    for name, strength in (("accurate", 0.0), ("balanced", balanced)):
        temperature = fit_temperature(correct_prior(logits, prior, strength)[clear], target[clear])
        points[name] = {"temperature": round(temperature, 4), "prior_strength": strength}
    return points


def soft_scores(logits: np.ndarray, distribution: np.ndarray) -> tuple[float, float]:
    """Accuracy and UAR. A face counts for every label by its share of votes, because rare labels have few faces."""
    answer = np.eye(logits.shape[1])[logits.argmax(axis=1)]
    agreed = answer * distribution
    return float(agreed.sum() / len(logits)), float((agreed.sum(axis=0) / distribution.sum(axis=0)).mean())
