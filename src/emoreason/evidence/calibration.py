"""Calibrates probabilities (temperature, two operating points) and decides when to abstain.

Everything is fitted on faces that were held out of training, never on validation or test data.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emoreason.core.probabilities import correct_prior, softmax

SPREAD = 0.5  # standard deviation of the prior over the logarithm of the temperature


@dataclass(frozen=True)
class OperatingPoint:
    """How to turn logits over a model's own labels into probabilities."""

    temperature: float = 1.0
    prior_strength: float = 0.0  # share of the training prior that is removed

    def probabilities(self, logits: np.ndarray, prior: np.ndarray) -> np.ndarray:
        return softmax(correct_prior(logits, prior, self.prior_strength), self.temperature)


@dataclass(frozen=True)
class Calibration:
    """The calibration stored with a model. The defaults stand for an uncalibrated model."""

    labels: tuple[str, ...] = ()  # the labels it was fitted for; any subset is covered too
    prior: dict[str, float] = field(default_factory=dict)
    points: dict[str, OperatingPoint] = field(default_factory=dict)
    abstain_below: float = 0.0  # abstain below this confidence
    fitted_on: str = "held-out faces"  # a description to show: it says when there were only a few faces

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> "Calibration":
        points = {name: OperatingPoint(**values) for name, values in spec["points"].items()}
        optional = {"fitted_on": spec["fitted_on"]} if "fitted_on" in spec else {}
        return cls(tuple(spec["labels"]), spec["prior"], points, spec["abstain_below"], **optional)

    def covers(self, labels: tuple[str, ...]) -> bool:
        return bool(self.labels) and set(labels) <= set(self.labels)

    def probabilities(self, logits: np.ndarray, labels: tuple[str, ...], point: str) -> np.ndarray:
        """(B, L) logits -> (B, L) probabilities. Labels it does not cover get only the temperature."""
        chosen = self.points.get(point, OperatingPoint())
        if not self.covers(labels):
            return softmax(logits, chosen.temperature)
        return chosen.probabilities(logits, np.array([self.prior[label] for label in labels]))


def nll(probabilities: np.ndarray, target: np.ndarray) -> float:
    """Mean negative log-likelihood; target (B,) holds class numbers."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(target)), target], 1e-12)).mean())


def fit_temperature(logits: np.ndarray, target: np.ndarray) -> float:
    """The temperature with the lowest NLL on held-out faces: golden-section search over its logarithm, from 0.05 to 20.

    A normal prior pulls it towards 1: without it, a few faces that are all classified correctly would make every answer
    certain. Many faces outweigh the prior."""
    low, high, ratio = np.log(0.05), np.log(20.0), (5**0.5 - 1) / 2

    def cost(log: float) -> float:
        return len(target) * nll(softmax(logits, np.exp(log)), target) + (log / SPREAD) ** 2 / 2

    for _ in range(60):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if cost(a) < cost(b):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2))


def abstention_threshold(confidence: np.ndarray, correct: np.ndarray, accuracy: float) -> float:
    """The lowest threshold at which the answers above it are correct for at least `accuracy` of the held-out faces."""
    order = np.argsort(-confidence, kind="stable")
    share = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(share >= accuracy)
    return float(confidence[order[enough[-1]]]) if len(enough) else 1.0
