"""Turns encoder features into Evidence: the measured numbers that every later statement about a face is based on."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from emoreason.core.probabilities import percent
from emoreason.core.types import Evidence, Face
from emoreason.evidence import openset
from emoreason.evidence.calibration import Calibration
from emoreason.evidence.head import LabelHead
from emoreason.evidence.meanings import Meaning, Meanings, label_scores
from emoreason.evidence.measures import Measures
from emoreason.evidence.zeroshot import ZeroShot
from emoreason.faces.regions import in_picture
from emoreason.knowledge.emotions import CIRCUMPLEX, valence_arousal
from emoreason.knowledge.facs import ACTION_UNITS
from emoreason.knowledge.words import EMOTIONS
from emoreason.models.encoder import Features

if TYPE_CHECKING:
    from emoreason.models.face_readout import FaceFeatures

MIN_SIZE = 20  # pixels: FER2013's 48 are readable; below half of that the mouth is two or three pixels high
MIN_CONTRAST = 0.02  # standard deviation of the grey values, 0..1; a uniform patch is not a face
IS_FACE = 0.5  # probability of an upright face below which there is no answer
IS_VISIBLE = 0.9  # probability below which eyes or mouth count as covered; fewer than 1 % of clean faces are below
TURNED = 45.0  # degrees of yaw from which half of the face is out of sight
TURNED_SHIFT = 0.5  # what such a turn adds to the distance from the training faces
ONE_SIDED = 0.25  # difference of the sides' intensities that is worth a note
COVERS = {"eyes": ("brows", "eyes"), "mouth": ("mouth", "chin", "jaw", "cheeks", "nose")}  # what cannot be seen then
CLOSE = 0.6  # two labels are close from this ratio of their probabilities on
Point = tuple[float | None, float | None]  # valence and arousal


@dataclass(frozen=True)
class Answers:
    """The distributions over the asked labels for B faces, and what must be said beside them."""

    probabilities: np.ndarray  # (B, L)
    calibrated: np.ndarray  # (B,) bool
    limit: float | None  # the confidence below which there is no answer; None: not fitted for these labels
    notes: tuple[str, ...] = ()
    refused: str = ""  # why these labels cannot be answered at all


@dataclass(frozen=True)
class Reader:
    """Computes evidence from encoder features, for one model with its calibration."""

    zeroshot: ZeroShot
    calibration: Calibration  # of the model's own labels
    point: str = ""  # the operating point; empty: the calibration's default
    threshold: float | None = None  # abstain below this confidence; None: the calibration's threshold
    own_prompts: bool = True  # False if other label prompts are used than those the calibration was fitted with
    head: LabelHead | None = None  # trained for the model's own labels
    base: Calibration = Calibration()  # if there is a head: the calibration of its base model
    measures: Measures | None = None  # trained action units, valence and arousal; they override the encoder's own
    meanings: Meanings | None = field(default=None, compare=False)  # of labels, if the model reads emotions off a face

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
        answers = self.distribution(features, labels)
        measured = self.measures.valence_arousal(features.embedding) if self.measures else None
        points = (
            self._points(features, labels, answers.probabilities)
            if measured is None
            else list(map(_without_nan, measured))
        )
        units = self.units(features)
        uses_head = self.head is not None and self.head.rows(labels) is not None
        is_unknown = self.head.is_unknown(features.embedding) if self.head and uses_head else np.zeros(len(faces), bool)
        found = []
        for i, (face, point) in enumerate(zip(faces, points, strict=True)):
            by_name = {label: float(p) for label, p in zip(labels, answers.probabilities[i], strict=True)}
            of_face = {code: float(values[i]) for code, values in units.items()}
            look = _Look.of(features.face, i, face, of_face, self.zeroshot.encoder.sided_codes)
            best = max(by_name, key=lambda label: by_name[label])
            why = (
                _unreadable(face)
                or look.refused
                or answers.refused
                or self._too_unsure(by_name, answers.limit)
                or (openset.UNKNOWN_REASON if is_unknown[i] else "")
            )
            valence, arousal = point or (None, None)
            if look.refused or _unreadable(face):
                look = replace(look, units={}, sides={})  # nothing can be said about what cannot be read
            found.append(
                Evidence(
                    by_name, best, by_name[best], bool(answers.calibrated[i]) and not look.turned, look.units, valence,
                    arousal, measured is not None, bool(why), why, look.sides, look.pose, look.shift, look.covered,
                    (*answers.notes, *look.notes), look.landmarks,
                )
            )  # fmt: skip
        return found

    def units(self, features: Features) -> dict[str, np.ndarray]:
        """Action unit code -> (B,) intensities on 0..1, in the order of FACS."""
        units: dict[str, np.ndarray] = {}
        if features.units is not None:
            units |= zip(self.zeroshot.encoder.unit_codes, features.units.T, strict=True)
        if self.measures is not None:
            units |= self.measures.units(features.embedding)
        return {code: units[code] for code in ACTION_UNITS if code in units}

    def distribution(self, features: Features, labels: tuple[str, ...]) -> Answers:
        """The head computes it if it knows all labels, else the emotions read off the face, else zero-shot prompts."""
        if self.head is not None and (rows := self.head.rows(labels)) is not None:
            trained = tuple(self.head.labels[row] for row in rows)
            logits = self.head.logits(features.embedding, rows)
            fitted = self.calibration.covers(trained)
            probabilities = self.calibration.probabilities(logits, trained, self._point(self.calibration))
            everywhere = np.full(len(probabilities), fitted)
            return Answers(probabilities, everywhere, self.calibration.abstain_below if fitted else None)
        calibration = self.base if self.head else self.calibration
        if self.meanings is not None and features.face is not None and self._own_words:
            return self._from_emotions(features, features.face, labels, calibration)
        fitted = self._own_words and calibration.covers(labels) and self.meanings is None
        logits = self.zeroshot.logits(features, labels)
        probabilities = calibration.probabilities(logits, labels, self._point(calibration))
        return Answers(
            probabilities, np.full(len(probabilities), fitted), calibration.abstain_below if fitted else None
        )

    @property
    def _own_words(self) -> bool:
        return self.own_prompts and self.zeroshot.projection is None

    @property
    def operating_point(self) -> str:
        """The point in use for the model's own labels."""
        return self._point(self.calibration)

    def _point(self, calibration: Calibration) -> str:
        return self.point if self.point in calibration.points else calibration.default

    def _from_emotions(
        self, features: Features, face: "FaceFeatures", labels: tuple[str, ...], calibration: Calibration
    ) -> Answers:
        """Labels by what they mean in terms of the eight emotions."""
        shift, point = shift_of(face), self._point(calibration)
        if calibration.covers(labels):
            logits = face.emotions[:, [EMOTIONS.index(label) for label in labels]]
            probabilities = calibration.probabilities(logits, labels, point, shift)
            return Answers(probabilities, calibration.at_home(shift), calibration.abstain_below)
        assert self.meanings is not None
        found = self.meanings.of(labels)
        emotions = calibration.probabilities(face.emotions, EMOTIONS, point, shift)
        nowhere = np.zeros(len(emotions), bool)
        if any(meaning is None for meaning in found):
            strange = [label for label, meaning in zip(labels, found, strict=True) if meaning is None]
            even = np.full((len(emotions), len(labels)), 1 / len(labels))
            return Answers(even, nowhere, None, (), _refusal(strange))
        known = [meaning for meaning in found if meaning is not None]
        points = emotions @ np.array([CIRCUMPLEX[emotion] for emotion in EMOTIONS])
        probabilities = label_scores(known, emotions, self.units(features), points)
        return Answers(probabilities, nowhere, None, tuple(_notes(known)))

    def _points(self, features: Features, labels: tuple[str, ...], probabilities: np.ndarray) -> list[Point | None]:
        """Valence and arousal, derived from the label probabilities.

        If the labels have no known coordinates, the model's own labels provide them."""
        own = self.base if self.head is not None else self.calibration
        if own.labels and valence_arousal(dict.fromkeys(labels, 1.0)) is None:
            labels, base_reader = own.labels, replace(self, head=None, calibration=own)
            probabilities = base_reader.distribution(features, labels).probabilities
        return [valence_arousal(dict(zip(labels, map(float, row), strict=True))) for row in probabilities]

    def _too_unsure(self, by_name: dict[str, float], limit: float | None) -> str:
        # without a calibration for these labels there is no limit: one fitted on eight labels says nothing about others
        limit = self.threshold if self.threshold is not None else limit or 0.0
        first, second = sorted(by_name, key=lambda label: -by_name[label])[:2]
        if by_name[first] >= limit:
            return ""
        if by_name[second] >= CLOSE * by_name[first]:
            return f"{first} and {second} are too close to decide"
        return f"the best label has {percent(by_name[first])}, below the {limit:.0%} that was asked for"


