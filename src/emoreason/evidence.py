"""The bottleneck: everything that may later be said about a face, as numbers that were measured on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from emoreason.calibration import Calibration
from emoreason.emotions import valence_arousal
from emoreason.encoder import Features
from emoreason.faces import Face
from emoreason.zeroshot import ZeroShot

MIN_SIZE = 20  # pixels: FER2013's 48 were readable; below half of that the mouth is two or three pixels high
MIN_CONTRAST = 0.02  # standard deviation of the grey values, 0..1: an even patch is no face


@dataclass(frozen=True)
class Evidence:
    """What one face shows, as far as the model can tell."""

    probabilities: dict[str, float]  # sums to 1 over the asked labels
    label: str
    confidence: float
    calibrated: bool  # the confidence was checked on held-out faces for these very labels
    action_units: dict[str, float] = field(default_factory=dict)  # code -> intensity 0..1
    valence: float | None = None  # derived from the distribution, not measured
    arousal: float | None = None
    abstained: bool = False
    why: str = ""  # why it abstained


@dataclass(frozen=True)
class Reader:
    """Encoder features to evidence, by one model with its calibration."""

    zeroshot: ZeroShot
    calibration: Calibration
    point: str = "accurate"
    threshold: float | None = None  # None: the calibration's own
    own_prompts: bool = True  # asked with the words that the calibration was fitted with

    def read(self, features: Features, labels: tuple[str, ...], faces: Sequence[Face]) -> list[Evidence]:
        """One evidence per row of the features."""
        logits = self.zeroshot.logits(features, labels)
        probabilities = self.calibration.probabilities(logits, labels, self.point)
        calibrated = self.own_prompts and self.calibration.covers(labels) and self.zeroshot.projection is None
        codes = self.zeroshot.encoder.unit_codes
        return [
            self._evidence(row, labels, calibrated, {} if units is None else dict(zip(codes, units, strict=True)), face)
            for row, units, face in zip(probabilities, _rows(features.units, len(probabilities)), faces, strict=True)
        ]

    def _evidence(
        self, row: np.ndarray, labels: tuple[str, ...], calibrated: bool, units: dict, face: Face
    ) -> Evidence:
        by_name = {label: float(p) for label, p in zip(labels, row, strict=True)}
        best = max(by_name, key=lambda label: by_name[label])
        valence, arousal = valence_arousal(by_name) or (None, None)
        why = self._reason_to_abstain(by_name[best], calibrated, face)
        intensities = {code: float(x) for code, x in units.items()}
        return Evidence(by_name, best, by_name[best], calibrated, intensities, valence, arousal, bool(why), why)

    def _reason_to_abstain(self, confidence: float, calibrated: bool, face: Face) -> str:
        quality = face.quality
        if quality.get("contrast", 1.0) < MIN_CONTRAST:
            return "the picture is almost even: there is nothing to read"
        if quality.get("size", MIN_SIZE) < MIN_SIZE:
            return f"the face is {quality['size']:.0f} pixels wide, at least {MIN_SIZE} are needed"
        # A threshold that was fitted on eight calibrated labels says nothing about other words.
        limit = (
            self.threshold if self.threshold is not None else (self.calibration.abstain_below if calibrated else 0.0)
        )
        if confidence < limit:
            return f"the best label has {confidence:.0%}, below the {limit:.0%} that was asked for"
        return ""


def _rows(units: np.ndarray | None, n: int) -> Sequence[np.ndarray | None]:
    return [None] * n if units is None else list(units)
