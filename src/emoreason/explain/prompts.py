"""The words around the model's words: prompts/explainer.yaml filled from the sheet, in the order of the three steps."""

import hashlib
from dataclasses import dataclass
from functools import cache

from emoreason.core.resources import resource
from emoreason.explain.sheet import Sheet, ranked

SHOWN_LABELS = 3  # the distribution's head; the rest is small and costs time
MIN_SHOWN = 0.02


@dataclass(frozen=True)
class Prompts:
    """Every prompt of prompts/explainer.yaml."""

    sheet: str
    no_units: str
    observations: str
    verdict: str
    evidence: str
    uncalibrated: str
    interpretation: str
    conclusion: str
    other_face: str
    question: str
    answer: str
    id: str

    def opening(self, sheet: Sheet | None) -> str:
        """What stands before the observations: movements, and no label. Without a sheet only the picture speaks."""
        return (self.measured_units(sheet) if sheet is not None else "") + self.observations

    def measured_units(self, sheet: Sheet) -> str:
        """Only what is seen: what is not listed is absent, and a list of it would double the prompt."""
        return self.sheet.format(units=self._named(sheet))

    def disclosure(self, sheet: Sheet) -> str:
        """What is shown after the model's own verdict."""
        calibration = "" if sheet.calibrated else self.uncalibrated
        return self.evidence.format(labels=_labels(sheet), calibration=calibration)

    def turn(self, question: str, other: Sheet | None = None) -> str:
        """A follow-up question, with the second face where it is about two."""
        beside = self.other_face.format(units=self._named(other), labels=_labels(other)) if other else ""
        return beside + self.question.format(question=" ".join(question.split())) + self.answer

    def _named(self, sheet: Sheet) -> str:
        return ", ".join(f"{unit.band} {unit.name}" for unit in sheet.named) or self.no_units


def _labels(sheet: Sheet) -> str:
    told = [(label, p) for label, p in ranked(sheet.probabilities)[:SHOWN_LABELS] if p >= MIN_SHOWN]
    # not core.probabilities.percent: the adapter was trained on prompts with these very digits
    return ", ".join(f"{label} {p:.0%}" for label, p in told)


@cache
def load_prompts() -> Prompts:
    import yaml

    written = resource("prompts/explainer.yaml").read_text(encoding="utf-8")
    fields = yaml.safe_load(written)
    fields.pop("version")
    return Prompts(**fields, id=hashlib.sha256(written.encode()).hexdigest()[:12])
