"""What a follow-up question asks for: its kind, and the label, action unit or region that it is about.

Rules decide what the words decide; what is left goes to the kind of the nearest example question, or is unanswerable.
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
    """A question by its kind and what it is about."""

    kind: str
    label: str | None = None  # as the sheet spells it, else the canonical emotion word
    unit: str | None = None  # code of an action unit
    region: str | None = None
    negated: bool = False  # the statement that is asked about denies: "Is it true that the brows are not lowered?"


def understand(question: str, labels: Sequence[str], faces: int = 1, encode: Encoder | None = None) -> Intent:
    """The question by its kind and what it is about. `labels` are those of the sheet; `encode` replaces MiniLM."""
    words = _plain(question)
    label = _label(words, tuple(labels))
    unit, negated = _unit(words)
    region = _region(words)
    kind = policy_kind(_straight(question)) or policy_kind(words)
    kind = (
        kind
        or by_rule(words, label, unit, region, faces)
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
    """The question as it stands to this face: "why fear?" is "why not fear?" where the label is another one."""
    match question.kind:
        case "evidence_for" | "against" if question.label not in (None, sheet.label):
            return Intent("why_not", question.label)
        case "evidence_for" | "against":
            return Intent(question.kind)
        case _:
            return question


# The words. ----------------------------------------------------------------------------------------------------------

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
    """The label that is named; of several the last: "not happiness but fear"."""
    spots = find(words, _vocabulary(labels))
    if spots:
        return spots[-1].entry
    known = sorted({*emotion_words(), *(label.casefold() for label in labels)} - {"repression", "repressed", "pleased"})
    for word in re.findall(r"[a-z]{5,}", words):  # a slip of the pen; "tightened" is not one of "frightened"
        near = difflib.get_close_matches(word, known, n=1, cutoff=0.87)
        if near and near[0][0] == word[0] and (spots := find(near[0], _vocabulary(labels))):
            return spots[-1].entry
    return None


def _unit(words: str) -> tuple[str | None, bool]:
    """The action unit that a question is about, and whether it denies it."""
    # "Aren't the brows lowered?" asks whether they are: only a denial behind the subject denies.
    words = re.sub(r"^\W*(?:so |and |but )?(is|are|do|does|did|has|have|can|could|would|was|were)n't\b", r"\1", words)
    named = next((code for name, code in UNIT_NAMES.items() if name in words), None)
    code = CODE.search(words)
    denied = (
        re.search(r"\b(not|n't|absent|inactive|missing)\b|n't\b|\bno \w+ (\w+ )?\w+er\b|\bno jaw drop", words)
        is not None
    )
    if named or code:
        return (named or (code[1] if code else None)), denied
    said = mentions(words)
    return (said[0].action_unit, not said[0].present) if said else (None, False)


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
    """Every label as one and the same word: which label it is says nothing about the kind."""
    for spot in reversed(find(words, _vocabulary(labels))):
        words = f"{words[: spot.start]}emotion{words[spot.end :]}"
    return words
