"""What an answer owes to each kind of question, beside being true."""

import re

from emoreason.explain.check.answer_text import AFFIRMS, DENIES, GENERAL, PERCENT, SENTENCE, movements
from emoreason.explain.questions.understand import Intent
from emoreason.explain.sheet import Sheet, ranked
from emoreason.knowledge.emotions import canonical
from emoreason.knowledge.facs import ACTION_UNITS


def no_duty(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    return []


def _says(text: str, label: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text, re.I) is not None


def _owes(condition: bool, what: str) -> list[str]:
    return [] if condition else [what]


def _evidence(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    shown = any(said.present for said in movements(text, (sheet,)))
    return _owes(shown or not sheet.visible or canonical(sheet.label) == "neutral", "no movement is named")


def _hypothesis(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    asked = question.label
    return _owes(asked is None or _says(text, asked), f"{asked} is not spoken of")


def _yes_or_no(text: str, expected: bool) -> list[str]:
    said = "yes" if AFFIRMS.match(text) else "no" if DENIES.match(text) else None
    wanted = "yes" if expected else "no"
    return _owes(said == wanted, f"the answer must begin with {wanted.capitalize()}")


def _is_it(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    if question.label not in sheet.probabilities:
        return _owes(not AFFIRMS.match(text), f"{question.label} was not asked for")
    return _yes_or_no(text, question.label == sheet.label)


def _insist(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    """Not obeyed: the label stays, and agreement is for those who claim the label itself."""
    problems = _owes(_says(text, sheet.label), f"the label {sheet.label} is not kept")
    if question.label != sheet.label:
        problems += _owes(not AFFIRMS.match(text), "the answer gives in")
    return problems


def _probability(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    p = sheet.probabilities.get(question.label or "")
    if p is None:
        return _hypothesis(text, question, sheet, other)
    near = [match for match in PERCENT.finditer(text) if abs(float(match[1]) - 100 * p) <= 1]
    return _owes(bool(near), f"the probability of {question.label} is not given")


def _confidence(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    near = [match for match in PERCENT.finditer(text) if abs(float(match[1]) - 100 * sheet.confidence) <= 1]
    return _owes(bool(near), "the confidence is not given")


def _second(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    best = ranked(sheet.probabilities)
    level = best[min(1, len(best) - 1)][1]
    return _owes(any(_says(text, label) for label, p in best[1:] if p == level) or len(best) < 2, "no second label")


def _meaning(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    code = question.unit
    if code not in ACTION_UNITS:
        return []
    problems = _owes(
        _says(text, ACTION_UNITS[code].name) or re.search(rf"\bAU ?{code}\b", text) is not None,
        f"AU {code} is not named",
    )
    statements = [part for part in SENTENCE.findall(text) if not GENERAL.search(part)]
    denied = any(
        re.search(r"\bnot (seen|visible|measured)|absent|does not (show|measure)", part) for part in statements
    )
    seen = any(said.present and said.action_unit == code for part in statements for said in movements(part, (sheet,)))
    if code in sheet.visible and not sheet.abstained:
        problems += _owes(not denied, f"AU {code} is visible")
    else:
        problems += _owes(not seen, f"AU {code} is not visible")
    return problems


def _presence(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    code = question.unit
    if code not in sheet.units:
        return _owes(not AFFIRMS.match(text) and not DENIES.match(text), "it was not measured: neither Yes nor No")
    return _yes_or_no(text, (code in sheet.visible) != question.negated)


def _region(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    within = {"mouth": ("mouth", "jaw")}.get(question.region or "", (question.region,))
    shown = [code for code in sheet.visible if ACTION_UNITS[code].region in within]
    named = [said for said in movements(text, (sheet,)) if said.present and said.action_unit in shown]
    return _owes(bool(named) or not shown, f"what shows at the {question.region} is not named")


def _strongest(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    top = next(iter(sheet.visible), None)
    named = [said.action_unit for said in movements(text, (sheet,)) if said.present]
    return _owes(top is None or top in named, "the strongest movement is not named")


def _absent(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    denied = [said for said in movements(text, (sheet,)) if not said.present]
    return _owes(bool(denied) or not sheet.absent, "nothing is said to be absent")


def _compare(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    if other is None:
        return _owes(re.search(r"\b(one|single|no (second|other))\b", text, re.I) is not None, "there is one face only")
    if other.abstained:
        return []
    return _owes(_says(text, sheet.label) and _says(text, other.label), "both labels must be named")


def _named_label(text: str, question: Intent, sheet: Sheet, other: Sheet | None) -> list[str]:
    return _owes(_says(text, sheet.label), f"the label {sheet.label} is not named")


DUTIES = {
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