@dataclass(frozen=True)
class _Look:
    """What was measured on one face besides its label, and what that allows to say."""

    units: dict[str, float]
    sides: dict[str, tuple[float, float]] = field(default_factory=dict)
    pose: tuple[float, float, float] | None = None
    shift: float | None = None
    covered: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    landmarks: np.ndarray | None = None
    refused: str = ""

    @classmethod
    def of(
        cls, features: "FaceFeatures | None", row: int, face: Face, units: dict[str, float], sided: tuple[str, ...]
    ) -> "_Look":
        if features is None:
            return cls(units)
        is_face, *visible = features.seen[row]
        covered = tuple(area for area, seen in zip(COVERS, visible, strict=True) if seen < IS_VISIBLE)
        hidden = {region for area in covered for region in COVERS[area]}
        units = {code: value for code, value in units.items() if ACTION_UNITS[code].region not in hidden}
        yaw, pitch, roll = map(float, features.pose[row])
        roll += face.square[3] if face.square else 0.0  # the crop was turned upright
        notes = [f"the {area} cannot be seen, so nothing is said about that part of the face" for area in covered]
        if abs(yaw) > TURNED:
            notes.append(f"the head is turned by about {abs(yaw):.0f}°, so half of the face is out of sight")
        sides = {}
        for code, difference in zip(sided, features.sides[row], strict=True):
            if code in units:
                left, right = units[code] + difference / 2, units[code] - difference / 2
                sides[code] = (float(np.clip(left, 0, 1)), float(np.clip(right, 0, 1)))
        notes += _one_sided(sides)
        refused = "this does not look like an upright face" if is_face < IS_FACE else ""
        return cls(units, sides, (yaw, pitch, roll), float(shift_of(features)[row]), covered, tuple(notes),
                   in_picture(features.points[row], face), refused)  # fmt: skip

    @property
    def turned(self) -> bool:
        return self.pose is not None and abs(self.pose[0]) > TURNED


