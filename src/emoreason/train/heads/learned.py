"""A trained label model before it is written."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from emoreason.train.splits import Splits


@dataclass(frozen=True)
class Judged:
    """m faces, and what was said of them by a head that has not seen them."""

    rows: np.ndarray  # (m,)
    logits: np.ndarray  # (m, L)
    heads: int = 1  # by how many heads, each of which was asked about some of the faces


@dataclass(frozen=True)
class Learned:
    """A trained model before it is written: what its encoder sees now, and the head on it."""

    what: str  # head, lora or full
    weight: np.ndarray  # (L, D) with the logit scale in it
    bias: np.ndarray  # (L,)
    features: np.ndarray  # (n, D) of all faces of the parts, as the trained encoder sees them
    kept: int  # the epoch or step whose weights are kept
    log: list[dict[str, Any]]
    speed: dict[str, float]  # rows_per_second, peak_gb; empty for a head
    crossed: Judged | None = None  # by other heads, where few faces were held out

    def judged(self, parts: Splits) -> Judged:
        """Faces that were not learned from, and what was said of them."""
        return self.crossed or Judged(parts.holdout, self.logits(parts.holdout))

    def logits(self, rows: np.ndarray) -> np.ndarray:
        return self.features[rows] @ self.weight.T + self.bias
