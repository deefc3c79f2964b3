"""Open-set detection: finds faces that look like none of the trained labels. A higher score means less like them.

A softmax always picks a label. Faces whose score exceeds a limit should get none; 95 % of the held-out faces of the
trained labels stay below that limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from emoreason.core.errors import EmoreasonError
from emoreason.core.probabilities import softmax

KEPT = 0.95  # share of the faces of known labels that stay below the limit
UNKNOWN_REASON = "the face looks like none of the trained labels"


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
    """(B, D) embeddings and (L, D) label means, all unit length -> (B,) one minus the cosine to the nearest mean."""
    return 1 - (embedding @ means.T).max(axis=1)


def class_means(embedding: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(n, D) embeddings and (n, L) soft targets -> (L, D) unit-length label means."""
    sums = target.T @ embedding
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


SCORES = {"improbability": improbability, "entropy": entropy, "energy": energy}  # the scores that need only logits


@dataclass(frozen=True)
class OpenSet:
    """An open-set score and its limit for one trained head."""

    score: str
    limit: float

    @classmethod
    def fit(cls, logits: np.ndarray, score: str = "energy", keep: float = KEPT) -> "OpenSet":
        """logits: (n, L) of held-out faces of the trained labels."""
        if not len(logits):
            raise EmoreasonError("an open-set limit needs held-out faces of the trained labels, but there are none")
        return cls(score, float(np.quantile(SCORES[score](logits), keep)))

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any] | None) -> "OpenSet | None":
        """Read the `openset` entry of model.json; None if it is missing or empty."""
        if not spec:
            return None
        if spec.get("score") not in SCORES:
            raise EmoreasonError(f"openset.score is {spec.get('score')!r}; expected one of {', '.join(SCORES)}")
        return cls(str(spec["score"]), float(spec["limit"]))

    def to_spec(self) -> dict[str, Any]:
        return {"score": self.score, "limit": round(self.limit, 6)}

    def unknown(self, logits: np.ndarray) -> np.ndarray:
        """(B, L) -> (B,) True where the score exceeds the limit."""
        return SCORES[self.score](logits) > self.limit
