"""The lexicon of words for expressions and states: what a word says about a face, as data. See words.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
FILE = Path(__file__).with_name("words.yaml")
_BETWEEN = re.compile(r"[\s_\-]+")


@dataclass(frozen=True)
class Word:
    """One entry of the lexicon."""

    name: str
    shares: tuple[float, ...]  # over EMOTIONS, summing to 1
    valence: float  # -1..1
    arousal: float  # -1..1
    units: tuple[str, ...]  # action units that one would expect
    validated: bool  # False for states such as "bored": no data here can check them
    held_out: bool  # takes no part in fitting

    @property
    def emotion(self) -> str:
        """The emotion with the largest share."""
        return EMOTIONS[max(range(len(EMOTIONS)), key=lambda i: self.shares[i])]


@lru_cache(maxsize=1)
def lexicon() -> dict[str, Word]:
    """All words by their normalised name."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content = yaml.load(FILE.read_text(encoding="utf-8"), loader)  # noqa: S506 (a safe loader)
    held_out = {normalised(name) for name in content["held_out"]}
    words = {}
    for group in ("expressions", "states"):
        for name, line in content[group].items():
            key = normalised(name)
            words[key] = _word(name, line, validated=group == "expressions", held_out=key in held_out)
    return words


def find_word(text: str) -> Word | None:
    """The entry of a word or phrase; case, hyphens and underscores do not matter."""
    return lexicon().get(normalised(text))


def normalised(text: str) -> str:
    return _BETWEEN.sub(" ", text.casefold().replace("’", "'")).strip()


def _word(name: str, line: str, validated: bool, held_out: bool) -> Word:
    """Read "anger 0.80 disgust 0.20 | -0.51 0.59 | 4 7"."""
    shares, point, units = (part.split() for part in line.split("|"))
    given = dict(zip(shares[::2], map(float, shares[1::2]), strict=True))
    valence, arousal = map(float, point)
    return Word(name, tuple(given.get(emotion, 0.0) for emotion in EMOTIONS), valence, arousal, tuple(units),
                validated, held_out)  # fmt: skip