def _unreadable(face: Face) -> str:
    """Why nothing can be read from the crop, whatever it shows; empty if it can."""
    quality = face.quality
    if quality.get("contrast", 1.0) < MIN_CONTRAST:
        return "the picture is almost even: there is nothing to read"
    if quality.get("size", MIN_SIZE) < MIN_SIZE:
        return f"the face is {quality['size']:.0f} pixels wide, at least {MIN_SIZE} are needed"
    return ""


def _one_sided(sides: dict[str, tuple[float, float]]) -> list[str]:
    """A note for each visible unit that is clearly stronger on one side."""
    notes = []
    for code, (left, right) in sides.items():
        if abs(left - right) >= ONE_SIDED and max(left, right) >= 0.4:
            side = "left" if left > right else "right"
            notes.append(f"AU {code} ({ACTION_UNITS[code].name}) is stronger on the person's {side} side")
    return notes


def shift_of(face: "FaceFeatures") -> np.ndarray:
    """(B,) distance from the training faces; a head turned far away counts as farther."""
    return face.shift + TURNED_SHIFT * (np.abs(face.pose[:, 0]) > TURNED)


def _notes(meanings: Sequence[Meaning]) -> list[str]:
    """What must be said about these labels."""
    notes = [
        f"{meaning.label} is not in the lexicon; it was taken as near to {', '.join(meaning.neighbours)}"
        for meaning in meanings
        if meaning.neighbours
    ]
    states = [meaning.label for meaning in meanings if not meaning.validated]
    if states:
        notes.append(f"not validated: no data checks {', '.join(states)}")
    return notes


def _refusal(strange: Sequence[str]) -> str:
    words = ", ".join(f"“{label}”" for label in strange)
    return f"{words}: no English word or phrase for an expression that is known here, so there is no answer"


def _without_nan(point: np.ndarray) -> Point:
    """A measured point, with None for the value that was not trained."""
    valence, arousal = (None if np.isnan(value) else float(value) for value in point)
    return valence, arousal
