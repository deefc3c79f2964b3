"""The evidence sheet: everything a language model learns about one face and may say about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from emoreason.core.types import Evidence
from emoreason.knowledge.emotions import canonical
from emoreason.knowledge.facs import ABSENT, ACTION_UNITS, REGIONS, SURE, band, opposites

MAX_NAMED = 5  # units that a full text names; a longer list would hide what stands out
BRIEFLY_NAMED = 2  # units that a brief text names
CLOSE = 0.6  # mention the runner-up from this share of the winner's probability on
ONE_SIDED = 0.25  # difference of the sides' intensities that is worth a word
NOT_VALIDATED = "not validated"  # how a note on labels that no data checks begins


@dataclass(frozen=True)
class Named:
    """An action unit that the observations name."""

    code: str
    band: str

    @property
    def region(self) -> str:
        return ACTION_UNITS[self.code].region

    @property
    def name(self) -> str:
        return ACTION_UNITS[self.code].name


@dataclass(frozen=True)
class Sheet:
    """Measured action units and the label distribution of one face."""

    units: dict[str, float]  # every measured unit: code -> intensity 0..1
    probabilities: dict[str, float]  # the evidence's distribution over the requested labels
    calibrated: bool = True
    abstained: bool = False
    why: str = ""
    brief: bool = False  # name at most BRIEFLY_NAMED units
    notes: tuple[str, ...] = ()  # what must be said beside the label
    sides: dict[str, tuple[float, float]] = field(default_factory=dict)  # unit -> the person's left, right
    covered: tuple[str, ...] = ()
    yaw: float | None = None  # degrees, positive: to the right of the picture
    valence: float | None = None
    arousal: float | None = None

    @classmethod
    def of(cls, evidence: Evidence, brief: bool = False) -> "Sheet":
        return cls(evidence.action_units, evidence.probabilities, evidence.calibrated, evidence.abstained,
                   evidence.why, brief, evidence.notes, evidence.sides, evidence.covered,
                   evidence.pose[0] if evidence.pose else None, evidence.valence, evidence.arousal)  # fmt: skip

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.probabilities)

    @property
    def label(self) -> str:
        return max(self.probabilities, key=lambda label: self.probabilities[label])

    @property
    def confidence(self) -> float:
        return self.probabilities[self.label]

    @property
    def trust(self) -> str:
        """What the percentages are worth: calibrated, estimated, or not validated."""
        if any(note.startswith(NOT_VALIDATED) for note in self.notes):
            return NOT_VALIDATED
        return "calibrated" if self.calibrated else "estimated"

    @property
    def runner_up(self) -> str | None:
        """The second label if its probability is close to the first."""
        ranked = sorted(self.probabilities, key=lambda label: -self.probabilities[label])
        if len(ranked) < 2 or self.probabilities[ranked[1]] < CLOSE * self.confidence:
            return None
        return ranked[1]

    @property
    def visible(self) -> dict[str, str]:
        """Code -> band of each unit above the lowest threshold, strongest first."""
        ranked = sorted(self.units, key=lambda code: -self.units[code])
        return {code: name for code in ranked if (name := band(self.units[code]))}

    @property
    def sure(self) -> dict[str, str]:
        """Code -> band of the units that a text may name, strongest first."""
        return {code: name for code, name in self.visible.items() if self.units[code] >= SURE}

    @property
    def unclear(self) -> tuple[str, ...]:
        """Units that may be neither claimed nor denied, strongest first."""
        ranked = sorted(self.units, key=lambda code: -self.units[code])
        return tuple(code for code in ranked if ABSENT <= self.units[code] < SURE)

    @property
    def absent(self) -> tuple[str, ...]:
        """Units measured so low that their absence may be claimed; between the two thresholds nothing is said."""
        return tuple(code for code, intensity in self.units.items() if intensity < ABSENT)

    @property
    def at_rest(self) -> bool:
        """Whether the face may be called still: a neutral face, all of whose units may be called absent."""
        return len(self.absent) == len(self.units) and canonical(self.label) == "neutral"

    @property
    def named(self) -> tuple[Named, ...]:
        """The units that the observations name: sure ones, the strongest, no two opposites, from brow to jaw."""
        chosen: list[str] = []
        limit = BRIEFLY_NAMED if self.brief else MAX_NAMED
        for code in self.sure:
            if len(chosen) < limit and not set(opposites(code)).intersection(chosen):
                chosen.append(code)
        order = {code: i for i, code in enumerate(self.visible)}
        chosen.sort(key=lambda code: (REGIONS.index(ACTION_UNITS[code].region), order[code]))
        return tuple(Named(code, self.visible[code]) for code in chosen)

    def stronger_side(self, code: str) -> str | None:
        """ "left" or "right" of the person, if one side moves clearly more."""
        left, right = self.sides.get(code, (0.0, 0.0))
        if abs(left - right) < ONE_SIDED:
            return None
        return "left" if left > right else "right"


@dataclass(frozen=True)
class Placed:
    """A face of the conversation: its number, its place in the picture, and its sheet."""

    sheet: Sheet
    number: int = 1
    place: str = ""  # "left", "middle", "picture 2"; empty if it is alone


def place_in_row(at: int, of: int) -> str:
    """The place of a face among those of its picture, which are ordered from left to right."""
    if of == 1:
        return ""
    if at in (0, of - 1):
        return "right" if at else "left"
    return "middle" if of % 2 and at == of // 2 else f"number {at + 1} from the left"


def placed(sheets: Sequence[Sheet], separate: bool) -> tuple[Placed, ...]:
    """Faces of one picture from left to right or, if separate, each of a picture of its own."""
    n = len(sheets)
    places = [f"picture {i + 1}" if separate and n > 1 else place_in_row(i, n) for i in range(n)]
    return tuple(Placed(sheet, i + 1, place) for i, (sheet, place) in enumerate(zip(sheets, places, strict=True)))


def ranked(probabilities: Mapping[str, float]) -> Sequence[tuple[str, float]]:
    """Labels with their probabilities, best first."""
    return sorted(probabilities.items(), key=lambda pair: -pair[1])


@dataclass(frozen=True)
class Reasoned:
    """The language model's own distribution over the labels, made before it saw the evidence's distribution."""

    probabilities: dict[str, float]

    @property
    def label(self) -> str:
        return max(self.probabilities, key=lambda label: self.probabilities[label])
