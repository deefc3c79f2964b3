"""Trained measures: action units, valence and arousal as linear maps of the encoder's embedding.

If the data has such columns, `emoreason finetune` writes them into one file in the model's folder:
    measures.safetensors   units.weight (U, D), units.bias (U,), units.knee (U,); point.weight (P, D), point.bias (P,)
The names are in the metadata of the file.
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
LOWEST = BANDS[0][1]  # a unit below this intensity counts as absent


@dataclass(frozen=True)
class Measures:
    """Linear maps from a unit-length embedding to action units, valence and arousal."""

    name: str
    revision: str
    codes: tuple[str, ...]  # of the action units
    unit_weight: np.ndarray  # (U, D)
    unit_bias: np.ndarray  # (U,)
    knee: np.ndarray  # (U,) raw value that is mapped to LOWEST; equals LOWEST if the raw values are intensities already
    points: tuple[str, ...]  # valence, arousal, or both
    point_weight: np.ndarray  # (P, D)
    point_bias: np.ndarray  # (P,)

    @classmethod
    def load(cls, folder: Path) -> "Measures | None":
        """Load the measures of a model's folder; None if it has none."""
        path = folder / FILE
        if not path.is_file():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                names = json.loads((file.metadata() or {})["measures"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            measures = cls(
                names["name"], hashlib.sha256(path.read_bytes()).hexdigest()[:12],
                tuple(names["units"]), tensors["units.weight"], tensors["units.bias"], tensors["units.knee"],
                tuple(names["points"]), tensors["point.weight"], tensors["point.bias"],
            )  # fmt: skip
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise EmoreasonError(f"{path} cannot be read ({error}): train again") from None
        if len(measures.codes) != len(measures.unit_weight) or len(measures.points) != len(measures.point_weight):
            raise EmoreasonError(
                f"{path} is damaged: the number of names differs from the number of weights; train again"
            )
        return measures

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save

        from emoreason.core.files import write_atomically

        names = {"name": self.name, "units": list(self.codes), "points": list(self.points)}
        tensors = {"units.weight": self.unit_weight, "units.bias": self.unit_bias, "units.knee": self.knee,
                   "point.weight": self.point_weight, "point.bias": self.point_bias}  # fmt: skip
        tensors = {key: np.ascontiguousarray(value, np.float32) for key, value in tensors.items()}
        write_atomically(folder / FILE, save(tensors, {"measures": json.dumps(names)}))

    def raw_units(self, embedding: np.ndarray) -> np.ndarray:
        """(B, D) -> (B, U) intensities, or probabilities if the training data only said present or absent."""
        logits = embedding @ self.unit_weight.T + self.unit_bias
        return (1 + np.tanh(logits / 2)) / 2  # the logistic function, without overflow

    def units(self, embedding: np.ndarray) -> dict[str, np.ndarray]:
        """(B, D) -> code -> (B,) on 0..1.

        Maps raw values piecewise linearly so that the threshold fitted on held-out faces (the knee) lands on LOWEST,
        where the lowest band begins and a unit counts as visible."""
        raw = self.raw_units(embedding)
        scaled = np.where(
            raw < self.knee,
            raw / self.knee * LOWEST,
            LOWEST + (raw - self.knee) / (1 - self.knee) * (1 - LOWEST),
        )
        return dict(zip(self.codes, scaled.T, strict=True))

    def valence_arousal(self, embedding: np.ndarray) -> np.ndarray | None:
        """(B, D) -> (B, 2) on -1..1, with NaN in a column that was not trained; None if neither was trained."""
        if not self.points:
            return None
        result = np.full((len(embedding), 2), np.nan)
        values = np.clip(embedding @ self.point_weight.T + self.point_bias, -1, 1)
        result[:, [POINT.index(name) for name in self.points]] = values
        return result
