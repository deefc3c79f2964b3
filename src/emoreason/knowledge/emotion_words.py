"""Find emotion words in a text, in any form: "happily" and "angrier", but not "saddle" and "made"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from emoreason.knowledge.emotions import SETS_KEPT, SYNONYMS, canonical, emotion_words

_WORD = re.compile(r"[^\W\d_]+")
_VOWELS = "aeiou"
# Only these exact words count, not their other forms: "depressed" lip corners, for example, are a movement.
_ALONE = frozenset({"depressed", "pos", "neg", "composed", "let down"})
# The verbs of participles in the vocabulary whose spelling is ambiguous ("scared" could come from "scar" or "scare").
_VERBS = frozenset(
    {"annoy", "irritate", "enrage", "horrify", "terrify", "frighten", "scare", "astonish", "amaze", "startle", "stun"}
    | {"nauseate", "repulse", "revolt", "disgust", "amuse", "puzzle", "perplex", "bewilder", "confuse", "disappoint"}
    | {
        "discourage",
        "frustrate",
        "embarrass",
        "excite",
        "thrill",
        "fatigue",
        "bore",
        "tire",
        "grieve",
        "elate",
        "mourn",
    }
    | {"deject"}
)


class Spot(NamedTuple):
    """Emotion words in a text: their position, and their entry in the vocabulary."""

    start: int
    end: int
    entry: str


def leaks(text: str, labels: Sequence[str] = ()) -> list[str]:
    """The words of a text that name an emotion or one of these labels, in any form; each once, in order."""
    spots = find(text, _vocabulary(tuple(labels)))
    words = (text[spot.start : spot.end].casefold() for spot in spots if not _harmless(text, spot))
    return list(dict.fromkeys(words))


def _harmless(text: str, spot: Spot) -> bool:
    return spot.entry == "composed" and text[spot.end :].lstrip().lower().startswith("of")


@lru_cache(maxsize=SETS_KEPT)
def _vocabulary(labels: tuple[str, ...]) -> dict[str, tuple[tuple[tuple[str, ...], str], ...]]:
    words = {*emotion_words(), *_VERBS, "hostility"}
    words.update(label for label in labels if canonical(label) != "other")
    return index(tuple((word, word) for word in sorted(words)))


def index(entries: tuple[tuple[str, str], ...]) -> dict[str, tuple[tuple[tuple[str, ...], str], ...]]:
    """Index (words, entry) pairs for `find` by every form of their first word, longest first."""
    found: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for words, entry in entries:
        parts = _WORD.findall(words.casefold())
        if not parts:
            continue
        if len(parts) == 1:
            for form in forms(parts[0]):
                found.setdefault(form, []).append(((), entry))
        else:
            found.setdefault(parts[0], []).append((tuple(parts[1:]), entry))
    return {first: tuple(sorted(rest, key=lambda pair: -len(pair[0]))) for first, rest in found.items()}


def find(text: str, vocabulary: dict[str, tuple[tuple[tuple[str, ...], str], ...]]) -> list[Spot]:
    """Find the entries of a vocabulary in a text; the longest wins ("no expression" over "expression")."""
    words = [(match[0].casefold(), match.start(), match.end()) for match in _WORD.finditer(text)]
    spots: list[Spot] = []
    at = 0
    while at < len(words):
        step = 1
        for rest, entry in vocabulary.get(words[at][0], ()):
            last = at + len(rest)
            if last < len(words) and all(words[at + 1 + k][0] in forms(word) for k, word in enumerate(rest)):
                spots.append(Spot(words[at][1], words[last][2], entry))
                step = len(rest) + 1
                break
        at += step
    return spots


@lru_cache(maxsize=4096)
def forms(word: str) -> frozenset[str]:
    """A word with its inflections and close relatives: happy -> happily, happier, happiness, …"""
    if word in _ALONE:
        return frozenset({word})
    found = {word}
    if len(word) >= 3:
        for base in _bases(word):
            found |= {f"{base}{ending}" for ending in ("s", "ness", "ful", "fully", "fulness", "less", "ly", "some")}
            found |= _verb_and_degree(base)
    return frozenset(found)


def _bases(word: str) -> set[str]:
    """The word and, if it is a participle or adverb with a clear spelling, the verb or adjective behind it."""
    bases = {word}
    if word.endswith("ied"):
        bases.add(f"{word[:-3]}y")
    elif word.endswith("ing") and len(word) > 6:
        stem = word[:-3]
        bases |= {f"{stem}e"} if stem[-1] not in _VOWELS and stem[-2] in _VOWELS else {stem}
        bases |= {stem} if stem[-1] not in "lvsgz" else set()
    elif (word.endswith("ed") and len(word) > 6) or (word.endswith("ly") and len(word) > 5):
        bases.add(word[:-2])
    return bases


def _verb_and_degree(base: str) -> set[str]:
    endings = ("ed", "ing", "ingly", "er", "est", "en", "ened", "ening", "edly", "ation", "ion")
    if base.endswith("e"):
        return {f"{base[:-1]}{ending}" for ending in endings} | {f"{base}d"}
    if base.endswith("y") and len(base) > 2 and base[-2] not in _VOWELS:
        stem = base[:-1]
        ys = {f"{stem}i{ending}" for ending in ("es", "ed", "er", "est", "ly", "ness", "edly")}
        return ys | {f"{base}ing", f"{base}ingly"}
    found = {f"{base}{ending}" for ending in (*endings, "es", "y", "ily")}
    if len(base) <= 4 and base[-1] not in f"{_VOWELS}wxyh" and base[-2] in _VOWELS and base[-3] not in _VOWELS:
        found |= {f"{base}{base[-1]}{ending}" for ending in endings}  # sad: sadder; mad: madden
        found -= {f"{base}{ending}" for ending in endings} | {f"{base}y", f"{base}es", f"{base}ily"}
    return found


def synonyms(label: str) -> tuple[str, ...]:
    """The words that name the same emotion as a label, itself first."""
    name = canonical(label)
    return (label, *((name, *SYNONYMS[name]) if name else ()))
