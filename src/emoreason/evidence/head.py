"""A trained label head: the few kilobytes that `emoreason finetune` adds to an encoder.

Its folder holds the head and names its base model, which still handles all other labels:
    model.json            labels, calibration, the base model and its revision
    weights.safetensors   head.weight (L, D), head.bias (L,)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoreason.core.errors import EmoreasonError
from emoreason.evidence.calibration import Calibration
from emoreason.evidence.openset import OpenSet
from emoreason.knowledge.emotions import canonical
from emoreason.models.bundle import Bundle


@dataclass(frozen=True)
class LabelHead:
    """One vector and one bias per label, applied to the encoder's unit-length embedding."""

    name: str
    revision: str
    labels: tuple[str, ...]
    weight: np.ndarray  # (L, D), including the logit scale
    bias: np.ndarray  # (L,)
    calibration: Calibration  # has no labels if there were too few faces to calibrate on
    openset: OpenSet | None = None  # detects faces that look like none of the labels, if that was trained

    @classmethod
    def load(cls, bundle: Bundle) -> "LabelHead":
        from safetensors.numpy import load_file

        bundle.verify()
        spec, tensors = bundle.spec, load_file(bundle.weights)
        weight, bias, labels = tensors["head.weight"], tensors["head.bias"], tuple(spec["labels"])
        if not len(labels) == len(weight) == len(bias):
            raise EmoreasonError(
                f"{bundle.folder}: model.json names {len(labels)} labels, but weights.safetensors holds {len(weight)}: "
                "train again"
            )
        calibration = Calibration.from_spec(spec["calibration"])
        openset = OpenSet.from_spec(spec.get("openset"))
        return cls(spec["name"], spec["sha256"][:12], labels, weight, bias, calibration, openset)

    def rows(self, labels: Sequence[str]) -> list[int] | None:
        """The row of each label in the head; None if any of them was not trained. `happy` finds `happiness`."""
        by_name = {label: i for i, label in enumerate(self.labels)}
        by_meaning = {canonical(label) or label: i for label, i in by_name.items()}
        found = [by_name.get(label, by_meaning.get(canonical(label) or label)) for label in labels]
        known = [i for i in found if i is not None]
        return known if len(set(known)) == len(labels) else None

    def is_unknown(self, embedding: np.ndarray) -> np.ndarray:
        """(B, D) -> (B,) True where a face looks like none of the trained labels."""
        if self.openset is None:
            return np.zeros(len(embedding), bool)
        return self.openset.unknown(self.logits(embedding, list(range(len(self.labels)))))

    def logits(self, embedding: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        """(B, D) -> (B, len(rows))"""
        return embedding @ self.weight[rows].T + self.bias[rows]
