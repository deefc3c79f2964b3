"""The attributes reported for a face besides its label. Rows, JSON, the table, the page and its exports use ATTRIBUTES.

To add one (head pose, gaze, an age group), write one class here and add it to the list.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from emoreason.core.types import POSE, Evidence, Face
from emoreason.knowledge.facs import ACTION_UNITS, SIDED, band

LEFT_RIGHT = ("left", "right")  # of the person


class Attribute(Protocol):
    name: str  # the page has a chart for this name, or shows `describe`
    title: str  # heading of the `describe` line in the table; empty if the line needs none

    def columns(self, unit_codes: Sequence[str]) -> list[str]:
        """Column names of the output rows, for a model that measures these action units."""
        ...

    def cells(self, face: Face, evidence: Evidence) -> dict[str, Any]:
        """Column name -> value for one face."""
        ...

    def to_dict(self, face: Face, evidence: Evidence) -> dict[str, Any]:
        """Keys and values for the JSON of a face."""
        ...

    def describe(self, face: Face, evidence: Evidence) -> str:
        """One readable line; empty if there is nothing to report."""
        ...


class ActionUnits:
    name, title = "action_units", "seen"

    def columns(self, unit_codes: Sequence[str]) -> list[str]:
        return [f"au_{code}" for code in unit_codes]

    def cells(self, face: Face, evidence: Evidence) -> dict[str, Any]:
        return {f"au_{code}": round(x, 4) for code, x in evidence.action_units.items()}

    def to_dict(self, face: Face, evidence: Evidence) -> dict[str, Any]:
        return {"action_units": {code: round(x, 4) for code, x in evidence.action_units.items()}}

    def describe(self, face: Face, evidence: Evidence) -> str:
        if not evidence.action_units:
            return ""
        seen = [f"{name.lower()} (AU{code}, {strength})" for code, name, strength in visible_units(evidence)]
        return ", ".join(seen) or "no action unit above its threshold"


class ValenceArousal:
    name, title = "valence_arousal", ""

    def columns(self, unit_codes: Sequence[str]) -> list[str]:
        return ["valence", "arousal"]

    def cells(self, face: Face, evidence: Evidence) -> dict[str, Any]:
        return {"valence": _rounded(evidence.valence), "arousal": _rounded(evidence.arousal)}

    def to_dict(self, face: Face, evidence: Evidence) -> dict[str, Any]:
        unknown = evidence.valence is None and evidence.arousal is None
        source = None if unknown else "measured" if evidence.point_measured else "derived"
        return {**self.cells(face, evidence), "valence_arousal_source": source}

    def describe(self, face: Face, evidence: Evidence) -> str:
        known = {"valence": evidence.valence, "arousal": evidence.arousal}
        line = ", ".join(f"{name} {value:+.2f}" for name, value in known.items() if value is not None)
        return f"{line} (derived from the labels)" if line and not evidence.point_measured else line


class Sides:
    name, title = "action_unit_sides", ""

    def columns(self, unit_codes: Sequence[str]) -> list[str]:
        return [f"au_{code}_{side}" for code in unit_codes if code in SIDED for side in ("left", "right")]

    def cells(self, face: Face, evidence: Evidence) -> dict[str, Any]:
        sides = evidence.sides.items()
        return {
            f"au_{code}_{side}": round(x, 4) for code, pair in sides for side, x in zip(LEFT_RIGHT, pair, strict=True)
        }

    def to_dict(self, face: Face, evidence: Evidence) -> dict[str, Any]:
        sides = {
            code: dict(zip(LEFT_RIGHT, (round(x, 4) for x in pair), strict=True))
            for code, pair in evidence.sides.items()
        }
        return {"action_unit_sides": sides}

    def describe(self, face: Face, evidence: Evidence) -> str:
        return ""  # a clear difference is among the notes


class Pose:
    name, title = "pose", "head"

    def columns(self, unit_codes: Sequence[str]) -> list[str]:
        return list(POSE)

    def cells(self, face: Face, evidence: Evidence) -> dict[str, Any]:
        return (
            dict(zip(POSE, (round(x, 1) for x in evidence.pose), strict=True)) if evidence.pose else dict.fromkeys(POSE)
        )

    def to_dict(self, face: Face, evidence: Evidence) -> dict[str, Any]:
        return {"pose": self.cells(face, evidence) if evidence.pose else None}

    def describe(self, face: Face, evidence: Evidence) -> str:
        if evidence.pose is None:
            return ""
        return ", ".join(f"{name} {round(x):+d}°" for name, x in zip(POSE, evidence.pose, strict=True))


class Shift:
    name, title = "shift", "unlike the training faces"

    def columns(self, unit_codes: Sequence[str]) -> list[str]:
        return ["shift"]

    def cells(self, face: Face, evidence: Evidence) -> dict[str, Any]:
        return {"shift": _rounded(evidence.shift)}

    def to_dict(self, face: Face, evidence: Evidence) -> dict[str, Any]:
        return {"shift": _rounded(evidence.shift), "notes": list(evidence.notes)}

    def describe(self, face: Face, evidence: Evidence) -> str:
        return f"{evidence.shift:.1f} (ordinary faces are below 1)" if evidence.shift and evidence.shift > 1 else ""


ATTRIBUTES: list[Attribute] = [
    ActionUnits(),
    Sides(),
    Pose(),
    Shift(),
    ValenceArousal(),
]  # in the order of the row columns


def visible_units(evidence: Evidence) -> list[tuple[str, str, str]]:
    """(code, name, band) of the action units above the lowest threshold, strongest first."""
    ranked = sorted(evidence.action_units.items(), key=lambda unit: -unit[1])
    return [(code, ACTION_UNITS[code].name, strength) for code, x in ranked if (strength := band(x))]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
