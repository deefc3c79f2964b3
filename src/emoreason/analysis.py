"""The results: an Analysis per picture, a FaceAnalysis per face, and the flat rows that labeling writes."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from emoreason.core.types import Evidence, Face, Picture
from emoreason.drawing import Card, annotate
from emoreason.evidence.attributes import ATTRIBUTES, Attribute, visible_units
from emoreason.faces.regions import outline

if TYPE_CHECKING:
    import pandas as pd

    from emoreason.explain.explanation import Explanation


@dataclass(frozen=True)
class FaceAnalysis:
    """One face with its evidence and explanation."""

    face: Face
    evidence: Evidence  # its probabilities are those that decided the label
    explanation: "Explanation | None" = None
    measured: Evidence | None = None  # the evidence as measured, if `--decide` let the language model change it

    @property
    def status(self) -> str:
        return "abstained" if self.evidence.abstained else "ok"

    @property
    def label(self) -> str:
        return self.evidence.label

    @property
    def confidence(self) -> float:
        return self.evidence.confidence

    @property
    def probabilities(self) -> dict[str, float]:
        return self.evidence.probabilities

    @property
    def action_units(self) -> dict[str, float]:
        return self.evidence.action_units

    def visible_units(self) -> list[tuple[str, str, str]]:
        """(code, name, band) of the action units above the lowest threshold, strongest first."""
        return visible_units(self.evidence)

    def described(self) -> list[tuple[Attribute, str]]:
        """A readable line for each attribute that has something to report."""
        lines = [(attribute, attribute.describe(self.face, self.evidence)) for attribute in ATTRIBUTES]
        return [(attribute, line) for attribute, line in lines if line]

    def card(self) -> Card:
        """The parts of this face that the annotated picture shows."""
        cited = [] if self.explanation is None else [m.region for m in self.explanation.mentions if m.present]
        regions = {region: outline(self.face, region) for region in dict.fromkeys(cited)}
        return Card(self.face.face_id, self.face.box, self.evidence.abstained, self.label, self.probabilities,
                    self.visible_units(), bool(self.action_units), regions)  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        evidence = self.evidence
        return {
            "face_id": self.face.face_id,
            "box": list(self.face.box) if self.face.box else None,
            "face_score": self.face.score,
            "status": self.status,
            "why": evidence.why or None,
            "quality": {k: round(v, 4) for k, v in self.face.quality.items()},
            "label": evidence.label,
            "confidence": round(evidence.confidence, 6),
            "calibrated": evidence.calibrated,
            "probabilities": {k: round(p, 6) for k, p in evidence.probabilities.items()},
            **_merged(attribute.to_dict(self.face, evidence) for attribute in ATTRIBUTES),
            "explanation": self.explanation.to_dict() if self.explanation else None,
        } | self._measured()

    def _measured(self) -> dict[str, Any]:
        if self.measured is None:
            return {}
        by_name = {k: round(p, 6) for k, p in self.measured.probabilities.items()}
        return {"evidence": {"label": self.measured.label, "probabilities": by_name}}


@dataclass(frozen=True)
class Analysis:
    """One picture: its faces, left to right."""

    picture: Picture
    model: str
    revision: str
    prompt_id: str
    faces: tuple[FaceAnalysis, ...]

    def to_dict(self) -> dict[str, Any]:
        width, height = self.picture.size
        return {
            "source": self.picture.source,
            "frame": self.picture.frame,
            "time_s": self.picture.time_s,
            "width": width,
            "height": height,
            "model": self.model,
            "revision": self.revision,
            "prompt_id": self.prompt_id,
            "faces": [face.to_dict() for face in self.faces],
        }

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def rows(self) -> list[dict[str, Any]]:
        """The rows of this picture: one per face, or one with status no_face."""
        picture = self.picture
        common: dict[str, Any] = {"source": picture.source, "frame": picture.frame, "time_s": picture.time_s}
        made_by: dict[str, Any] = {"model": self.model, "revision": self.revision, "prompt_id": self.prompt_id}
        if not self.faces:
            return [row(**common, status="no_face", **made_by)]
        rows = []
        for found in self.faces:
            evidence, (x, y, w, h) = found.evidence, found.face.box or (None,) * 4
            rows.append(
                row(**common, face_id=found.face.face_id, x=x, y=y, w=w, h=h, face_score=found.face.score,
                    status=found.status, label=evidence.label, confidence=round(evidence.confidence, 6),
                    probabilities=evidence.probabilities,
                    attributes=_merged(attribute.cells(found.face, evidence) for attribute in ATTRIBUTES),
                    notes="; ".join(evidence.notes),
                    explanation=found.explanation.text if found.explanation else "", error=evidence.why, **made_by)
            )  # fmt: skip
        return rows

    def to_frame(self) -> "pd.DataFrame":
        import pandas as pd

        return pd.DataFrame(self.rows())

    def draw(self, path: str | Path | None = None) -> Image.Image:
        """The picture with boxes, labels and bars; saved to `path` if given."""
        image = annotate(self.picture, [face.card() for face in self.faces])
        if path is not None:
            image.save(path)
        return image


def row(*, source: str, frame: int | None = None, time_s: float | None = None, face_id: int | None = None,
        x: int | None = None, y: int | None = None, w: int | None = None, h: int | None = None,
        face_score: float | None = None, status: str, label: str | None = None, confidence: float | None = None,
        probabilities: dict[str, float] | None = None, attributes: dict[str, Any] | None = None,
        notes: str = "", explanation: str = "", error: str = "",
        model: str, revision: str, prompt_id: str) -> dict[str, Any]:  # fmt: skip
    """One output row, with its columns in the documented order. Labels appear by name, never by index.

    `notes`, `explanation` and `error` are empty strings, not None: readers infer a column's type from the start of a
    file, and after 20,000 rows of None the error of one broken picture would not fit the column.
    """
    head = {"source": source, "frame": frame, "time_s": time_s, "face_id": face_id, "x": x, "y": y, "w": w, "h": h,
            "face_score": face_score, "status": status, "label": label, "confidence": confidence}  # fmt: skip
    middle: dict[str, Any] = {f"p_{name}": round(p, 6) for name, p in (probabilities or {}).items()}
    middle |= dict.fromkeys(_attribute_columns(())) if attributes is None else attributes
    tail = {"notes": notes, "explanation": explanation, "error": error,
            "model": model, "revision": revision, "prompt_id": prompt_id}  # fmt: skip
    return head | middle | tail


def columns(labels: Sequence[str], unit_codes: Sequence[str]) -> list[str]:
    """All columns of a labeling run, in the documented order."""
    empty = row(source="", status="ok", model="", revision="", prompt_id="", probabilities=dict.fromkeys(labels, 0.0),
                attributes=dict.fromkeys(_attribute_columns(unit_codes)))  # fmt: skip
    return list(empty)


def _attribute_columns(unit_codes: Sequence[str]) -> list[str]:
    return [column for attribute in ATTRIBUTES for column in attribute.columns(unit_codes)]


def _merged(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}
