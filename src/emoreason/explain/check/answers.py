"""Checks that an answer to a follow-up question agrees with the evidence. The rules work for any system's answers.

Every statement about this face must match the sheet: each movement with its band, each percentage, each label. Sentences
about what one would expect, or about what a code means, are general; they may name only the movements of the labels and
of the unit in question. Finally, `answer_requirements` checks what this kind of question requires.
"""

import re
from collections.abc import Sequence

from emoreason.core.probabilities import percent
from emoreason.explain.check.answer_requirements import REQUIREMENTS, no_requirement
from emoreason.explain.check.answer_text import GENERAL, PERCENT, SENTENCE, movements
from emoreason.explain.questions.understand import POLICY_KINDS, Intent, settle
from emoreason.explain.read.claims import Mention
from emoreason.explain.read.sections import stated_label
from emoreason.explain.sheet import Reasoned, Sheet, ranked
from emoreason.knowledge.emotion_words import leaks
from emoreason.knowledge.emotions import canonical
from emoreason.knowledge.facs import typical_units

MAX_WORDS = 60
_GONE = re.compile(
    r"\b(not (seen|there|visible|found|active)|missing|below the|(does|do) not show|absent|lacking|is not (seen|there))\b",
    re.I,
)
_UNMEASURED = re.compile(r"\bnot (among|measured)|(does|do) not measure", re.I)
_SEEN = re.compile(r"\b(visible|active|present|seen|measured|shows|counts)\b", re.I)
_CLAIM = r"\b(?:expression|face|she|he|this|that|it|label|answer) (?:is|shows|looks|seems|appears|reads as|stays|fits) [\w ]*?"
_WEIGHED = re.compile(
    r"\b(second|next|nearest|after|share|remains|runner-up|behind|rivals?|alternative|against|less|not among|was not|leans? to|stands? at|has|have|had|gets?|comes to"
    r"|gives?|doubt|gain|would|could|for)\b",
    re.I,
)
_REFUSES = re.compile(
    r"\b(not|no|never|nothing|cannot|can't|don't|won't|prohibit\w*|only the person|ruled out)\b", re.I
)


def check_answer(
    text: str, question: Intent, sheet: Sheet, other: Sheet | None = None, reasoned: Reasoned | None = None
) -> list[str]:
    """The problems of an answer, in plain sentences; empty if it agrees with the evidence."""
    question = settle(question, sheet)
    problems = [] if 3 <= len(text.split()) <= MAX_WORDS else [f"an answer has 3 to {MAX_WORDS} words"]
    if question.kind in (*POLICY_KINDS, "other", "method"):
        return problems + _speaks_of_no_face(text, question, sheet)
    if question.kind != "compare":
        other = None
    general = question.kind in ("unit_meaning", "label_meaning")
    if sheet.abstained and not general:
        return problems + _claims_nothing(text, sheet, other)
    faces = (sheet, other) if other is not None else (sheet,)
    for sentence in SENTENCE.findall(text):
        face = _face_of(sentence, sheet, other)
        problems += _movements(sentence, question, face, faces)
        problems += _labels(sentence, question, face, reasoned)
    problems += _percentages(text, sheet, other, reasoned)
    return problems + REQUIREMENTS.get(question.kind, no_requirement)(text, question, sheet, other)


def _face_of(sentence: str, sheet: Sheet, other: Sheet | None) -> Sheet | None:
    """The face that a sentence is about; None if it may be either."""
    if other is None:
        return sheet
    first, second = (re.search(rf"\b{word}\b", sentence, re.I) for word in ("first", "second"))
    if bool(first) == bool(second):
        return None if first else sheet
    return sheet if first else other


# ---- statements about a face -----------------------------------------------------------------------------------------


def _movements(sentence: str, question: Intent, face: Sheet | None, faces: Sequence[Sheet]) -> list[str]:
    found = [mention for mention in movements(sentence, faces) if not mention.text.isdigit()]
    if GENERAL.search(sentence):
        return _expected(sentence, found, question, faces[0])
    problems = _codes(sentence, faces)
    for mention in found:
        if not any(_matches(mention, candidate) for candidate in ([face] if face else faces)):
            problems.append(f"{mention.text!r} is not what was measured (AU {mention.action_unit})")
    return problems


def _codes(sentence: str, faces: Sequence[Sheet]) -> list[str]:
    """Check the units that a sentence names by their code."""
    problems = []
    for code in re.findall(r"\bAU ?(\d+)\b", sentence):
        if _UNMEASURED.search(sentence):
            true = all(code not in face.units for face in faces)
        elif _GONE.search(sentence):
            true = any(code in face.absent for face in faces)
        else:
            true = not _SEEN.search(sentence) or any(code in face.visible for face in faces)
        problems += [] if true else [f"what is said of AU {code} is not what was measured"]
    return problems


