"""Open set: does a face look like any of the trained labels? The higher a score, the less it does.

A softmax always answers. A score and a limit, below which 95 % of held-out faces of the trained labels lie, tell the
faces that should get no label at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from emoreason.core.errors import EmoreasonError
from emoreason.core.probabilities import softmax

KEPT = 0.95  # share of the known faces that stays below the limit
WHY = "the face looks like none of the trained labels"


def improbability(logits: np.ndarray) -> np.ndarray:
    """(B, L) -> (B,) one minus the highest probability."""
    return 1 - softmax(logits).max(axis=1)


def entropy(logits: np.ndarray) -> np.ndarray:
    """(B, L) -> (B,) in nats."""
    p = softmax(logits)
    return -(p * np.log(np.maximum(p, 1e-12))).sum(axis=1)


def energy(logits: np.ndarray) -> np.ndarray:
    """(B, L) -> (B,) minus the log-sum-exp: high where no label has a high logit (Liu et al. 2020)."""
    top = logits.max(axis=1, keepdims=True)
    return -(top[:, 0] + np.log(np.exp(logits - top).sum(axis=1)))


def distance(embedding: np.ndarray, means: np.ndarray) -> np.ndarray:
    """(B, D) and the labels' means (L, D), all of unit length -> (B,) one minus the cosine to the nearest mean."""
    return 1 - (embedding @ means.T).max(axis=1)


def class_means(embedding: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(n, D) and soft targets (n, L) -> (L, D) of unit length."""
    sums = target.T @ embedding
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


SCORES = {"improbability": improbability, "entropy": entropy, "energy": energy}  # those that need logits alone


@dataclass(frozen=True)
class OpenSet:
    """The limit of one trained head."""

    score: str
    limit: float

    @classmethod
    def fit(cls, logits: np.ndarray, score: str = "energy", keep: float = KEPT) -> "OpenSet":
        """logits: (n, L) of held-out faces of the trained labels."""
        if not len(logits):
            raise EmoreasonError("an open-set limit needs held-out faces of the trained labels; there is none")
        return cls(score, float(np.quantile(SCORES[score](logits), keep)))

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any] | None) -> "OpenSet | None":
        """What stands in model.json under `openset`; None where nothing does."""
        if not spec:
            return None
        if spec.get("score") not in SCORES:
            raise EmoreasonError(f"openset.score {spec.get('score')!r}: one of {', '.join(SCORES)} was expected")
        return cls(str(spec["score"]), float(spec["limit"]))

    def to_spec(self) -> dict[str, Any]:
        return {"score": self.score, "limit": round(self.limit, 6)}

    def unknown(self, logits: np.ndarray) -> np.ndarray:
        """(B, L) -> (B,) bool"""
        return SCORES[self.score](logits) > self.limit
