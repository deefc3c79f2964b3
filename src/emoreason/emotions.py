"""Emotion names: label sets, synonyms, projections between sets, circumplex coordinates. Names everywhere, indices never."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from emoreason.errors import EmoreasonError


@dataclass(frozen=True)
class LabelSet:
    """The labels of one data set in its own order. The order matters only where an index is turned into a name."""

    name: str
    labels: tuple[str, ...]
    note: str


LABEL_SETS: dict[str, LabelSet] = {
    s.name: s
    for s in (
        LabelSet(
            "ferplus8",
            ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
            "FER+ (Barsoum et al. 2016): the order of the vote columns.",
        ),
        LabelSet(
            "fer2013_7", ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"), "FER2013, 0-based."
        ),
        LabelSet(
            "rafdb7", ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"), "RAF-DB, 1-based."
        ),
        LabelSet(
            "affectnet7", ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger"), "AffectNet, 0-based."
        ),
        LabelSet(
            "affectnet8",
            ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"),
            "AffectNet, 0-based.",
        ),
    )
}

SYNONYMS: dict[str, tuple[str, ...]] = {
    "neutral": ("neutrality", "calm"),
    "happiness": ("happy", "joy", "joyful"),
    "surprise": ("surprised", "astonished"),
    "sadness": ("sad", "sorrow"),
    "anger": ("angry", "furious"),
    "disgust": ("disgusted", "repulsed"),
    "fear": ("fearful", "afraid", "terrified"),
    "contempt": ("contemptuous", "scornful"),
}

CIRCUMPLEX: dict[str, tuple[float, float]] = {
    "neutral": (0.0, 0.0),
    "happiness": (0.81, 0.51),
    "surprise": (0.40, 0.67),
    "sadness": (-0.63, -0.27),
    "anger": (-0.51, 0.59),
    "disgust": (-0.60, 0.35),
    "fear": (-0.64, 0.60),
    "contempt": (-0.23, 0.31),
}


def label_set(name: str) -> LabelSet:
    """The set called `name`, or an error with the nearest names."""
    if name in LABEL_SETS:
        return LABEL_SETS[name]
    near = difflib.get_close_matches(name, LABEL_SETS, 3) or list(LABEL_SETS)
    raise EmoreasonError(f"unknown label set {name!r}; expected one of: {', '.join(near)}")


def canonical(word: str) -> str | None:
    """The canonical name of an emotion word, None when the word is unknown."""
    key = " ".join(word.replace("_", " ").replace("-", " ").casefold().split())
    return _CANONICAL.get(key)


_CANONICAL = {w: name for name, words in SYNONYMS.items() for w in (name, *words)}


def valence_arousal(distribution: Mapping[str, float]) -> tuple[float, float] | None:
    """The mean circumplex point of a distribution, None when no label of it has coordinates."""
    known = {n: p for n, p in distribution.items() if n in CIRCUMPLEX and p > 0}
    total = sum(known.values())
    if total <= 0:
        return None
    valence = sum(p * CIRCUMPLEX[n][0] for n, p in known.items()) / total
    arousal = sum(p * CIRCUMPLEX[n][1] for n, p in known.items()) / total
    return valence, arousal
