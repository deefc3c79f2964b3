"""Emotion names as data: label sets, synonyms, projections between sets, circumplex coordinates.

All code uses names, never indices: a reader of a dataset converts the numbers in its files once, with `from_index`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from emoreason.core.errors import EmoreasonError, UsageError

SETS_KEPT = 16  # cached vocabularies of label sets: a megabyte each, and users may ask for any set


@dataclass(frozen=True)
class LabelSet:
    """The labels of one dataset in its own order; `base` is the index of the first one in its files."""

    name: str
    labels: tuple[str, ...]
    note: str
    base: int = 0


def _sets(*sets: LabelSet) -> dict[str, LabelSet]:
    return {entry.name: entry for entry in sets}


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


_ALPHABETICAL = _split("anger, disgust, fear, happiness, neutral, sadness, surprise")
_FER2013 = _split("anger, disgust, fear, happiness, sadness, surprise, neutral")
_AFFECTNET = _split("neutral, happiness, sadness, surprise, fear, disgust, anger")
_CKPLUS = _split("anger, contempt, disgust, fear, happiness, sadness, surprise")
_DFEW = _split("happiness, sadness, neutral, anger, surprise, disgust, fear")

LABEL_SETS: dict[str, LabelSet] = _sets(
    LabelSet(
        "ferplus8",
        _split("neutral, happiness, surprise, sadness, anger, disgust, fear, contempt"),
        "Order of the vote columns of FER+ (Barsoum et al. 2016), which go on with unknown and not_a_face. "
        "Not the order of FER2013, whose pictures it annotates.",
    ),
    LabelSet(
        "fer2013_7", _FER2013, "The emotion column of FER2013 (Goodfellow et al. 2013); deepface and fer use it too."
    ),
    LabelSet("expw7", _FER2013, "label.lst of ExpW (Zhang et al. 2015): the order of FER2013."),
    LabelSet(
        "rafdb7",
        _split("surprise, fear, disgust, happiness, sadness, anger, neutral"),
        "list_patition_label.txt of RAF-DB (Li et al. 2017) counts from 1; many loaders subtract one first.",
        base=1,
    ),
    LabelSet(
        "affectnet7", _AFFECTNET, "AffectNet (Mollahosseini et al. 2017) without contempt; the index does not change."
    ),
    LabelSet(
        "affectnet8",
        (*_AFFECTNET, "contempt"),
        "AffectNet's files go on with 8 none, 9 uncertain, 10 no face: drop those rows. Re-uploads with folders or "
        "YOLO files are often alphabetical instead: go by their names.",
    ),
    LabelSet("sfew7", _ALPHABETICAL, "SFEW and AFEW (Dhall et al. 2011) are class folders; indices are alphabetical."),
    LabelSet("caers7", _ALPHABETICAL, "CAER and CAER-S (Lee et al. 2019) are class folders; indices are alphabetical."),
    LabelSet(
        "ckplus7",
        _CKPLUS,
        "The *_emotion.txt files of CK+ (Lucey et al. 2010) hold a float that counts from 1. The file "
        "ckextended.csv that circulates has another order: 0 anger, 1 disgust, … 6 neutral, 7 contempt.",
        base=1,
    ),
    LabelSet("ckplus8", ("neutral", *_CKPLUS), "CK+ with 0 = neutral, the first frame of every sequence."),
    LabelSet(
        "dfew7", _DFEW, "The csv files of DFEW (Jiang et al. 2020) count from 1; DFER-CLIP's lists from 0.", base=1
    ),
    LabelSet(
        "ferv39k7",
        _DFEW,
        "FERV39k (Wang et al. 2022) writes names; this is the order of the lists of DFER-CLIP and Exp-CLIP.",
    ),
    LabelSet(
        "mafw11",
        (*_ALPHABETICAL, *_split("contempt, anxiety, helplessness, disappointment")),
        "MAFW (Liu et al. 2022) writes names; this is the order of MAE-DFER. See mafw11_dferclip.",
    ),
    LabelSet(
        "mafw11_dferclip",
        (*_DFEW, *_split("contempt, anxiety, helplessness, disappointment")),
        "The second order of MAFW: the lists of DFER-CLIP and Exp-CLIP. Only the last four agree with mafw11.",
    ),
    LabelSet("ekman6", _split("anger, disgust, fear, happiness, sadness, surprise"), "Ekman's six, alphabetical."),
    LabelSet("ekman7", _CKPLUS, "Ekman's six with contempt, alphabetical; as CK+, but from 0."),
    LabelSet(
        "micro3",
        _split("negative, positive, surprise"),
        "The composite classes of the micro-expression challenges (MEGC 2019 on): neutral has no place in it.",
    ),
    LabelSet(
        "casme2_5",
        _split("happiness, disgust, repression, surprise, other"),
        "Five classes used with CASME II (Yan et al. 2014), whose sheets write names; papers differ in the order.",
    ),
    LabelSet("polarity3", _split("negative, neutral, positive"), "Valence only: surprise has no place in it."),
)

# For reading the labels of datasets and users. Never use them as training text: some are held out to measure how well
# unseen words work. Each word belongs to one emotion only.
SYNONYMS: dict[str, tuple[str, ...]] = {
    name: _split(words)
    for name, words in {
        "neutral": "neutrality, neutral face, neutral expression, no expression, expressionless, calm, calmness, "
        "composed",
        "happiness": "happy, happily, joy, joyful, joyous, cheerful, delighted, delight, glad, pleased, elated, merry, "
        "amused, amusement, enjoyment, happyness",
        "surprise": "surprised, surprising, suprise, suprised, astonished, astonishment, amazed, amazement, startled, "
        "shocked, shock, stunned",
        "sadness": "sad, sadly, unhappy, unhappiness, sorrow, sorrowful, grief, grieving, mournful, melancholy, "
        "depressed, dejected, gloomy, miserable",
        "anger": "angry, angrily, angered, furious, fury, mad, enraged, rage, irate, irritated, annoyed, annoyance, "
        "hostile",
        "disgust": "disgusted, disgusting, repulsed, repulsion, revolted, revulsion, aversion, nauseated",
        "fear": "fearful, fearfully, afraid, scared, frightened, fright, terrified, terror, horrified, horror, panic, "
        "panicked",
        "contempt": "contemptuous, scorn, scornful, disdain, disdainful",
        "anxiety": "anxious, worried, worry, nervous, uneasy, apprehensive",
        "helplessness": "helpless, powerless",
        "disappointment": "disappointed, discouraged, let down",
        "frustration": "frustrated",
        "boredom": "bored",
        "confusion": "confused, puzzled, perplexed, bewildered",
        "interest": "interested, engaged, engagement, curious, curiosity",
        "excitement": "excited, enthusiastic, enthusiasm, thrilled",
        "embarrassment": "embarrassed",
        "pride": "proud",
        "shame": "ashamed",
        "guilt": "guilty",
        "tiredness": "tired, fatigued, fatigue, sleepy, weary",
        "pain": "in pain, hurting",
        "repression": "repressed",
        "positive": "pos",
        "negative": "neg",
        "other": "others",
    }.items()
}

# The emotions that a coarse label covers. Surprise and neutral are neither positive nor negative.
GROUPS: dict[str, tuple[str, ...]] = {
    "positive": _split("happiness, excitement, interest, pride"),
    "negative": _split(
        "sadness, anger, disgust, fear, contempt, anxiety, helplessness, disappointment, frustration, boredom, "
        "confusion, embarrassment, shame, guilt, tiredness, pain, repression"
    ),
}

# Mean pleasure and arousal of the *word* in the comment, one of the 151 terms rated in Russell & Mehrabian (1977),
# "Evidence for a three-factor theory of emotions", Journal of Research in Personality 11, 273-294. Copied from public
# transcriptions of that table, not from the paper: several agree on the six basic words, the others have one source.
# These words describe feelings, so the ratings only approximate expressions: show such numbers as "derived".
CIRCUMPLEX: dict[str, tuple[float, float]] = {
    "neutral": (0.0, 0.0),  # by definition: the origin of the circumplex (Russell 1980), not a rating
    "happiness": (0.81, 0.51),  # happy
    "surprise": (0.40, 0.67),  # surprised
    "sadness": (-0.63, -0.27),  # sad
    "anger": (-0.51, 0.59),  # angry
    "disgust": (-0.60, 0.35),  # disgusted
    "fear": (-0.64, 0.60),  # fearful
    "contempt": (-0.23, 0.31),  # contempt
    "anxiety": (-0.33, 0.58),  # tense: "anxious" was rated 0.01 on pleasure, which mixes in eagerness
    "helplessness": (-0.71, 0.42),  # helpless
    "disappointment": (-0.61, -0.15),  # discouraged, the nearest of the 151
    "frustration": (-0.64, 0.52),  # frustrated
    "boredom": (-0.65, -0.62),  # bored
    "confusion": (-0.53, 0.27),  # confused
    "interest": (0.64, 0.51),  # interested
    "excitement": (0.62, 0.75),  # excited
    "embarrassment": (-0.46, 0.54),  # embarrassed
    "pride": (0.77, 0.38),  # proud
    "shame": (-0.57, 0.01),  # shamed
    "guilt": (-0.57, 0.28),  # guilty
    "tiredness": (-0.18, -0.57),  # fatigued
    "pain": (-0.58, 0.41),  # pain
}


@dataclass(frozen=True)
class LabelProjection:
    """A distribution on another label set, and the mass lost in the projection."""

    probabilities: dict[
        str, float
    ]  # over the requested labels, in their order; sums to 1, or all zero if no mass is left
    dropped: dict[str, float]  # source name -> its share of the mass, if it fits none of the labels

    @property
    def kept(self) -> float:
        return 1.0 - sum(self.dropped.values()) if any(self.probabilities.values()) else 0.0


def label_set(name: str) -> LabelSet:
    """The set called `name` (case and hyphens do not matter), or an error with the nearest names."""
    key = name.strip().casefold().replace("-", "_")
    if key in LABEL_SETS:
        return LABEL_SETS[key]
    near = difflib.get_close_matches(key, LABEL_SETS, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known sets: {', '.join(LABEL_SETS)}."
    raise EmoreasonError(f"unknown label set {name!r}: {hint} For labels of your own use --labels a,b,c.")


def from_index(set_name: str, index: int | str, base: int | None = None) -> str:
    """The name behind an index of a dataset's file. `base` overrides the index of the first label (0 or 1)."""
    chosen = label_set(set_name)
    first = chosen.base if base is None else base
    last = first + len(chosen.labels) - 1
    try:
        number = float(index)  # CK+ writes 3.0000000e+00
        position = int(number) - first
    except (TypeError, ValueError, OverflowError) as error:
        raise EmoreasonError(
            f"{index!r} is not an index of {chosen.name}: expected a number from {first} to {last}"
        ) from error
    if number != int(number) or not 0 <= position < len(chosen.labels):
        raise EmoreasonError(f"{index!r} is not an index of {chosen.name}: expected {first} to {last}. {chosen.note}")
    return chosen.labels[position]


