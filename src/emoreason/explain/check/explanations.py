"""Compares an explanation with the measurements. Every explainer's texts go through the same checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emoreason.explain.read.claims import mentions
from emoreason.explain.read.sections import HEADINGS, parse, stated_label
from emoreason.explain.sheet import Sheet
from emoreason.knowledge.emotion_words import leaks
from emoreason.knowledge.facs import ACTION_UNITS


@dataclass(frozen=True)
class Checks:
    """The results for one text. `ok` means no problems; `problems()` lists them."""

    parsed: bool
    leaks: tuple[str, ...] = ()  # emotion and label words in the observations
    evidence_precision: float | None = None  # share of the mentions in the observations that match the evidence
    evidence_recall: float | None = None  # share of the units to name (Sheet.named) that the observations name
    band_errors: int = 0
    bands_stated: int = 0
    unsupported: tuple[str, ...] = ()  # units named but not visible, or denied but not measured as absent
    missing: tuple[str, ...] = ()  # units to name that the observations leave out
    label_agrees: bool | None = None  # None: the conclusion settles on none of the labels
    denied: tuple[str, ...] = ()  # units in `unsupported` because they are denied
    bands_wrong: tuple[tuple[str, str, str], ...] = ()  # unit, band in the text, measured band
    label: str | None = None  # the label that the conclusion should state; None: it should make no claim
    stated: str | None = None  # the label that it states

    @property
    def ok(self) -> bool:
        return not self.problems()

    def problems(self) -> list[str]:
        """The problems as plain sentences, for people and for the prompt that asks a model to repair the text."""
        if not self.parsed:
            return [
                "The text does not have the three sections, each once and in this order: "
                + ", ".join(f'"{heading}:"' for heading in HEADINGS)
                + "."
            ]
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
        if self.label is None:
            if self.stated is not None:
                found.append(f'The conclusion claims "{self.stated}", but the evidence makes no claim.')
        elif self.stated is None:
            found.append(
                f'The conclusion does not settle on one of the asked labels; the evidence says "{self.label}".'
            )
        elif self.stated != self.label:
            found.append(f'The conclusion says "{self.stated}", but the evidence says "{self.label}".')
        return found

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
        }


def check(text: str, sheet: Sheet) -> Checks:
    """Check an explanation of one face against its sheet."""
    sections = parse(text)
    if sections is None:
        return Checks(parsed=False, label=None if sheet.abstained else sheet.label)
    visible, absent = sheet.visible, set(sheet.absent)
    found = mentions(sections.observations)
    true = [m for m in found if (m.action_unit in visible if m.present else m.action_unit in absent)]
    false = [m for m in found if m not in true]
    affirmed = {m.action_unit for m in found if m.present}
    required = () if sheet.abstained else tuple(unit.code for unit in sheet.named)
    bands = [(m.action_unit, m.band, visible[m.action_unit]) for m in true if m.present and m.band]
    wrong = tuple(dict.fromkeys(entry for entry in bands if entry[1] != entry[2]))
    stated = stated_label(sections.conclusion, sheet.labels)
    return Checks(
        parsed=True,
        leaks=tuple(leaks(sections.observations, sheet.labels)),
        evidence_precision=len(true) / len(found) if found else None,
        evidence_recall=sum(code in affirmed for code in required) / len(required) if required else None,
        band_errors=sum(band != measured for _, band, measured in bands),
        bands_stated=len(bands),
        unsupported=tuple(dict.fromkeys(m.action_unit for m in false)),
        missing=tuple(code for code in required if code not in affirmed),
        label_agrees=stated is None if sheet.abstained else None if stated is None else stated == sheet.label,
        denied=tuple(dict.fromkeys(m.action_unit for m in false if not m.present)),
        bands_wrong=wrong,
        label=None if sheet.abstained else sheet.label,
        stated=stated,
    )


def _name(code: str) -> str:
    return f"{ACTION_UNITS[code].name} (AU {code})"
