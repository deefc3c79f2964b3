"""Calibrates probabilities (temperature, two operating points) and decides when to abstain.

Everything is fitted on faces that were held out of training, never on validation or test data.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emoreason.core.probabilities import correct_prior, softmax

USUAL, FARTHEST = (
    0.7,
    2.0,
)  # distances from the training faces: where the temperature starts to rise, and how far it goes
SPREAD = 0.5  # standard deviation of the prior over the logarithm of the temperature


@dataclass(frozen=True)
class OperatingPoint:
    """How to turn logits over a model's own labels into probabilities."""

    temperature: float = 1.0
    prior_strength: float = 0.0  # share of the training prior that is removed
    shift_slope: float = 0.0  # how fast the temperature rises with the distance from the training faces

    def probabilities(self, logits: np.ndarray, prior: np.ndarray, shift: np.ndarray | None = None) -> np.ndarray:
        """(B, L) logits, (L,) training prior, (B,) distances from the training faces -> (B, L)."""
        return softmax(correct_prior(logits, prior, self.prior_strength), self.temperatures(shift))

    def temperatures(self, shift: np.ndarray | None) -> np.ndarray | float:
        if shift is None or not self.shift_slope:
            return self.temperature
        away = np.clip(np.asarray(shift, np.float64) - USUAL, 0, FARTHEST)
        return (self.temperature * np.exp(self.shift_slope * away))[:, None]


@dataclass(frozen=True)
class Calibration:
    """The calibration stored with a model. The defaults stand for an uncalibrated model."""

    labels: tuple[str, ...] = ()  # the labels it was fitted for; any subset is covered too
    prior: dict[str, float] = field(default_factory=dict)
    points: dict[str, OperatingPoint] = field(default_factory=dict)
    abstain_below: float = 0.0  # abstain below this confidence
    default: str = "accurate"  # the operating point if none is asked for
    home: float | None = None  # a face at a larger distance from the training faces is not called calibrated
    fitted_on: str = "held-out faces"  # a description to show: it says when there were only a few faces

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> "Calibration":
        points = {name: OperatingPoint(**values) for name, values in spec["points"].items()}
        optional = {name: spec[name] for name in ("fitted_on", "default", "home") if name in spec}
        return cls(tuple(spec["labels"]), spec["prior"], points, spec["abstain_below"], **optional)

    def covers(self, labels: tuple[str, ...]) -> bool:
        return bool(self.labels) and set(labels) <= set(self.labels)

    def probabilities(
        self, logits: np.ndarray, labels: tuple[str, ...], point: str, shift: np.ndarray | None = None
    ) -> np.ndarray:
        """(B, L) logits -> (B, L) probabilities. Labels it does not cover get only the temperature."""
        chosen = self.points.get(point, OperatingPoint())
        if not self.covers(labels):
            return softmax(logits, chosen.temperatures(shift))
        return chosen.probabilities(logits, np.array([self.prior[label] for label in labels]), shift)

    def at_home(self, shift: np.ndarray) -> np.ndarray:
        """(B,) whether each face looks like those that the calibration was fitted on."""
        return np.ones(len(shift), bool) if self.home is None else shift <= self.home


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
