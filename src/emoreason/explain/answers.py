"""Answers to follow-up questions about a face, as grammars that only hold what stands on its evidence sheet.

The words are in `prompts/dialogue.yaml`; here is decided which case holds for a face and what fills the slots.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from emoreason.emotions import canonical
from emoreason.explain.grammar import Choice, Node, Sentence, Seq, Text, choice, template, text
from emoreason.explain.questions import POLICY_KINDS, Question, settle
from emoreason.explain.sheet import CLOSE, Reasoned, Sheet, ranked
from emoreason.explain.words import book, with_article
from emoreason.facs import ACTION_UNITS, PROTOTYPES, REGIONS, opposites

TELLING = ("12", "4", "1", "25", "5", "15", "24", "26", "2", "7", "14", "27", "43")  # whose absence says most, first
OPEN = 0.25  # a claimed label with this probability, or a close second, is a matter on which readers may differ
ADJECTIVES, ADVERBS, DEGREES = 5, 5, 2  # how many words for a band are used: enough to vary
WHOLE = "the picture as a whole, without a single telling movement"
NO_REASON = "the face could not be read well enough"

Slots = dict[str, Node | str]
Case = tuple[str, Slots]


def words() -> dict[str, Any]:
    return book("dialogue")


def answer(question: Question, sheet: Sheet, reasoned: Reasoned | None = None, other: Sheet | None = None) -> Node:
    """Every answer that may be given: inside the evidence, with the label that the evidence gives."""
    question = settle(question, sheet)
    if question.kind in (*POLICY_KINDS, "other", "method"):
        count = text(str(len(sheet.units)) if sheet.units else "no")
        return _options(words()["answers"][question.kind], {"n_units": count})
    face = Face(sheet)
    if sheet.abstained and not (question.kind in ("unit_meaning", "label_meaning") and _named(question)):
        return _options(words()["answers"]["abstained"], {"why": _why(sheet)})
    if question.kind == "compare":
        case, slots = _compare(face, other)
    elif question.kind == "two_readings":
        case, slots = _two_readings(face, reasoned)
    else:
        case, slots = _CASES[question.kind](face, question)
    common = {} if sheet.abstained else face.common
    return _options(words()["answers"][question.kind][case], {**common, **slots})


def _named(question: Question) -> bool:
    return question.unit is not None or question.label is not None


def _why(sheet: Sheet) -> Node:
    return text((sheet.why.strip().rstrip(".") or NO_REASON).replace(": ", ", "))


def _options(sources: Sequence[str], slots: Slots) -> Node:
    nodes = [_sentences(source, slots) for source in sources]
    return nodes[0] if len(nodes) == 1 else Choice(tuple(nodes))


def _sentences(source: str, slots: Slots) -> Node:
    """A template of several sentences; `<slot>` stands for whole sentences."""
    parts: list[Node] = []
    for sentence in re.findall(r"<\w+>|\S.*?[.!?](?=\s|$)", source):
        whole = slots.get(sentence.strip("<>"))
        parts.append(whole if isinstance(whole, Node) else Sentence(template(sentence[:-1], **slots), sentence[-1]))
    return Seq(tuple(parts))


# How units are spoken of. --------------------------------------------------------------------------------------------


def _with_band(code: str, band: str) -> Node:
    adjectives = book("bands")[band]["adjective"][:ADJECTIVES]
    return template("{band} {noun}", band=choice(*map(with_article, adjectives)), noun=words()["units"][code]["noun"])


def _bare(code: str) -> Node:
    noun = words()["units"][code]["noun"]
    return choice(with_article(noun), words()["units"][code]["bare"])


def _denied(code: str) -> Node:
    unit = words()["units"][code]
    return template("{subject} {are} not {state}", subject=unit["subject"], are=_are(code), state=unit["state"])


def _are(code: str) -> str:
    return "are" if words()["units"][code]["subject"].endswith("s") else "is"


def _phrase(code: str, band: str) -> Node:
    cues = book("bands")[band]
    unit = words()["units"][code]
    unit = {**unit, **unit.get("seen", {})}
    are = "are" if unit["subject"].endswith("s") else "is"
    slots: Slots = {
        "subject": unit["subject"],
        "state": unit["state"],
        "are": are,
        "look": "look" if are == "are" else "looks",
        "adverb": choice(*[word for word in cues["adverb"] if word != "just"][:ADVERBS]),
        "degree": choice(*cues["degree"][:DEGREES]),
    }
    return choice(*(template(frame, **slots) for frame in words()["clauses"]))


def _list(nodes: Iterable[Node]) -> Node:
    """a, b and c"""
    *firsts, last = nodes
    parts: list[Node] = []
    for i, node in enumerate(firsts):
        parts += [text(","), node] if i else [node]
    return Seq((*parts, *([text("and")] if firsts else []), last))


@dataclass(frozen=True)
class Face:
    """What may be said about a face, in order of how telling it is."""

    sheet: Sheet

    @cached_property
    def common(self) -> Slots:
        second, share = self.second
        return {
            "label": text(self.sheet.label),
            "percent": percent(self.sheet.confidence),
            "second": text(second),
            "second_percent": percent(share),
            "choices": _list(text(label) for label in self.sheet.labels),
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
        """Visible units, strongest first: what may be named in one breath."""
        return _no_opposites(self.sheet.visible)

    def support(self, label: str) -> list[str]:
        """Shown units that a published prototype ties to the label."""
        known = _units_of(label)
        return [code for code in self.shown if code in known]

    def missing(self, label: str) -> list[str]:
        """Measured units of the prototype that comes nearest to this face, which it does not show."""
        nearest = self._nearest(label)
        return [code for code in nearest if code not in self.sheet.visible]

    def _nearest(self, label: str) -> list[str]:
        def distance(codes: list[str]) -> tuple[float, int]:
            return sum(code not in self.sheet.visible for code in codes) / len(codes), -len(codes)

        measured = [
            [code for code in prototype.units if code in self.sheet.units]
            for prototype in PROTOTYPES.get(canonical(label) or "", ())
        ]
        return min((codes for codes in measured if codes), key=distance, default=[])

    def contrary(self, label: str) -> list[str]:
        """Shown units that belong to other labels of the sheet and not to this one."""
        own = _units_of(label)
        others = {code for rival in self.sheet.labels if rival != label for code in _units_of(rival)}
        return [code for code in self.shown if code not in own and code in others]

    def units(self, codes: Iterable[str], most: int = 2) -> Node:
        return _list(_with_band(code, self.sheet.visible[code]) for code in list(codes)[:most])

    def phrase(self, code: str) -> Node:
        return _phrase(code, self.sheet.visible[code])

    @property
    def absent(self) -> list[str]:
        gone = self.sheet.absent
        return [code for code in TELLING if code in gone] + [code for code in gone if code not in TELLING]

    def denial(self, codes: Sequence[str]) -> Node:
        """One or two of the absent units, denied."""
        pairs = [codes[:2], codes[:1], codes[1:3]] if len(codes) > 2 else [codes]
        return choice(*(_list(_denied(code) for code in pair) for pair in pairs))

    @property
    def grounds(self) -> Node:
        """What the label rests on, in a few words."""
        shown = self.support(self.sheet.label)
        if shown:
            return self.units(shown)
        if self.rests and not self.sheet.visible:
            return text("a face near its rest")
        if self.sheet.visible and not self.rests:
            return Seq((text(WHOLE.split(",")[0]), text("and"), self.units(self.shown, 1)))
        return text(WHOLE)


def _no_opposites(codes: Iterable[str]) -> list[str]:
    chosen: list[str] = []
    for code in codes:
        if not set(opposites(code)).intersection(chosen):
            chosen.append(code)
    return chosen


def percent(probability: float) -> Node:
    if probability < 0.005:
        return text("less than 1%")
    return text("more than 99%" if probability > 0.995 else f"{round(100 * probability)}%")


@cache
def _units_of(label: str) -> frozenset[str]:
    prototypes = PROTOTYPES.get(canonical(label) or "", ())
    return frozenset(code for prototype in prototypes for code in (*prototype.units, *prototype.optional))


# Which case holds. ---------------------------------------------------------------------------------------------------


def _evidence_for(face: Face, question: Question) -> Case:
    sheet, support = face.sheet, face.support(face.sheet.label)
    if support:
        return "support", {"support": face.units(support), "clause": face.phrase(support[0])}
    if face.rests and face.absent:
        denial = face.denial(face.absent)
        if not sheet.visible:
            return "rest", {"denial": denial}
        return "rest_moves", {"denial": denial, "units": face.units(face.shown, 1)}
    if sheet.visible:
        return "other", {"units": face.units(face.shown)}
    return "nothing", {}


def _against(face: Face, question: Question) -> Case:
    label = face.sheet.label
    contrary, missing = face.contrary(label), face.missing(label)
    slots: Slots = {}
    if missing:
        slots["missing"] = _list(map(_bare, missing[:2]))
    if contrary:
        rivals = [r for r, _ in ranked(face.sheet.probabilities) if r != label and contrary[0] in _units_of(r)]
        slots |= {"contrary": face.units(contrary, 1), "rival": text(rivals[0])}
        slots["rival_percent"] = percent(face.sheet.probabilities[rivals[0]])
    if contrary and missing:
        return "both", slots
    return ("contrary" if contrary else "missing" if missing else "nothing"), slots


def _asked(face: Face, question: Question) -> tuple[str, Slots]:
    """The label of the question (the second best when it names none) and its slots."""
    asked = question.label or face.second[0]
    slots: Slots = {"asked": text(asked)}
    if asked in face.sheet.probabilities:
        slots["asked_percent"] = percent(face.sheet.probabilities[asked])
    return asked, slots


def _what_would_change(face: Face, question: Question) -> Case:
    asked, slots = _asked(face, question)
    if asked not in face.sheet.probabilities:
        return "unasked", slots
    if asked == face.sheet.label:
        return "same", slots
    own = _units_of(asked)
    contrary = [code for code in face.shown if code not in own]
    missing = face.missing(asked)
    if missing:
        slots["missing"] = _list(map(_bare, missing[:2]))
    if contrary:
        slots["contrary"] = _list(
            template("the {noun}", noun=words()["units"][code]["noun"]) for code in contrary[: 1 if missing else 2]
        )
    if canonical(asked) == "neutral" and contrary:
        return "rest", slots
    if missing and contrary:
        return "both", slots
    return ("missing" if missing else "contrary" if contrary and own else "whole"), slots


def _why_not(face: Face, question: Question) -> Case:
    asked, slots = _asked(face, question)
    if asked not in face.sheet.probabilities:
        return "unasked", slots
    if asked == face.sheet.label:
        return "same", slots
    if face.sheet.visible:
        slots["units"] = face.units(face.shown, 1)
    if canonical(asked) == "neutral" and face.sheet.visible:
        return "rest_moves", slots
    missing, support = face.missing(asked), face.support(asked)
    if missing:
        slots["missing"] = _list(map(_bare, missing[: 2 if face.shown else 3]))
        return ("missing" if face.shown else "missing_rest"), slots
    if support:
        slots["asked_support"] = face.units(support)
        return "present", slots
    return ("unmeasured" if _units_of(asked) else "whole"), slots


def _is_it(face: Face, question: Question) -> Case:
    asked, slots = _asked(face, question)
    slots["grounds"] = face.grounds
    if asked not in face.sheet.probabilities:
        return "unasked", slots
    if asked == face.sheet.label:
        return "same", slots
    return ("close" if _open(face, asked) else "other"), slots


def _open(face: Face, label: str) -> bool:
    return face.sheet.probabilities[label] >= min(OPEN, CLOSE * face.sheet.confidence)


def _insist(face: Face, question: Question) -> Case:
    if question.label is None:
        return "unnamed", {"grounds": face.grounds}
    case, slots = _is_it(face, question)
    return {"same": "agree", "other": "stay"}.get(case, case), slots


def _how_likely(face: Face, question: Question) -> Case:
    case, slots = _is_it(face, question)
    return ("other" if case == "close" else case), slots


def _how_sure(face: Face, question: Question) -> Case:
    limits = words()["sure"]
    slots: Slots = {"sure": next(said for low, said in limits if face.sheet.confidence >= low)}
    if not face.sheet.calibrated:
        return "uncalibrated", slots
    return ("close" if face.sheet.runner_up else "clear"), slots


def _second_best(face: Face, question: Question) -> Case:
    return ("close" if face.sheet.runner_up else "clear"), {}


def _unit_slots(face: Face, code: str) -> Slots:
    unit = words()["units"][code]
    slots: Slots = {
        "code": text(f"AU {code}"),
        "unit_name": text(ACTION_UNITS[code].name),
        "subject": unit["subject"],
        "are": _are(code),
        "state": unit["state"],
    }
    if band := face.sheet.visible.get(code):
        slots |= {"phrase": _phrase(code, band), "band": "a trace" if band == "trace" else band}
    return slots


def _unit_meaning(face: Face, question: Question) -> Case:
    if question.unit not in ACTION_UNITS:
        return "unknown", {}
    slots = _unit_slots(face, question.unit)
    if question.unit not in face.sheet.units:
        return "unmeasured", slots
    if face.sheet.abstained:
        return "general", slots
    return ("seen" if question.unit in face.sheet.visible else "unseen"), slots


def _unit_present(face: Face, question: Question) -> Case:
    if question.unit not in ACTION_UNITS:
        return "unknown", {}
    slots = _unit_slots(face, question.unit)
    if question.unit not in face.sheet.units:
        return "unmeasured", slots
    band = face.sheet.visible.get(question.unit)
    said = ("not_no" if question.negated else "yes") if band else ("not_yes" if question.negated else "no")
    return said + ("_trace" if band == "trace" else ""), slots


def _label_meaning(face: Face, question: Question) -> Case:
    asked, slots = _asked(face, question)
    if canonical(asked) == "neutral":
        return "rest", slots
    prototypes = PROTOTYPES.get(canonical(asked) or "", ())
    if not prototypes:
        return "whole", slots
    return "units", {**slots, "typical": _list(map(_bare, prototypes[0].units[:3]))}


def _region(face: Face, question: Question) -> Case:
    region = question.region or "mouth"
    within = ("mouth", "jaw") if region == "mouth" else (region,)  # who asks about the mouth means its opening too
    measured = [code for code in face.sheet.units if ACTION_UNITS[code].region in within]
    slots: Slots = {"region": text(region)}
    if not measured:
        places = {ACTION_UNITS[code].region for code in face.sheet.units}
        named = [text(place) for place in REGIONS if place in places]
        return "unmeasured", {**slots, "measured_regions": _list(named) if named else text("none of the others either")}
    shown = _no_opposites(code for code in face.sheet.visible if code in measured)
    if not shown:
        return "unseen", {**slots, "region_denial": face.denial([code for code in face.absent if code in measured])}
    return "seen", {**slots, "region_units": face.units(shown, 4), "region_phrase": face.units(shown, 4)}


def _strongest(face: Face, question: Question) -> Case:
    if not face.sheet.visible:
        return "nothing", {}
    code, band = next(iter(face.sheet.visible.items()))
    return "seen", {**_unit_slots(face, code), "strongest": _with_band(code, band)}


def _absent(face: Face, question: Question) -> Case:
    if not face.absent:
        return "nothing", {}
    return "some", {"denials": _list(map(_denied, face.absent[:3]))}


def _describe_again(face: Face, question: Question) -> Case:
    shown = [unit.code for unit in face.sheet.named]
    shown.sort(key=lambda code: -face.sheet.units[code])
    if shown:
        besides: Node = Text(())
        if len(shown) > 1:
            besides = Sentence(template("[besides|beyond that], there is {units}", units=face.units(shown[1:])))
        return "seen", {"units": face.units(shown, 3), "clause": face.phrase(shown[0]), "besides": besides}
    return ("rest", {"denial": face.denial(face.absent)}) if face.absent else ("nothing", {})


def _compare(face: Face, other: Sheet | None) -> Case:
    if other is None:
        return "alone", {}
    if other.abstained:
        return "abstained", {"why": _why(other)}
    sheets = (face.sheet, other)

    def shown(sheet: Sheet, against: Sheet) -> Node:
        """What sets a face apart from the other comes first."""
        codes = sorted(sheet.visible, key=lambda code: against.units.get(code, 0.0) - sheet.units[code])
        return Face(sheet).units(codes, 1) if codes else text("no movement above the threshold")

    return "faces", {
        "first": shown(*sheets),
        "second_units": shown(*reversed(sheets)),
        "other_label": text(other.label),
        "other_percent": percent(other.confidence),
    }


def _two_readings(face: Face, reasoned: Reasoned | None) -> Case:
    if reasoned is None:
        return "none", {}
    return ("agree" if reasoned.label == face.sheet.label else "differ"), {"reasoned": text(reasoned.label)}


_CASES: dict[str, Callable[[Face, Question], Case]] = {
    "evidence_for": _evidence_for,
    "against": _against,
    "what_would_change": _what_would_change,
    "why_not": _why_not,
    "is_it": _is_it,
    "insist": _insist,
    "how_likely": _how_likely,
    "how_sure": _how_sure,
    "second_best": _second_best,
    "unit_meaning": _unit_meaning,
    "unit_present": _unit_present,
    "label_meaning": _label_meaning,
    "region": _region,
    "strongest": _strongest,
    "absent": _absent,
    "describe_again": _describe_again,
}
