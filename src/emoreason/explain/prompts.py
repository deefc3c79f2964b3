"""The prompts of our own explainer: fills prompts/explainer.yaml from the sheet, in the order of the three steps."""

import hashlib
from dataclasses import dataclass
from functools import cache

from emoreason.core.resources import resource
from emoreason.explain.sheet import Sheet, ranked

SHOWN_LABELS = 3  # labels of the distribution that the prompt shows; the rest are small and cost time
MIN_SHOWN = 0.02


@dataclass(frozen=True)
class Prompts:
    """The prompts of prompts/explainer.yaml."""

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
        """The prompt for the observations: movements but no label. Without a sheet there is only the picture."""
        return (self.measured_units(sheet) if sheet is not None else "") + self.observations

    def measured_units(self, sheet: Sheet) -> str:
        """Lists only the visible units: listing the absent ones too would double the prompt."""
        return self.sheet.format(units=self._named(sheet))

    def disclosure(self, sheet: Sheet) -> str:
        """Shows the distribution, after the model has given its own verdict."""
        calibration = "" if sheet.calibrated else self.uncalibrated
        return self.evidence.format(labels=_labels(sheet), calibration=calibration)

    def turn(self, question: str, other: Sheet | None = None) -> str:
        """A follow-up question, with the second face if it is about two."""
        beside = self.other_face.format(units=self._named(other), labels=_labels(other)) if other else ""
        return beside + self.question.format(question=" ".join(question.split())) + self.answer

    def _named(self, sheet: Sheet) -> str:
        return ", ".join(f"{unit.band} {unit.name}" for unit in sheet.named) or self.no_units


def _labels(sheet: Sheet) -> str:
    shown = [(label, p) for label, p in ranked(sheet.probabilities)[:SHOWN_LABELS] if p >= MIN_SHOWN]
    # not core.probabilities.percent: the adapter was trained on prompts with this number format
    return ", ".join(f"{label} {p:.0%}" for label, p in shown)


@cache
def load_prompts() -> Prompts:
    import yaml

    source = resource("prompts/explainer.yaml").read_text(encoding="utf-8")
    fields = yaml.safe_load(source)
    fields.pop("version")
    return Prompts(**fields, id=hashlib.sha256(source.encode()).hexdigest()[:12])
