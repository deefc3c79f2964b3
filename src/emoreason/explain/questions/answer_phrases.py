"""The building blocks of answers as grammar nodes: movements with bands, denials, reasons, numbers."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from emoreason.core.probabilities import percent
from emoreason.explain.sheet import Sheet, ranked
from emoreason.explain.write.grammar import Choice, Node, Sentence, Seq, choice, template, text
from emoreason.explain.write.phrases import cues, load_phrases, with_article
from emoreason.knowledge.emotions import canonical
from emoreason.knowledge.facs import ACTION_UNITS, opposites, prototypes_of, typical_units

DEGREES = 2  # the first two degree phrases of a band suit every movement
TELLING = (
    "12",
    "4",
    "1",
    "25",
    "5",
    "15",
    "24",
    "26",
    "2",
    "7",
    "14",
    "27",
    "43",
)  # units whose absence tells most, first
WHOLE = "the picture as a whole"

Slots = dict[str, Node | str]


def words() -> dict[str, Any]:
    return load_phrases("dialogue")


def options(sources: Sequence[str], slots: Slots) -> Node:
    nodes = [sentences(source, slots) for source in sources]
    return nodes[0] if len(nodes) == 1 else Choice(tuple(nodes))


def sentences(source: str, slots: Slots) -> Node:
    """A template of several sentences; `<slot>` stands for one or more whole sentences."""
    parts: list[Node] = []
    for sentence in re.findall(r"<\w+>|\S.*?[.!?](?=\s|$)", source):
        slot = slots.get(sentence.strip("<>"))
        parts.append(slot if isinstance(slot, Node) else Sentence(template(sentence[:-1], **slots), sentence[-1]))
    return Seq(tuple(parts))


def with_band(code: str, band: str) -> Node:
    adjectives = cues(code, band)["adjective"]
    return template("{band} {noun}", band=choice(*map(with_article, adjectives)), noun=words()["units"][code]["noun"])


def bare(code: str) -> Node:
    return template(words()["units"][code]["bare"])


def denied(code: str) -> Node:
    unit = words()["units"][code]
    return template("{subject} {are} not {state}", subject=unit["subject"], are=are(code), state=unit["state"])


def are(code: str) -> str:
    return "are" if words()["units"][code]["subject"].endswith("s") else "is"


def phrase(code: str, band: str) -> Node:
    band_words = cues(code, band)
    unit = words()["units"][code]
    unit = {**unit, **unit.get("seen", {})}
    are = "are" if unit["subject"].endswith("s") else "is"
    slots: Slots = {
        "subject": unit["subject"],
        "state": unit["state"],
        "are": are,
        "look": "look" if are == "are" else "looks",
        "adverb": choice(*band_words["adverb"]),
        "degree": choice(*band_words["degree"][:DEGREES]),
    }
    return choice(*(template(frame, **slots) for frame in words()["clauses"]))


def unit_slots(sheet: Sheet, code: str) -> Slots:
    unit = words()["units"][code]
    slots: Slots = {
        "code": text(f"AU {code}"),
        "the_unit": text(_with_the(ACTION_UNITS[code].name)),
        "subject": unit["subject"],
        "are": are(code),
        "state": unit["state"],
    }
    if band := sheet.visible.get(code):
        slots |= {"phrase": phrase(code, band), "band": "a trace" if band == "trace" else band}
    return slots


def _with_the(unit: str) -> str:
    """ "the brow lowerer", but "lips part": names that are sentences take no article."""
    return unit if unit.split()[0].endswith("s") else f"the {unit}"


def listed(nodes: Iterable[Node]) -> Node:
    """a, b and c"""
    *firsts, last = nodes
    parts: list[Node] = []
    for i, node in enumerate(firsts):
        parts += [text(","), node] if i else [node]
    return Seq((*parts, *([text("and")] if firsts else []), last))


@dataclass(frozen=True)
class FaceFacts:
    """The facts about a face that answers may use, most telling first."""

    sheet: Sheet

    @cached_property
    def common(self) -> Slots:
        second, share = self.second
        return {
            "label": text(self.sheet.label),
            "percent": text(percent(self.sheet.confidence)),
            "second": text(second),
            "second_percent": text(percent(share)),
            "choices": listed(text(label) for label in self.sheet.labels),
        }

    @property
    def second(self) -> tuple[str, float]:
        order = ranked(self.sheet.probabilities)
        return order[min(1, len(order) - 1)]

    @property
    def rests(self) -> bool:
        return canonical(self.sheet.label) == "neutral"

    @cached_property
    def shown(self) -> list[str]:
        """Visible units, strongest first, without pairs of opposites."""
        return no_opposites(self.sheet.visible)

    def support(self, label: str) -> list[str]:
        """Shown units that belong to a published prototype of the label."""
        known = typical_units(label)
        return [code for code in self.shown if code in known]

    def missing(self, label: str) -> list[str]:
        """Units of the prototype nearest to this face that were measured as absent."""
        nearest = self._nearest(label)
        return [code for code in nearest if code in self.sheet.absent]

    def _nearest(self, label: str) -> list[str]:
        def distance(codes: list[str]) -> tuple[float, int]:
            return sum(code not in self.sheet.visible for code in codes) / len(codes), -len(codes)

        measured = [
            [code for code in prototype.units if code in self.sheet.units] for prototype in prototypes_of(label)
        ]
        return min((codes for codes in measured if codes), key=distance, default=[])

    def contrary(self, label: str) -> list[str]:
        """Shown units that belong to other labels of the sheet and not to this one."""
        own = typical_units(label)
        others = {code for rival in self.sheet.labels if rival != label for code in typical_units(rival)}
        return [code for code in self.shown if code not in own and code in others]

    def units(self, codes: Iterable[str], limit: int = 2) -> Node:
        return listed(with_band(code, self.sheet.visible[code]) for code in list(codes)[:limit])

    def phrase(self, code: str) -> Node:
        return phrase(code, self.sheet.visible[code])

    @property
    def absent(self) -> list[str]:
        codes = self.sheet.absent
        return [code for code in TELLING if code in codes] + [code for code in codes if code not in TELLING]

    def denial(self, codes: Sequence[str]) -> Node:
        """One or two of the absent units, denied."""
        pairs = [codes[:2], codes[:1], codes[1:3]] if len(codes) > 2 else [codes]
        return choice(*(listed(denied(code) for code in pair) for pair in pairs))

    @property
    def grounds(self) -> Node:
        """The reason for the label, in a few words."""
        shown = self.support(self.sheet.label)
        if shown:
            return self.units(shown)
        if self.rests and not self.sheet.visible:
            return text("a face near its rest")
        if self.sheet.visible and not self.rests:
            return Seq((text(WHOLE), text("and"), self.units(self.shown, 1)))
        return text(WHOLE)


def no_opposites(codes: Iterable[str]) -> list[str]:
    chosen: list[str] = []
    for code in codes:
        if not set(opposites(code)).intersection(chosen):
            chosen.append(code)
    return chosen
