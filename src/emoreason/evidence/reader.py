"""The bottleneck: everything that may later be said about a face, as numbers that were measured on it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from emoreason.core.probabilities import percent
from emoreason.core.types import Evidence, Face
from emoreason.evidence import openset
from emoreason.evidence.calibration import Calibration
from emoreason.evidence.head import LabelHead
from emoreason.evidence.measures import Measures
from emoreason.evidence.zeroshot import ZeroShot
from emoreason.knowledge.emotions import valence_arousal
from emoreason.knowledge.facs import ACTION_UNITS
from emoreason.models.encoder import Features

MIN_SIZE = 20  # pixels: FER2013's 48 were readable; below half of that the mouth is two or three pixels high
MIN_CONTRAST = 0.02  # standard deviation of the grey values, 0..1: an even patch is no face
Point = tuple[float | None, float | None]  # valence and arousal


@dataclass(frozen=True)
class Reader:
    """Encoder features to evidence, by one model with its calibration."""

    zeroshot: ZeroShot
    calibration: Calibration  # of the model's own labels
    point: str = "accurate"
    threshold: float | None = None  # None: the calibration's own
    own_prompts: bool = True  # asked with the words that the calibration was fitted with
    head: LabelHead | None = None  # trained for the model's own labels
    base: Calibration = Calibration()  # under a head: of the model that it stands on
    measures: Measures | None = None  # trained action units, valence and arousal: they go before the encoder's own

    @property
    def revision(self) -> str:
        trained = self.head or self.measures
        return trained.revision if trained else self.zeroshot.encoder.revision

    @property
    def unit_codes(self) -> tuple[str, ...]:
        """The action units that every evidence has, in the order of FACS."""
        trained = self.measures.codes if self.measures else ()
        return tuple(code for code in ACTION_UNITS if code in (*self.zeroshot.encoder.unit_codes, *trained))

    def read(self, features: Features, labels: tuple[str, ...], faces: Sequence[Face]) -> list[Evidence]:
        """One evidence per row of the features."""
        probabilities, limit = self.distribution(features, labels)
        measured = self.measures.valence_arousal(features.embedding) if self.measures else None
        points = self._points(features, labels, probabilities) if measured is None else list(map(_known, measured))
        units = self.units(features)
        asks_head = self.head is not None and self.head.rows(labels) is not None
        is_unknown = self.head.is_unknown(features.embedding) if self.head and asks_head else np.zeros(len(faces), bool)
        return [
            self._evidence(row, labels, limit, {code: float(values[i]) for code, values in units.items()}, face, point,
                           measured is not None, bool(is_unknown[i]))
            for i, (row, face, point) in enumerate(zip(probabilities, faces, points, strict=True))
        ]  # fmt: skip

    def units(self, features: Features) -> dict[str, np.ndarray]:
        """Code -> (B,) intensities on 0..1, in the order of FACS."""
        own = (
            {} if features.units is None else dict(zip(self.zeroshot.encoder.unit_codes, features.units.T, strict=True))
        )
        found = own | (self.measures.units(features.embedding) if self.measures else {})
        return {code: found[code] for code in ACTION_UNITS if code in found}

    def distribution(self, features: Features, labels: tuple[str, ...]) -> tuple[np.ndarray, float | None]:
        """(B, L) probabilities by the head where it knows all labels, else by their words; and the confidence below
        which the calibration abstains, None when it was not fitted for these labels."""
        if self.head is not None and (rows := self.head.rows(labels)) is not None:
            trained = tuple(self.head.labels[row] for row in rows)
            logits = self.head.logits(features.embedding, rows)
            fitted = self.calibration.covers(trained)
            probabilities = self.calibration.probabilities(logits, trained, self.point)
            return probabilities, self.calibration.abstain_below if fitted else None
        calibration = self.base if self.head else self.calibration
        fitted = self.own_prompts and calibration.covers(labels) and self.zeroshot.projection is None
        probabilities = calibration.probabilities(self.zeroshot.logits(features, labels), labels, self.point)
        return probabilities, calibration.abstain_below if fitted else None

    def _points(self, features: Features, labels: tuple[str, ...], probabilities: np.ndarray) -> list[Point | None]:
        """Valence and arousal. Trained words without coordinates borrow those of the base model's own labels."""
        if self.head is not None and self.base.labels and valence_arousal(dict.fromkeys(labels, 1.0)) is None:
            labels, below = self.base.labels, replace(self, head=None, calibration=self.base)
            probabilities = below.distribution(features, labels)[0]
        return [valence_arousal(dict(zip(labels, map(float, row), strict=True))) for row in probabilities]

    def _evidence(
        self,
        row: np.ndarray,
        labels: tuple[str, ...],
        limit: float | None,
        units: dict[str, float],
        face: Face,
        point: Point | None,
        measured: bool,
        is_unknown: bool,
    ) -> Evidence:
        by_name = {label: float(p) for label, p in zip(labels, row, strict=True)}
        best = max(by_name, key=lambda label: by_name[label])
        valence, arousal = point or (None, None)
        why = self._reason_to_abstain(by_name[best], limit, face) or (openset.WHY if is_unknown else "")
        return Evidence(
            by_name, best, by_name[best], limit is not None, units, valence, arousal, measured, bool(why), why
        )

    def _reason_to_abstain(self, confidence: float, limit: float | None, face: Face) -> str:
        quality = face.quality
        if quality.get("contrast", 1.0) < MIN_CONTRAST:
            return "the picture is almost even: there is nothing to read"
        if quality.get("size", MIN_SIZE) < MIN_SIZE:
            return f"the face is {quality['size']:.0f} pixels wide, at least {MIN_SIZE} are needed"
        # A threshold that was fitted on eight calibrated labels says nothing about other words.
        limit = self.threshold if self.threshold is not None else limit or 0.0
        if confidence < limit:
            return f"the best label has {percent(confidence)}, below the {percent(limit)} that was asked for"
        return ""


def _known(point: np.ndarray) -> Point:
    """A measured point; None for what was not trained."""
    valence, arousal = (None if np.isnan(value) else float(value) for value in point)
    return valence, arousal
