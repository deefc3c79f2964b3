"""Checks the answer to a question against the sheets of all faces in view."""

import re
from collections.abc import Sequence

from emoreason.explain.check.explanations import INNER
from emoreason.explain.check.policy import policy_kind
from emoreason.explain.check.response import begins_with, unanswered
from emoreason.explain.check.statements import GENERAL, PERCENT, View, movements, problems_of
from emoreason.explain.read.claims import Mention, mentions
from emoreason.explain.read.sections import stated_label
from emoreason.knowledge.emotion_words import leaks
from emoreason.knowledge.emotions import canonical

MAX_WORDS = 80
_POLAR = re.compile(
    r"^\W*(?:(?:so|and|but|ok|okay|hey|hi|well|um|please|wait|excuse me|sorry|tell me)\W+)*(?:is|are|isn't|aren't|does|do|doesn't|don't|did|has|have|would you say|am i|can you see|r)\b",
    re.I,
)
_REFUSES = re.compile(
    r"\b(?:not|no|never|nothing|cannot|can't|don't|doesn't|won't|isn't|aren't|couldn't|mustn't|shouldn't|only (?:he|she|they|the person)"
    r"|neither|hidden|closed to me|stays with|leave (?:it|that|looks)|beyond me|out of my|a program)\b|n't\b",
    re.I,
)
_NO_SUCH_FACE = re.compile(
    r"\b(?:only|just|single|no|not|nobody|cannot|can't|don't|didn't|isn't|aren't|wasn't|couldn't|nothing)\b|n't\b", re.I
)
_ATTRIBUTE = re.compile(
    r"\b(?:he|she|this|(?<!\w)it|face|person|man|woman|they)(?:'s| is| are| looks?| seems?) (?:about |around |clearly |probably |quite |very )*(?:\d+ years|young|old|pretty|beautiful"
    r"|handsome|ugly|attractive|male|female|a (?:man|woman|boy|girl)|lying|honest|fake|depressed|ill|sick|autistic|drunk|dangerous|guilty|innocent|kind|intelligent|smart)\b",
    re.I,
)


def check_answer(text: str, question: str, view: View) -> list[str]:
    """The problems of an answer, in plain sentences; empty if it agrees with the evidence."""
    words = text.split()
    problems = [] if 1 <= len(words) <= MAX_WORDS else [f"an answer has 1 to {MAX_WORDS} words"]
    if text.strip() and text.strip()[-1] not in ".!?)\"'”%" and len(words) > 6 and " - " not in text:
        problems.append("the answer breaks off")
    if repeated(text):
        problems.append("a part is repeated")
    problems += [
        f"{match[0]!r} speaks of what is inside a person" for match in INNER.finditer(text) if not _denied(text, match)
    ]
    problems += [f"{match[0]!r} cannot be seen" for match in _ATTRIBUTE.finditer(text) if not _denied(text, match)]
    if policy_kind(question):
        if not _REFUSES.search(text):
            problems.append("the answer does not say that this cannot be answered from a face")
    else:
        problems += unanswered(text, question, view)
    if view.missing and not _NO_SUCH_FACE.search(text):
        problems.append("the answer does not say that there is no such face")
    if all(not sheet.units for sheet in view.sheets):
        return problems + _claims_nothing(text, view)
    return problems + problems_of(text, view, question) + _polar(text, question, view)


def repeated(text: str) -> bool:
    """Whether six words in a row occur twice."""
    words = re.findall(r"\w+", text.lower())
    runs = [tuple(words[i : i + 6]) for i in range(len(words) - 5)]
    return len(set(runs)) < len(runs)


def _denied(text: str, match: re.Match[str]) -> bool:
    start, end = text.rfind(".", 0, match.start()) + 1, text.find(".", match.end())
    return bool(_REFUSES.search(text[start : len(text) if end < 0 else end]))


def _polar(text: str, question: str, view: View) -> list[str]:
    """A yes-or-no question about one movement or one label of one face must be answered accordingly."""
    said = begins_with(text)
    if (
        said not in ("yes", "no")
        or len(view.about) != 1
        or not _POLAR.match(question)
        or re.search(r"\b(?:or|and)\b|[?.!].+\w", question)
    ):
        return []
    sheet = view.sheets[0]
    asked: Sequence[Mention] = movements(question, [sheet])
    label = stated_label(question, sheet.labels)
    negated = re.search(r"n't\b|\bnot\b|\bno\b", question, re.I)
    if negated or policy_kind(question):
        return []
    if asked and label is None and len({mention.action_unit for mention in asked}) == 1:
        code = asked[0].action_unit
        if code in sheet.unclear and said == "yes":
            return [f"AU {code} is not clear, so the answer cannot be yes"]
        if code in sheet.sure and said == "no" and asked[0].band is None and asked[0].side is None:
            return [f"AU {code} is there, so the answer cannot be no"]
        return [f"AU {code} is absent, so the answer cannot be yes"] if code in sheet.absent and said == "yes" else []
    if label is not None and not asked and not sheet.abstained and re.match(r"\W*(?:\w+\W+){0,8}$", question):
        if said == "yes" and label != sheet.label:
            return [f"{label} is not the label, so the answer cannot be yes"]
        if (
            said == "no"
            and label == sheet.label
            and not re.search(r"\b(?:just|only|really|very|100|sure|lying|fak)", question, re.I)
        ):
            return [f"{label} is the label, so the answer cannot be no"]
    return []


def _claims_nothing(text: str, view: View) -> list[str]:
    """An answer about a face that could not be read must claim nothing of it."""
    emotional = [label for sheet in view.sheets for label in sheet.labels if canonical(label) is not None]
    reasons = " ".join(sheet.why for sheet in view.sheets)
    problems = []
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        if GENERAL.search(sentence) or _REFUSES.search(sentence) or len(view.faces) > len(view.about):
            continue
        problems += [f"{word!r} is a claim on a face that was not read" for word in leaks(sentence, emotional)]
        problems += [f"{m.text!r} is a claim on a face that was not read" for m in mentions(sentence)]
        problems += [f"{match[0]} is a claim" for match in PERCENT.finditer(sentence) if match[0] not in reasons]
    return problems
