"""Compares an explanation with the measurements. Every explainer's texts go through the same checks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from emoreason.explain.check.statements import View, is_true, movements, problems_of
from emoreason.explain.read.sections import Sections, parse, stated_label
from emoreason.explain.sheet import Placed, Sheet
from emoreason.knowledge.emotion_words import leaks
from emoreason.knowledge.facs import ACTION_UNITS

MODEL, RETRIED, WRITTEN = "model", "retried", "written"  # which way a text came
MAX_WORDS = 70  # of one part of an explanation
_EXPRESSION = re.compile(r"\b(?:smil|frown|scowl|grin|grimac|pout|sneer|glar|smirk)\w*", re.I)
_PART = re.compile(r"\b(?:brows?|eyes?|lids?|cheeks?|nose|lips?|mouth|corners?|chin|jaw)\b", re.I)
INNER = re.compile(
    r"\b(?:(?:he|she|they|person|someone|who) (?:really |truly |is |are )*(?:feels?|felt|feeling|thinks?|thinking|wants?)|deep down|inside (?:he|she|they))\b",
    re.I,
)


@dataclass(frozen=True)
class Checks:
    """The results for one text. `ok` means no problems; `problems()` lists them."""

    parsed: bool
    leaks: tuple[str, ...] = ()  # emotion and label words in the observations
    evidence_precision: float | None = None  # share of the mentions in the observations that match the evidence
    evidence_recall: float | None = None  # share of the units to name (Sheet.named) that the observations name
    band_errors: int = 0
    bands_stated: int = 0
    unsupported: tuple[str, ...] = ()  # units named but not sure, or denied but not measured as absent
    missing: tuple[str, ...] = ()  # units to name that the observations leave out
    label_agrees: bool | None = None  # None: the conclusion settles on none of the labels
    denied: tuple[str, ...] = ()  # units in `unsupported` because they are denied
    bands_wrong: tuple[tuple[str, str, str], ...] = ()  # unit, band in the text, measured band
    label: str | None = None  # the label that the conclusion should state; None: it should make no claim
    stated: str | None = None  # the label that it states
    statements: tuple[str, ...] = ()  # what the other two sections say against the evidence
    route: str = MODEL

    @property
    def ok(self) -> bool:
        return not self.problems()

    def problems(self) -> list[str]:
        """The problems as plain sentences, for people and for the prompt that asks a model to repair the text."""
        if not self.parsed:
            return ["The text does not have the three sections, each once and in this order."]
        return [*self._of_observations(), *self._of_label(), *self.statements]

    def _of_observations(self) -> list[str]:
        found = []
        if self.leaks:
            words = ", ".join(f'"{word}"' for word in self.leaks)
            found.append(f"The observations use {words}: they must not name an emotion or a label, only what is seen.")
        for code in self.unsupported:
            if code in self.denied:
                found.append(f"The observations deny the {_name(code)}, which was not measured as absent.")
            else:
                found.append(f"The observations name the {_name(code)}, which was not measured above its threshold.")
        found += [f"The observations leave out the {_name(code)}, which was measured." for code in self.missing]
        found += [
            f"The observations call the {_name(code)} {said}, but it was measured as {measured}."
            for code, said, measured in self.bands_wrong
        ]
        return found

    def _of_label(self) -> list[str]:
        if self.label is None:
            claim = f'The conclusion claims "{self.stated}", but the evidence makes no claim.'
            return [claim] if self.stated is not None else []
        if self.stated is None:
            return [f'The conclusion does not settle on one of the asked labels; the evidence says "{self.label}".']
        if self.stated != self.label:
            return [f'The conclusion says "{self.stated}", but the evidence says "{self.label}".']
        return []

    def to_dict(self) -> dict[str, Any]:
        return {
            "parsed": self.parsed,
            "leaks": list(self.leaks),
            "evidence_precision": self.evidence_precision,
            "evidence_recall": self.evidence_recall,
            "band_errors": self.band_errors,
            "bands_stated": self.bands_stated,
            "unsupported": list(self.unsupported),
            "missing": list(self.missing),
            "label_agrees": self.label_agrees,
            "ok": self.ok,
            "problems": self.problems(),
            "route": self.route,
        }


def check(text: str, sheet: Sheet, route: str = MODEL) -> Checks:
    """Check the three sections of an explanation of one face against its sheet."""
    sections = parse(text)
    if sections is None:
        return Checks(parsed=False, label=None if sheet.abstained else sheet.label, route=route)
    return check_sections(sections, sheet, route)


def check_sections(sections: Sections, sheet: Sheet, route: str = MODEL) -> Checks:
    found = movements(sections.observations, [sheet])
    bare = [(m, m.action_unit in sheet.sure if m.present else m.action_unit in sheet.absent) for m in found]
    true = [m for m, borne_out in bare if borne_out]
    false = [m for m, borne_out in bare if not borne_out]
    affirmed = {m.action_unit for m in found if m.present}
    required = () if not sheet.units else tuple(unit.code for unit in sheet.named)
    stated_bands = [m for m in true if m.present and m.band]
    wrong = [(m.action_unit, m.band or "", sheet.sure[m.action_unit]) for m in stated_bands if not is_true(m, sheet)]
    stated = stated_label(sections.conclusion, sheet.labels)
    return Checks(
        parsed=True,
        leaks=tuple(dict.fromkeys(leaks(sections.observations, sheet.labels) + _EXPRESSION.findall(sections.observations))),
        evidence_precision=len(true) / len(found) if found else None,
        evidence_recall=sum(code in affirmed for code in required) / len(required) if required else None,
        band_errors=len(wrong),
        bands_stated=len(stated_bands),
        unsupported=tuple(dict.fromkeys(m.action_unit for m in false)),
        missing=tuple(code for code in required if code not in affirmed),
        label_agrees=stated is None if sheet.abstained else None if stated is None else stated == sheet.label,
        denied=tuple(dict.fromkeys(m.action_unit for m in false if not m.present)),
        bands_wrong=tuple(dict.fromkeys(wrong)),
        label=None if sheet.abstained else sheet.label,
        stated=stated,
        statements=tuple(part_problems(f"{sections.conclusion} {sections.interpretation}", sheet)),
        route=route,
    )  # fmt: skip


def seen_problems(text: str, sheet: Sheet) -> list[str]:
    """The problems of the observations alone, before there is a label."""
    checks = check_sections(Sections(text, "", sheet.label), sheet)
    return checks._of_observations() + _form(text)


def reading_problems(text: str, sheet: Sheet) -> list[str]:
    checks = check_sections(Sections("", "", text), sheet)
    problems = checks._of_label() + list(checks.statements) + _form(text)
    if _PART.search(text) and not movements(text, [sheet]):
        problems.append("the reading speaks of a part of the face, but not of what it does")
    return problems


def part_problems(text: str, sheet: Sheet) -> list[str]:
    """Statements against the evidence, and words about what a person feels."""
    found = problems_of(text, View([Placed(sheet)]))
    return found + [f"{match[0]!r} speaks of what is inside a person" for match in INNER.finditer(text)]


def weighing_problems(text: str, sheet: Sheet) -> list[str]:
    return part_problems(text, sheet) + _form(text)


def _form(text: str) -> list[str]:
    words = text.split()
    problems = [] if 1 <= len(words) <= MAX_WORDS else [f"the text has {len(words)} words"]
    if text and text[-1] not in ".!?":
        problems.append("the text breaks off")
    sentences = [part.strip().lower() for part in re.split(r"[.!?]", text) if part.strip()]
    return problems + (["a sentence is repeated"] if len(set(sentences)) < len(sentences) else [])


def _name(code: str) -> str:
    return f"{ACTION_UNITS[code].name} (AU {code})"
