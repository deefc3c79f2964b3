"""Classifies a follow-up question: its kind, and the label, action unit or region it is about.

Rules on the words come first. A question that no rule matches gets the kind of the nearest example question, or "other"
if none is near.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from emoreason.explain.questions.examples import Encoder, by_example
from emoreason.explain.questions.policy import policy_kind
from emoreason.explain.questions.rules import CODE, UNIT_NAMES, by_rule
from emoreason.explain.read.claims import mentions
from emoreason.explain.sheet import Sheet
from emoreason.knowledge.emotion_words import find, index
from emoreason.knowledge.emotions import SETS_KEPT, SYNONYMS, canonical, emotion_words

POLICY_KINDS = (
    "policy_identity",
    "policy_diagnosis",
    "policy_deception",
    "policy_work_school",
    "policy_attributes",
    "feeling_inside",
)
KINDS = (
    "evidence_for",
    "against",
    "what_would_change",
    "how_sure",
    "why_not",
    "is_it",
    "how_likely",
    "second_best",
    "insist",
    "unit_meaning",
    "unit_present",
    "label_meaning",
    "region",
    "strongest",
    "absent",
    "describe_again",
    "compare",
    "two_readings",
    "method",
    *POLICY_KINDS,
    "other",
)
ABOUT_A_LABEL = (
    "evidence_for",
    "against",
    "what_would_change",
    "why_not",
    "is_it",
    "how_likely",
    "insist",
    "label_meaning",
)


@dataclass(frozen=True)
class Intent:
    """The kind of a question and what it is about."""

    kind: str
    label: str | None = None  # spelled as on the sheet, or the canonical emotion word if the sheet lacks it
    unit: str | None = None  # code of an action unit
    region: str | None = None
    negated: bool = False  # asks about a negative statement: "Is it true that the brows are not lowered?"


def understand(question: str, labels: Sequence[str], encode: Encoder | None = None) -> Intent:
    """Classify a question. `labels` are those of the sheet; `encode` replaces MiniLM."""
    words = _plain(question)
    label = _label(words, tuple(labels))
    unit, negated = _unit(words)
    region = _region(words)
    kind = (
        policy_kind(_straight(question))
        or policy_kind(words)
        or by_rule(words, label, unit, region)
        or by_example(_masked(words, tuple(labels)), label, unit, encode)
    )
    match kind:
        case "unit_meaning":
            return Intent(kind, unit=unit)
        case "unit_present":
            return Intent(kind, unit=unit, negated=negated)
        case "region":
            return Intent(kind, region=region) if region else Intent("other")
        case "why_not" | "is_it" | "how_likely" | "label_meaning" if label is None:
            return Intent({"why_not": "against", "is_it": "evidence_for"}.get(kind, "other"))
        case _:
            return Intent(kind, label=label if kind in ABOUT_A_LABEL else None)


def settle(question: Intent, sheet: Sheet) -> Intent:
    """Adapt the intent to this face: "why fear?" becomes "why not fear?" if the evidence gives another label."""
    match question.kind:
        case "evidence_for" | "against" if question.label not in (None, sheet.label):
            return Intent("why_not", question.label)
        case "evidence_for" | "against":
            return Intent(question.kind)
        case _:
            return question


# ---- the words of a question -----------------------------------------------------------------------------------------

_CHAT = {
    "u": "you", "r": "are", "ur": "your", "y": "why", "pls": "please", "plz": "please", "wud": "would", "cud": "could",
    "bout": "about", "isnt": "isn't", "arent": "aren't", "dont": "don't", "doesnt": "doesn't", "didnt": "didn't",
    "cant": "can't", "wasnt": "wasn't", "wont": "won't", "whats": "what is", "whos": "who is", "thats": "that is",
    "hes": "he is", "shes": "she is", "im": "i am", "wat": "what", "cuz": "because", "theres": "there is",
}  # fmt: skip


def _straight(question: str) -> str:
    return " ".join(question.replace("’", "'").split())


def _plain(question: str) -> str:
    """Lower case, straight quotes, chat words written out."""
    lower = _straight(question).casefold()
    return re.sub(r"[\w']+", lambda found: _CHAT.get(found[0], found[0]), lower)


@lru_cache(maxsize=SETS_KEPT)
def _vocabulary(labels: tuple[str, ...]) -> dict:
    own = {word: label for label in labels for word in (label.casefold(), *SYNONYMS.get(canonical(label) or "", ()))}
    known = {word: canonical(word) or word for word in emotion_words() if canonical(word) != "other"}
    homes = {canonical(label): label for label in labels}
    entries = {word: homes.get(name, name) for word, name in known.items()} | own
    return index(tuple((word, entry) for word, entry in entries.items()))


def _label(words: str, labels: tuple[str, ...]) -> str | None:
    """The label that the question names; the last one of several ("not happiness but fear")."""
    spots = find(words, _vocabulary(labels))
    if spots:
        return spots[-1].entry
    known = sorted({*emotion_words(), *(label.casefold() for label in labels)} - {"repression", "repressed", "pleased"})
    for word in re.findall(
        r"[a-z]{5,}", words
    ):  # typing errors; the first letter must match, so that "tightened" is not taken for "frightened"
        near = difflib.get_close_matches(word, known, n=1, cutoff=0.87)
        if near and near[0][0] == word[0] and (spots := find(near[0], _vocabulary(labels))):
            return spots[-1].entry
    return None


def _unit(words: str) -> tuple[str | None, bool]:
    """The action unit that a question is about, and whether the question denies it."""
    # "Aren't the brows lowered?" is no denial: it asks whether they are lowered.
    words = re.sub(r"^\W*(?:so |and |but )?(is|are|do|does|did|has|have|can|could|would|was|were)n't\b", r"\1", words)
    named = next((code for name, code in UNIT_NAMES.items() if name in words), None)
    code = CODE.search(words)
    denied = (
        re.search(r"\b(not|n't|absent|inactive|missing)\b|n't\b|\bno \w+ (\w+ )?\w+er\b|\bno jaw drop", words)
        is not None
    )
    if named or code:
        return (named or (code[1] if code else None)), denied
    found = mentions(words)
    return (found[0].action_unit, not found[0].present) if found else (None, False)


_REGIONS = {
    "brows": r"(eye)?brows?|forehead",
    "eyes": r"eyes?|(eye)?lids?|gaze",
    "cheeks": r"cheeks?",
    "nose": r"nose|nostrils?",
    "mouth": r"mouth|lips?|teeth|smile",
    "chin": r"chin",
    "jaw": r"jaw",
}


def _region(words: str) -> str | None:
    return next((region for region, names in _REGIONS.items() if re.search(rf"\b({names})\b", words)), None)


def _masked(words: str, labels: tuple[str, ...]) -> str:
    """Replace every label by one word, because the kind does not depend on which label it is."""
    for spot in reversed(find(words, _vocabulary(labels))):
        words = f"{words[: spot.start]}emotion{words[spot.end :]}"
    return words
