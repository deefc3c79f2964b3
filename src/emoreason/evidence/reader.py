"""Turns encoder features into Evidence: the measured numbers that every later statement about a face is based on."""

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

MIN_SIZE = 20  # pixels: FER2013's 48 are readable; below half of that the mouth is two or three pixels high
MIN_CONTRAST = 0.02  # standard deviation of the grey values, 0..1; a uniform patch is not a face
Point = tuple[float | None, float | None]  # valence and arousal


@dataclass(frozen=True)
class Reader:
    """Computes evidence from encoder features, for one model with its calibration."""

    zeroshot: ZeroShot
    calibration: Calibration  # of the model's own labels
    point: str = "accurate"
    threshold: float | None = None  # abstain below this confidence; None: the calibration's threshold
    own_prompts: bool = True  # False if other label prompts are used than those the calibration was fitted with
    head: LabelHead | None = None  # trained for the model's own labels
    base: Calibration = Calibration()  # if there is a head: the calibration of its base model
    measures: Measures | None = None  # trained action units, valence and arousal; they override the encoder's own

    @property
    def revision(self) -> str:
        trained = self.head or self.measures
        return trained.revision if trained else self.zeroshot.encoder.revision

    @property
    def unit_codes(self) -> tuple[str, ...]:
        """The action units that this model measures, in the order of FACS."""
        trained = self.measures.codes if self.measures else ()
        return tuple(code for code in ACTION_UNITS if code in (*self.zeroshot.encoder.unit_codes, *trained))

    def read(self, features: Features, labels: tuple[str, ...], faces: Sequence[Face]) -> list[Evidence]:
        """One evidence per row of the features."""
        probabilities, limit = self.distribution(features, labels)
        measured = self.measures.valence_arousal(features.embedding) if self.measures else None
        points = (
            self._points(features, labels, probabilities) if measured is None else list(map(_without_nan, measured))
        )
        units = self.units(features)
        uses_head = self.head is not None and self.head.rows(labels) is not None
        is_unknown = self.head.is_unknown(features.embedding) if self.head and uses_head else np.zeros(len(faces), bool)
        return [
            self._evidence(row, labels, limit, {code: float(values[i]) for code, values in units.items()}, face, point,
                           measured is not None, bool(is_unknown[i]))
            for i, (row, face, point) in enumerate(zip(probabilities, faces, points, strict=True))
        ]  # fmt: skip

    def units(self, features: Features) -> dict[str, np.ndarray]:
        """Action unit code -> (B,) intensities on 0..1, in the order of FACS."""
        units: dict[str, np.ndarray] = {}
        if features.units is not None:
            units |= zip(self.zeroshot.encoder.unit_codes, features.units.T, strict=True)
        if self.measures is not None:
            units |= self.measures.units(features.embedding)
        return {code: units[code] for code in ACTION_UNITS if code in units}

    def distribution(self, features: Features, labels: tuple[str, ...]) -> tuple[np.ndarray, float | None]:
        """(B, L) probabilities, and the confidence below which the calibration abstains.

        The head computes them if it knows all labels; otherwise zero-shot prompts do. The confidence limit is None if
        the calibration was not fitted for these labels."""
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
        """Valence and arousal, derived from the label probabilities.

        If the head's labels have no known coordinates, the base model's own labels provide them."""
        if self.head is not None and self.base.labels and valence_arousal(dict.fromkeys(labels, 1.0)) is None:
            labels, base_reader = self.base.labels, replace(self, head=None, calibration=self.base)
            probabilities = base_reader.distribution(features, labels)[0]
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
        why = self._reason_to_abstain(by_name[best], limit, face) or (openset.UNKNOWN_REASON if is_unknown else "")
        return Evidence(
            by_name, best, by_name[best], limit is not None, units, valence, arousal, measured, bool(why), why
        )

    def _reason_to_abstain(self, confidence: float, limit: float | None, face: Face) -> str:
        quality = face.quality
        if quality.get("contrast", 1.0) < MIN_CONTRAST:
            return "the picture is almost even: there is nothing to read"
        if quality.get("size", MIN_SIZE) < MIN_SIZE:
            return f"the face is {quality['size']:.0f} pixels wide, at least {MIN_SIZE} are needed"
        # without a calibration for these labels there is no limit: one fitted on eight labels says nothing about others
        limit = self.threshold if self.threshold is not None else limit or 0.0
        if confidence < limit:
            return f"the best label has {percent(confidence)}, below the {limit:.0%} that was asked for"
        return ""


def _without_nan(point: np.ndarray) -> Point:
    """A measured point, with None for the value that was not trained."""
    valence, arousal = (None if np.isnan(value) else float(value) for value in point)
    return valence, arousal
