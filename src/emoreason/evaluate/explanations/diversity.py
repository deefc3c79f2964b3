"""Measures how varied texts are: distinct word pairs, sentences shared by many texts, lengths."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from emoreason.explain.read.sections import parse
from emoreason.knowledge.emotion_words import leaks

_WORD = re.compile(r"\d+(?:\.\d+)?%?|[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+(?=\s|$)|\n|$|[.!?])")
_NUMBER = re.compile(r"\d+(?:\.\d+)?%?")
SHOWN = 5  # how many shared sentences are listed


def body(text: str) -> str:
    """A text without its section headings, which all texts share."""
    sections = parse(text)
    if sections is None:
        return text
    return "\n".join((sections.observations, sections.interpretation, sections.conclusion))


def words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def distinct(texts: Iterable[str], n: int = 2) -> float | None:
    """Different n-grams of words over all n-grams, pooled over the texts. None if there are none."""
    different: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        tokens = words(text)
        ngrams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        different.update(ngrams)
        total += len(ngrams)
    return len(different) / total if total else None


def sentences(text: str) -> list[str]:
    """Sentences in lower case, with single spaces."""
    return [" ".join(found.split()).casefold() for found in _SENTENCE.findall(text) if _WORD.search(found)]


def masked(sentence: str, labels: Sequence[str]) -> str:
    """The frame of a sentence: numbers replaced by # and emotion words by _."""
    for word in sorted(leaks(sentence, labels), key=len, reverse=True):
        sentence = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "_", sentence, flags=re.I)
    return _NUMBER.sub("#", sentence)


def shared(texts: Sequence[str], labels: Sequence[str] | None = None) -> list[tuple[str, float]]:
    """The most shared sentences (with `labels`: their frames), each with the share of texts that contain it."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update({masked(s, labels) if labels is not None else s for s in sentences(text)})
    return [(sentence, n / len(texts)) for sentence, n in counts.most_common(SHOWN)]


def diversity(texts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """All figures on the words of a set of explanations, without their headings."""
    bodies = [body(text) for text in texts]
    lengths = [len(words(text)) for text in bodies]
    if not bodies:
        return {"n": 0, "distinct_2": None, "most_shared_sentence": None}
    exact = shared(bodies)
    return {
        "n": len(bodies),
        "distinct_1": distinct(bodies, 1),
        "distinct_2": distinct(bodies, 2),
        "most_shared_sentence": exact[0][1] if exact else None,
        "shared_sentences": [{"sentence": s, "share": p} for s, p in exact],
        "shared_frames": [{"sentence": s, "share": p} for s, p in shared(bodies, labels)],
        "identical_texts": 1 - len(set(bodies)) / len(bodies),
        "words_mean": sum(lengths) / len(lengths),
        "words_max": max(lengths),
    }
