"""What any label means: its shares over the eight emotions, from the lexicon or from the nearest words in it.

A label is known if the lexicon has it. Another English word or phrase is answered through its neighbours, found by the
sentence encoder. What is far from every entry (other languages, emoji, nonsense) is refused.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from emoreason.core.errors import EmoreasonError
from emoreason.knowledge.words import EMOTIONS, Word, find_word, lexicon
from emoreason.models.encoder import Encoder

FILE = "words.safetensors"  # in the model's folder: the sentence encoder's vectors of all entries
NEAR, VERY_NEAR = 0.45, 0.65  # cosine to the nearest entry that an English word needs, and one known only in pieces
NEIGHBOURS, SHARPNESS = 8, 0.05  # entries that are averaged, and the temperature of their weights
DOUBT = 0.1  # how far an entry's shares may be off: without it, a word with any share of a sure emotion wins with 99 %
UNIT_WEIGHT, POINT_WEIGHT = 0.6, 1.0  # how much units and valence/arousal tell words of one emotion apart


@dataclass(frozen=True)
class Meaning:
    """One label as the lexicon understands it."""

    label: str
    shares: np.ndarray  # (8,) over EMOTIONS
    valence: float
    arousal: float
    units: frozenset[str]  # that one would expect
    validated: bool
    neighbours: tuple[str, ...] = ()  # the entries it was taken from, if it has none of its own


@dataclass(frozen=True)
class Meanings:
    """Looks labels up. The lexicon and its vectors are read with the first label that needs them."""

    encoder: Encoder
    file: Path  # with the vectors of the lexicon's entries, in its order

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> "Meanings | None":
        """None if the model's folder has no vectors."""
        path = folder / FILE
        return cls(encoder, path) if path.is_file() else None

    @cached_property
    def vectors(self) -> np.ndarray:
        """(N, D) unit length."""
        from safetensors import safe_open

        with safe_open(self.file, "numpy") as file:
            vectors, made_for = file.get_tensor("vectors").astype(np.float32), (file.metadata() or {}).get("names")
        if made_for != names_hash():
            raise EmoreasonError(
                f"{self.file} belongs to another lexicon than knowledge/words.yaml: reinstall emoreason"
            )
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    @cached_property
    def _words(self) -> list[Word]:
        return list(lexicon().values())

    def of(self, labels: Sequence[str]) -> "list[Meaning | None]":
        """The meaning of each label; None for what is far from every entry."""
        found = [find_word(label) for label in labels]
        missing = [label for label, word in zip(labels, found, strict=True) if word is None]
        vectors = iter(self.encoder.encode_texts([label.replace("_", " ") for label in missing]) if missing else ())
        return [
            self.from_neighbours(label, next(vectors)) if word is None else _from_word(label, word)
            for label, word in zip(labels, found, strict=True)
        ]

    def from_neighbours(
        self, label: str, vector: np.ndarray, excluded: frozenset[str] = frozenset(), nearest_only: bool = False
    ) -> Meaning | None:
        """The meaning by the nearest entries; None if the label is strange, unless only the nearest are wanted.

        excluded: entries that do not count, for measuring."""
        similarity = self.vectors @ vector
        if excluded:
            similarity = np.where([word.name in excluded for word in self._words], -1.0, similarity)
        nearest = np.argsort(-similarity)[:NEIGHBOURS]
        best = float(similarity[nearest[0]])
        if not nearest_only and best < self._needed(label):
            return None
        weights = np.exp((similarity[nearest] - best) / SHARPNESS)
        weights /= weights.sum()
        words = [self._words[i] for i in nearest]
        shares = weights @ np.array([word.shares for word in words])
        point = weights @ np.array([(word.valence, word.arousal) for word in words])
        return Meaning(label, shares, float(point[0]), float(point[1]), frozenset(words[0].units),
                       all(word.validated for word in words[:3]), tuple(word.name for word in words[:3]))  # fmt: skip

    def _needed(self, label: str) -> float:
        """The cosine to the nearest entry that a label needs: higher if the sentence encoder knows its words only in
        pieces, as it does those of other languages and made-up ones."""
        words = re.findall(r"[^\W\d_]+", label.casefold())
        if not words or not label.isascii():
            return 1.0
        pieces = max(len(self.encoder.tokenizer.tokenizer.tokenize(word)) for word in words)
        return {1: NEAR, 2: (NEAR + VERY_NEAR) / 2}.get(pieces, VERY_NEAR)


def names_hash() -> str:
    """A hash of the lexicon's names in their order, which the vectors follow."""
    return hashlib.sha256("\n".join(word.name for word in lexicon().values()).encode()).hexdigest()


def _from_word(label: str, word: Word) -> Meaning:
    return Meaning(label, np.array(word.shares), word.valence, word.arousal, frozenset(word.units), word.validated)


def label_scores(
    meanings: Sequence[Meaning], emotions: np.ndarray, units: dict[str, np.ndarray], points: np.ndarray
) -> np.ndarray:
    """(B, L) probabilities of the labels.

    emotions: (B, 8) probabilities over EMOTIONS; units: code -> (B,) intensities; points: (B, 2) valence and arousal of
    the faces. The emotions decide; units and point only tell apart labels that mean the same emotions."""
    shares = np.stack([meaning.shares for meaning in meanings])  # (L, 8)
    shares = (1 - DOUBT) * shares + DOUBT / len(EMOTIONS)
    logits = np.log(np.maximum(emotions @ shares.T, 1e-9))
    overlap = shares @ shares.T / (np.linalg.norm(shares, axis=1)[:, None] * np.linalg.norm(shares, axis=1))
    fit = UNIT_WEIGHT * _unit_fit(meanings, units, len(emotions)) + POINT_WEIGHT * _point_fit(meanings, points)
    alike = overlap / overlap.sum(axis=1, keepdims=True)
    logits += fit - fit @ alike.T  # compared only with labels that share its emotions
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def _unit_fit(meanings: Sequence[Meaning], units: dict[str, np.ndarray], n: int) -> np.ndarray:
    """(B, L) mean intensity of the units that each label expects, minus that of the others that any label expects."""
    codes = [code for code in units if any(code in meaning.units for meaning in meanings)]
    if not codes:
        return np.zeros((n, len(meanings)))
    measured = np.stack([units[code] for code in codes], axis=1)
    expected = np.array([[code in meaning.units for code in codes] for meaning in meanings], np.float64)
    return measured @ (expected - expected.mean(axis=0)).T / np.maximum(expected.sum(axis=1), 1)


def _point_fit(meanings: Sequence[Meaning], points: np.ndarray) -> np.ndarray:
    """(B, L) minus the squared distance between face and label on the plane of valence and arousal."""
    wanted = np.array([(meaning.valence, meaning.arousal) for meaning in meanings])
    return -((points[:, None] - wanted[None]) ** 2).sum(axis=2)


__all__ = ["EMOTIONS", "Meaning", "Meanings", "label_scores"]
