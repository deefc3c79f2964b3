"""Whether an answer to a follow-up question stays inside the evidence: rules that read any system's words.

The answer is read sentence by sentence. What is said of this face must be true to the sheet: every movement with its
band, every percentage, every label. A sentence that speaks of what one would expect or of what a code means says nothing
of this face; it may name the movements of the labels and of the unit in question only. Then come the duties of each kind.
"""

import re
from collections.abc import Sequence

from emoreason.core.probabilities import percent
from emoreason.explain.check.answer_requirements import DUTIES, no_duty
from emoreason.explain.check.answer_text import GENERAL, PERCENT, SENTENCE, movements
from emoreason.explain.questions.understand import POLICY_KINDS, Intent, settle
from emoreason.explain.read.claims import Mention, leaks
from emoreason.explain.read.sections import stated_label
from emoreason.explain.sheet import Reasoned, Sheet, ranked
from emoreason.knowledge.emotions import canonical
from emoreason.knowledge.facs import typical_units

MAX_WORDS = 60  # words
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
    """What is wrong with the answer, in plain sentences; nothing when it is inside the evidence."""
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
    return problems + DUTIES.get(question.kind, no_duty)(text, question, sheet, other)


def _face_of(sentence: str, sheet: Sheet, other: Sheet | None) -> Sheet | None:
    """The face a sentence speaks of; None when it may be either."""
    if other is None:
        return sheet
    first, second = (re.search(rf"\b{word}\b", sentence, re.I) for word in ("first", "second"))
    if bool(first) == bool(second):
        return None if first else sheet
    return sheet if first else other


# What is said of any face. -------------------------------------------------------------------------------------------


def _movements(sentence: str, question: Intent, face: Sheet | None, faces: Sequence[Sheet]) -> list[str]:
    found = [said for said in movements(sentence, faces) if not said.text.isdigit()]
    if GENERAL.search(sentence):
        return _expected(sentence, found, question, faces[0])
    problems = _codes(sentence, faces)
    for said in found:
        if not any(_true(said, candidate) for candidate in ([face] if face else faces)):
            problems.append(f"{said.text!r} is not what was measured (AU {said.action_unit})")
    return problems


def _codes(sentence: str, faces: Sequence[Sheet]) -> list[str]:
    """Units that are named by their code, and what the sentence says of them."""
    problems = []
    for code in re.findall(r"\bAU ?(\d+)\b", sentence):
        if _UNMEASURED.search(sentence):
            true = all(code not in face.units for face in faces)
        elif _GONE.search(sentence):
            true = any(code in face.units and code not in face.visible for face in faces)
        else:
            true = not _SEEN.search(sentence) or any(code in face.visible for face in faces)
        problems += [] if true else [f"what is said of AU {code} is not what was measured"]
    return problems


def _true(said: Mention, sheet: Sheet) -> bool:
    if said.action_unit not in sheet.units:
        return False
    measured = sheet.visible.get(said.action_unit)
    if not said.present:
        return measured is None
    return measured is not None and said.band in (None, measured)


def _expected(sentence: str, found: list[Mention], question: Intent, sheet: Sheet) -> list[str]:
    """What one would expect: movements of the labels in question; and if it says that they are not there, they are not."""
    allowed = set(sheet.visible) | {question.unit}
    for label in (*sheet.labels, question.label or ""):
        if re.search(rf"\b{re.escape(label)}\b", sentence, re.I) or label in (question.label, sheet.label):
            allowed |= typical_units(label)
    if question.kind == "what_would_change" and question.label is None:
        allowed |= typical_units(ranked(sheet.probabilities)[min(1, len(sheet.labels) - 1)][0])
    problems = [f"{said.text!r} belongs to none of the labels" for said in found if said.action_unit not in allowed]
    gone = _GONE.search(sentence)
    if gone and question.kind != "unit_meaning":
        before = [said for said in found if said.end <= gone.start() and said.present]
        problems += [f"{said.text!r} is there" for said in before if said.action_unit in sheet.visible]
    return problems


def _labels(sentence: str, question: Intent, face: Sheet | None, reasoned: Reasoned | None) -> list[str]:
    """A label other than the evidence's may be weighed, not claimed."""
    if face is None or GENERAL.search(sentence) or question.kind == "label_meaning":
        return []
    said = stated_label(sentence, face.labels)
    if said in (None, face.label) or (reasoned and said == reasoned.label and question.kind == "two_readings"):
        return []
    claimed = re.search(rf"{_CLAIM}\b{re.escape(said)}\b", sentence, re.I)
    if _WEIGHED.search(sentence) and (not claimed or re.search(r"\b(next|nearest|second)\b", sentence, re.I)):
        return []
    return [f"{said!r} is claimed and the evidence says {face.label!r}"]


def _percentages(text: str, sheet: Sheet, other: Sheet | None, reasoned: Reasoned | None) -> list[str]:
    given = [dict(sheet.probabilities), dict(other.probabilities) if other else {}]
    given.append(dict(reasoned.probabilities) if reasoned else {})
    given.append({} if other is None else {reason: float(reason) / 100 for reason in PERCENT.findall(other.why)})
    problems = []
    for match in PERCENT.finditer(text):
        value = float(match[1])
        if not any(abs(100 * p - value) <= 1 for distribution in given for p in distribution.values()):
            problems.append(f"{match[0]} is no probability of this face")
    for label, p in sheet.probabilities.items() if other is None and reasoned is None else ():
        name = re.escape(label)
        tied = rf"\b{name}\b,? (?:only )?(?:has|with|at|gets|comes to|stands at|reaches|keeps)(?: only)? (?:\w+ than )?(\d+)%"
        for match in re.finditer(rf"{tied}|(\d+)% for {name}\b", text, re.I):
            if abs(100 * p - float(match[1] or match[2])) > 1:
                problems.append(f"{match[0]!r}: {label} has {percent(p)}")
    return problems


def _speaks_of_no_face(text: str, question: Intent, sheet: Sheet) -> list[str]:
    """A policy answer, or one about the system, claims nothing of this face."""
    problems = [f"{word!r} is a claim on this face" for word in leaks(text, _emotional(sheet))]
    problems += [f"{match[0]} is a claim on this face" for match in PERCENT.finditer(text)]
    problems += [f"{said.text!r} is a claim on this face" for said in movements(text, (sheet,))]
    if question.kind in POLICY_KINDS and not _REFUSES.search(text):
        problems.append("the answer does not say that this is out of bounds")
    return problems


def _emotional(sheet: Sheet) -> list[str]:
    """Labels that are emotion words: a label such as "work" also stands in sentences that claim nothing."""
    return [label for label in sheet.labels if canonical(label) is not None]


def _claims_nothing(text: str, sheet: Sheet, other: Sheet | None) -> list[str]:
    why = re.sub(r"\W+", " ", sheet.why).strip()
    said = re.sub(r"\W+", " ", text)
    problems = [] if not why or why.casefold() in said.casefold() else ["the answer does not say what is missing"]
    problems += [f"{word!r} is a claim on a face that was not read" for word in leaks(text, _emotional(sheet))]
    problems += [f"{found.text!r} is a claim on a face that was not read" for found in movements(text, (sheet,))]
    reasons = [face.why for face in (sheet, other) if face is not None and face.abstained]
    told = {match[0] for why in reasons for match in PERCENT.finditer(why)}
    problems += [f"{match[0]} is a claim" for match in PERCENT.finditer(text) if match[0] not in told]
    return problems
