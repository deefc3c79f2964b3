"""The result of training labels, before it is written: features, head, and logits for held-out faces."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from emoreason.train.splits import Splits


@dataclass(frozen=True)
class HeldOutLogits:
    """Logits for m faces from heads that were not trained on them."""

    rows: np.ndarray  # (m,)
    logits: np.ndarray  # (m, L)
    heads: int = 1  # number of heads; each answered for some of the faces


@dataclass(frozen=True)
class LabelModel:
    """A trained label model: the head, and the features of its encoder."""

    what: str  # what was trained: head, lora or full
    weight: np.ndarray  # (L, D) with the logit scale in it
    bias: np.ndarray  # (L,)
    features: np.ndarray  # (n, D) features of all faces, from the trained encoder
    kept: int  # the epoch or step whose weights were kept
    log: list[dict[str, Any]]
    speed: dict[str, float]  # rows_per_second, peak_gb; empty for a head
    crossfitted: HeldOutLogits | None = None  # from cross-fitting, if few faces were held out

    def held_out(self, parts: Splits) -> HeldOutLogits:
        """Logits for faces outside the training part."""
        return self.crossfitted or HeldOutLogits(parts.holdout, self.logits(parts.holdout))

    def logits(self, rows: np.ndarray) -> np.ndarray:
        return self.features[rows] @ self.weight.T + self.bias
