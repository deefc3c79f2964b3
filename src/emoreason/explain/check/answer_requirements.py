"""Checks that an answer responds to its kind of question. Whether it is true is checked in `answers`."""

import re

from emoreason.explain.check.answer_text import AFFIRMS, DENIES, GENERAL, PERCENT, SENTENCE, movements
from emoreason.explain.questions.understand import Intent
from emoreason.explain.sheet import Sheet, ranked
from emoreason.knowledge.emotions import canonical
from emoreason.knowledge.facs import ACTION_UNITS


def no_requirement(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    return []


def _mentions_label(text: str, label: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text, re.I) is not None


def _require(condition: bool, problem: str) -> list[str]:
    return [] if condition else [problem]


def _evidence(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    named = any(mention.present for mention in movements(text, (sheet,)))
    return _require(named or not sheet.visible or canonical(sheet.label) == "neutral", "no movement is named")


def _hypothesis(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    label = question.label
    return _require(label is None or _mentions_label(text, label), f"{label} is not spoken of")


def _yes_or_no(text: str, expected: bool) -> list[str]:
    found = "yes" if AFFIRMS.match(text) else "no" if DENIES.match(text) else None
    required = "yes" if expected else "no"
    return _require(found == required, f"the answer must begin with {required.capitalize()}")


def _is_it(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    if question.label not in sheet.probabilities:
        return _require(not AFFIRMS.match(text), f"{question.label} was not asked for")
    return _yes_or_no(text, question.label == sheet.label)


def _insist(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    """The answer keeps the evidence's label, and agrees only with users who claim that label."""
    problems = _require(_mentions_label(text, sheet.label), f"the label {sheet.label} is not kept")
    if question.label != sheet.label:
        problems += _require(not AFFIRMS.match(text), "the answer gives in")
    return problems


def _probability(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    p = sheet.probabilities.get(question.label or "")
    if p is None:
        return _hypothesis(text, question, sheet, other)
    stated = any(abs(float(match[1]) - 100 * p) <= 1 for match in PERCENT.finditer(text))
    return _require(stated, f"the probability of {question.label} is not given")


def _confidence(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    stated = any(abs(float(match[1]) - 100 * sheet.confidence) <= 1 for match in PERCENT.finditer(text))
    return _require(stated, "the confidence is not given")


def _second(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    order = ranked(sheet.probabilities)
    second = order[min(1, len(order) - 1)][1]
    named = any(_mentions_label(text, label) for label, p in order[1:] if p == second)
    return _require(named or len(order) < 2, "no second label")


def _meaning(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    code = question.unit
    if code not in ACTION_UNITS:
        return []
    problems = _require(
        _mentions_label(text, ACTION_UNITS[code].name) or re.search(rf"\bAU ?{code}\b", text) is not None,
        f"AU {code} is not named",
    )
    statements = [part for part in SENTENCE.findall(text) if not GENERAL.search(part)]
    denied = any(
        re.search(r"\bnot (seen|visible|measured)|absent|does not (show|measure)", part) for part in statements
    )
    affirmed = any(m.present and m.action_unit == code for part in statements for m in movements(part, (sheet,)))
    if code in sheet.visible and not sheet.abstained:
        problems += _require(not denied, f"AU {code} is visible")
    else:
        problems += _require(not affirmed, f"AU {code} is not visible")
    return problems


def _presence(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    code = question.unit
    if code not in sheet.units:
        return _require(not AFFIRMS.match(text) and not DENIES.match(text), "it was not measured: neither Yes nor No")
    if code not in sheet.visible and code not in sheet.absent:
        return _require(not AFFIRMS.match(text) and not DENIES.match(text), "it is undecided: neither Yes nor No")
    return _yes_or_no(text, (code in sheet.visible) != question.negated)


def _region(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    regions = {"mouth": ("mouth", "jaw")}.get(question.region or "", (question.region,))
    visible = [code for code in sheet.visible if ACTION_UNITS[code].region in regions]
    named = any(m.present and m.action_unit in visible for m in movements(text, (sheet,)))
    return _require(named or not visible, f"what shows at the {question.region} is not named")


def _strongest(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    strongest = next(iter(sheet.visible), None)
    named = [m.action_unit for m in movements(text, (sheet,)) if m.present]
    return _require(strongest is None or strongest in named, "the strongest movement is not named")


def _absent(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    denied = any(not m.present for m in movements(text, (sheet,)))
    return _require(denied or not sheet.absent, "nothing is said to be absent")


def _compare(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    if other is None:
        return _require(
            re.search(r"\b(one|single|no (second|other))\b", text, re.I) is not None, "there is one face only"
        )
    if other.abstained:
        return []
    return _require(
        _mentions_label(text, sheet.label) and _mentions_label(text, other.label), "both labels must be named"
    )


def _named_label(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    return _require(_mentions_label(text, sheet.label), f"the label {sheet.label} is not named")


REQUIREMENTS = {
    "evidence_for": _evidence,
    "describe_again": _evidence,
    "against": _named_label,
    "what_would_change": _hypothesis,
    "why_not": _hypothesis,
    "label_meaning": _hypothesis,
    "is_it": _is_it,
    "insist": _insist,
    "how_likely": _probability,
    "how_sure": _confidence,
    "second_best": _second,
    "unit_meaning": _meaning,
    "unit_present": _presence,
    "region": _region,
    "strongest": _strongest,
    "absent": _absent,
    "compare": _compare,
    "two_readings": _named_label,
}
