"""Trained measures: action units, valence and arousal as linear maps of the encoder's embedding.

`emoreason finetune` writes them where the data has such columns, into one file beside the model:
    measures.safetensors   units.weight (U, D), units.bias (U,), units.knee (U,); point.weight (P, D), point.bias (P,)
and their names in its metadata.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoreason.core.errors import EmoreasonError
from emoreason.knowledge.facs import BANDS

FILE = "measures.safetensors"
POINT = ("valence", "arousal")
LOWEST = BANDS[0][1]  # below it a unit counts as absent


@dataclass(frozen=True)
class Measures:
    """What was trained, and how an answer is made from a unit-length embedding."""

    name: str
    revision: str
    codes: tuple[str, ...]  # of action units
    unit_weight: np.ndarray  # (U, D)
    unit_bias: np.ndarray  # (U,)
    knee: np.ndarray  # (U,) the answer that stands for the lowest band; `LOWEST` where answers are intensities already
    points: tuple[str, ...]  # valence, arousal, or both
    point_weight: np.ndarray  # (P, D)
    point_bias: np.ndarray  # (P,)

    @classmethod
    def load(cls, folder: Path) -> "Measures | None":
        """Of a model's folder; None where there are none."""
        path = folder / FILE
        if not path.is_file():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                told = json.loads((file.metadata() or {})["measures"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            made = cls(
                told["name"], hashlib.sha256(path.read_bytes()).hexdigest()[:12],
                tuple(told["units"]), tensors["units.weight"], tensors["units.bias"], tensors["units.knee"],
                tuple(told["points"]), tensors["point.weight"], tensors["point.bias"],
            )  # fmt: skip
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise EmoreasonError(f"{path} holds no measures that can be read ({error}): train again") from None
        if len(made.codes) != len(made.unit_weight) or len(made.points) != len(made.point_weight):
            raise EmoreasonError(f"{path}: its names and its weights do not fit each other: train again")
        return made

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save

        from emoreason.core.files import write_atomically

        told = {"name": self.name, "units": list(self.codes), "points": list(self.points)}
        tensors = {"units.weight": self.unit_weight, "units.bias": self.unit_bias, "units.knee": self.knee,
                   "point.weight": self.point_weight, "point.bias": self.point_bias}  # fmt: skip
        tensors = {key: np.ascontiguousarray(value, np.float32) for key, value in tensors.items()}
        write_atomically(folder / FILE, save(tensors, {"measures": json.dumps(told)}))

    def raw_units(self, embedding: np.ndarray) -> np.ndarray:
        """(B, D) -> (B, U): intensities, or probabilities where the training data said present or absent."""
        return (
            1 + np.tanh((embedding @ self.unit_weight.T + self.unit_bias) / 2)
        ) / 2  # the logistic, without overflow

    def units(self, embedding: np.ndarray) -> dict[str, np.ndarray]:
        """(B, D) -> code -> (B,) on 0..1. A probability is bent so that the lowest band, from which a unit is spoken
        of, begins at the threshold that was fitted on held-out faces."""
        raw = self.raw_units(embedding)
        bent = np.where(
            raw < self.knee,
            raw / self.knee * LOWEST,
            LOWEST + (raw - self.knee) / (1 - self.knee) * (1 - LOWEST),
        )
        return dict(zip(self.codes, bent.T, strict=True))

    def valence_arousal(self, embedding: np.ndarray) -> np.ndarray | None:
        """(B, D) -> (B, 2) on -1..1, NaN in the column of one that was not trained; None when neither was."""
        if not self.points:
            return None
        found = np.full((len(embedding), 2), np.nan)
        answers = np.clip(embedding @ self.point_weight.T + self.point_bias, -1, 1)
        found[:, [POINT.index(name) for name in self.points]] = answers
        return found