def _matches(mention: Mention, sheet: Sheet) -> bool:
    if mention.action_unit not in sheet.units:
        return False
    measured = sheet.visible.get(mention.action_unit)
    if not mention.present:
        return mention.action_unit in sheet.absent
    return measured is not None and mention.band in (None, measured)


def _expected(sentence: str, found: list[Mention], question: Intent, sheet: Sheet) -> list[str]:
    """Check a general sentence: it may name only movements of the labels in question, and call only absent ones missing."""
    allowed = set(sheet.visible) | {question.unit}
    for label in (*sheet.labels, question.label or ""):
        if re.search(rf"\b{re.escape(label)}\b", sentence, re.I) or label in (question.label, sheet.label):
            allowed |= typical_units(label)
    if question.kind == "what_would_change" and question.label is None:
        allowed |= typical_units(ranked(sheet.probabilities)[min(1, len(sheet.labels) - 1)][0])
    problems = [f"{m.text!r} belongs to none of the labels" for m in found if m.action_unit not in allowed]
    gone = _GONE.search(sentence)
    if gone and question.kind != "unit_meaning":
        before = [m for m in found if m.end <= gone.start() and m.present]
        problems += [f"{m.text!r} is there" for m in before if m.action_unit in sheet.visible]
    return problems


def _labels(sentence: str, question: Intent, face: Sheet | None, reasoned: Reasoned | None) -> list[str]:
    """A sentence may weigh other labels than the evidence's, but not claim them."""
    if face is None or GENERAL.search(sentence) or question.kind == "label_meaning":
        return []
    stated = stated_label(sentence, face.labels)
    if stated in (None, face.label) or (reasoned and stated == reasoned.label and question.kind == "two_readings"):
        return []
    claimed = re.search(rf"{_CLAIM}\b{re.escape(stated)}\b", sentence, re.I)
    if _WEIGHED.search(sentence) and (not claimed or re.search(r"\b(next|nearest|second)\b", sentence, re.I)):
        return []
    return [f"{stated!r} is claimed and the evidence says {face.label!r}"]


def _percentages(text: str, sheet: Sheet, other: Sheet | None, reasoned: Reasoned | None) -> list[str]:
    distributions = [dict(sheet.probabilities), dict(other.probabilities) if other else {}]
    distributions.append(dict(reasoned.probabilities) if reasoned else {})
    distributions.append(
        {} if other is None else {reason: float(reason) / 100 for reason in PERCENT.findall(other.why)}
    )
    problems = []
    for match in PERCENT.finditer(text):
        value = float(match[1])
        if not any(abs(100 * p - value) <= 1 for distribution in distributions for p in distribution.values()):
            problems.append(f"{match[0]} is no probability of this face")
    for label, p in sheet.probabilities.items() if other is None and reasoned is None else ():
        name = re.escape(label)
        tied = rf"\b{name}\b,? (?:only )?(?:has|with|at|gets|comes to|stands at|reaches|keeps)(?: only)? (?:\w+ than )?(\d+)%"
        for match in re.finditer(rf"{tied}|(\d+)% for {name}\b", text, re.I):
            if abs(100 * p - float(match[1] or match[2])) > 1:
                problems.append(f"{match[0]!r}: {label} has {percent(p)}")
    return problems


def _speaks_of_no_face(text: str, question: Intent, sheet: Sheet) -> list[str]:
    """An answer about policy or about the system must claim nothing about this face."""
    problems = [f"{word!r} is a claim on this face" for word in leaks(text, _emotional(sheet))]
    problems += [f"{match[0]} is a claim on this face" for match in PERCENT.finditer(text)]
    problems += [f"{mention.text!r} is a claim on this face" for mention in movements(text, (sheet,))]
    if question.kind in POLICY_KINDS and not _REFUSES.search(text):
        problems.append("the answer does not say that this is out of bounds")
    return problems


def _emotional(sheet: Sheet) -> list[str]:
    """The labels that are emotion words; a label such as "work" also occurs in sentences that claim nothing."""
    return [label for label in sheet.labels if canonical(label) is not None]


def _claims_nothing(text: str, sheet: Sheet, other: Sheet | None) -> list[str]:
    """An answer about a face without a reading must give the reason and claim nothing."""
    why = re.sub(r"\W+", " ", sheet.why).strip()
    answer = re.sub(r"\W+", " ", text)
    problems = [] if not why or why.casefold() in answer.casefold() else ["the answer does not say what is missing"]
    problems += [f"{word!r} is a claim on a face that was not read" for word in leaks(text, _emotional(sheet))]
    problems += [f"{m.text!r} is a claim on a face that was not read" for m in movements(text, (sheet,))]
    reasons = [face.why for face in (sheet, other) if face is not None and face.abstained]
    allowed = {match[0] for why in reasons for match in PERCENT.finditer(why)}
    problems += [f"{match[0]} is a claim" for match in PERCENT.finditer(text) if match[0] not in allowed]
    return problems