def canonical(word: str) -> str | None:
    """The canonical name of an emotion word, or None if it is unknown. Case, spaces, hyphens and digits are ignored, so
    the folder "03_Fearful" is fear."""
    return _vocabulary().get(_normalise(word))


def nearest(word: str, n: int = 3) -> tuple[str, ...]:
    """Up to `n` canonical names spelled like `word`, or with a synonym spelled like it: for "did you mean …"."""
    close = difflib.get_close_matches(_normalise(word), _vocabulary(), n=3 * n, cutoff=0.7)
    return tuple(dict.fromkeys(_vocabulary()[match] for match in close))[:n]


def emotion_words() -> frozenset[str]:
    """Every word that names an emotion, in lower case. Observations must not contain them."""
    return frozenset(word for word, name in _vocabulary().items() if name != "other")


def project(distribution: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    """`distribution` over `labels`, matched by name and summing to 1, or all zero if nothing matches."""
    return projection(distribution, labels).probabilities


def projection(distribution: Mapping[str, float], labels: Sequence[str]) -> LabelProjection:
    """Like `project`, and also returns what was dropped.

    A name goes to the label with the same spelling, else to the labels of the same emotion (divided equally), else to
    the coarse label that covers it (`GROUPS`). Mass that matches no label is dropped, never given to a similar emotion
    (contempt does not become disgust), and the rest is scaled to sum to 1. Works with votes as well as probabilities.
    """
    if not labels or len(set(labels)) != len(labels):
        raise UsageError(f"expected at least one label to project on, all of them different; given: {list(labels)}")
    total = _total(distribution)
    mass = dict.fromkeys(labels, 0.0)
    dropped: dict[str, float] = {}
    for name, value in distribution.items():
        targets = _matching_labels(name, labels)
        for target in targets:
            mass[target] += value / len(targets)
        if value > 0 and not targets:
            dropped[name] = value / total
    kept = sum(mass.values())
    probabilities = {label: value / kept for label, value in mass.items()} if kept > 0 else mass
    return LabelProjection(probabilities, dropped)


def valence_arousal(distribution: Mapping[str, float]) -> tuple[float, float] | None:
    """The mean circumplex point of a distribution (derived, see `CIRCUMPLEX`).

    None if labels with coordinates have less than half of the mass: the point would represent only a minority."""
    total = _total(distribution)
    points = [(value, CIRCUMPLEX.get(canonical(name) or "")) for name, value in distribution.items()]
    known = [(value, point) for value, point in points if point is not None]
    weight = sum(value for value, _ in known)
    if total <= 0 or weight < total / 2:
        return None
    valence = sum(value * point[0] for value, point in known) / weight
    arousal = sum(value * point[1] for value, point in known) / weight
    return valence, arousal


def _total(distribution: Mapping[str, float]) -> float:
    for name, value in distribution.items():
        if not (math.isfinite(value) and value >= 0):
            raise EmoreasonError(f"the probability of {name!r} is {value}: expected a number of at least 0")
    return sum(distribution.values())


def _matching_labels(name: str, labels: Sequence[str]) -> list[str]:
    if name in labels:
        return [name]
    emotion = canonical(name)
    if emotion is None:
        return []
    same = [label for label in labels if canonical(label) == emotion]
    return same or [label for label in labels if emotion in GROUPS.get(canonical(label) or "", ())]


def _normalise(word: str) -> str:
    return " ".join(re.findall(r"[^\W\d_]+", word.casefold()))


@cache
def _vocabulary() -> dict[str, str]:
    return {word: name for name, words in SYNONYMS.items() for word in (name, *words)}
