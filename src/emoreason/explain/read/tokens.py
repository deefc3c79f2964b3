"""Splits English text into items for `claims`: parts of the face, movements, amounts, negations, connecting words."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from emoreason.knowledge import lexicon
from emoreason.knowledge.facs import ACTION_UNITS, band

_TOKEN = re.compile(r"[a-z]+(?:['’][a-z]+)?|\d*\.\d+|\d+%?|[.;:!?\n,()+/&—–]|(?<![^ ])-(?= )")
_STOPS = frozenset(".;:!?\n—–-")
_SIDES = ("left", "right")
_LETTERS = {"a": "trace", "b": "slight", "c": "marked", "d": "marked", "e": "strong"}  # FACS intensities
_Token = tuple[str, int, int]


class Item(NamedTuple):
    """A word, or several words with one meaning."""

    kind: str  # part, move, amount, unit, side, other, or a kind of `lexicon.PHRASES` or `lexicon.SMALL`
    name: str
    word: str  # the word in the text
    start: int
    end: int
    amount: str | None = None
    side: str | None = None


def read_items(text: str) -> list[Item]:
    """Classify the words of a text; articles and other filler words are dropped."""
    # keeps the length, so that positions stay valid
    lowered = "".join(c if len(c.lower()) > 1 else c.lower() for c in text).replace("’", "'")
    tokens = [(found[0].removesuffix("'s"), found.start(), found.end()) for found in _TOKEN.finditer(lowered)]
    small = _small()
    items: list[Item] = []
    at = 0
    while at < len(tokens):
        word, start, end = tokens[at]
        if word in ("au", "aus") or (word in ("unit", "units") and at and tokens[at - 1][0] == "action"):
            codes, at = _codes(tokens, at + 1)
            items += codes
            continue
        matched = _match(tokens, at)
        if matched is not None:
            (kind, name, amount), stop, side = matched
            if kind != "skip":
                last = tokens[stop - 1]
                if name == "lips" and last[0] == "lip":
                    name = "lip"  # a single lip is the upper one, or a corner
                items.append(Item(kind, name, last[0], start, last[2], amount, side))
            at = stop
            continue
        at += 1
        kind = "stop" if word in _STOPS else "comma" if word in ",()" else small.get(word, "other")
        if word in _SIDES:
            kind = "side"
        elif word.endswith("n't"):
            kind = "not"
        elif word[0] in ".0123456789" and word not in _STOPS:
            amount = _decimal(word)
            kind, word = ("amount", amount) if amount else ("other", word)
        if kind == "by" and items and items[-1].kind == "other" and items[-1].word.endswith("ed"):
            kind = "cut"  # "followed by" names no agent
        if kind != "skip":
            items.append(Item(kind, word, word, start, end, word if kind == "amount" else None))
    return items


def _match(tokens: list[_Token], at: int) -> tuple[tuple[str, str, str | None], int, str | None] | None:
    """The longest lexicon entry at token `at`: (kind, name, amount), its end, and a side mentioned inside it."""
    forms, small = lexicon.FORMS, _small()
    node: dict = _trie()
    found: tuple[tuple[str, str, str | None], int, str | None] | None = None
    side: str | None = None
    ahead = at
    while ahead < len(tokens):
        word = tokens[ahead][0]
        step = node.get(forms.get(word, word)) or node.get(word)
        if step is not None:
            node, ahead = step, ahead + 1
            if None in node and not (word == "in" and ahead < len(tokens) and _opens_part(tokens, ahead)):
                found = node[None], ahead, side
        elif ahead > at and (word in _SIDES or small.get(word) == "skip"):
            side = word if word in _SIDES else side
            ahead += 1
        else:
            break
    return found


def _decimal(word: str) -> str | None:
    """The band of an intensity written as a decimal from 0 to 1; None for anything else."""
    return band(float(word)) if re.fullmatch(r"\d*\.\d+", word) and float(word) <= 1 else None


def _codes(tokens: list[_Token], at: int) -> tuple[list[Item], int]:
    """Read the codes after "AU": "12", "6+12", "1, 2 and 4", or "12C" with the FACS letter for the intensity."""
    found: list[Item] = []
    ahead = at
    while ahead < len(tokens):
        word, start, end = tokens[ahead]
        if word.isdigit() and len(word) < 3:
            amount = None
            if ahead + 1 < len(tokens) and tokens[ahead + 1][1] == end and tokens[ahead + 1][0] in _LETTERS:
                amount = _LETTERS[tokens[ahead + 1][0]]
                ahead += 1
            if (code := str(int(word))) in ACTION_UNITS:
                found.append(Item("unit", code, word, start, tokens[ahead][2], amount))
            ahead += 1
            if found and ahead + 1 < len(tokens) and tokens[ahead][0] == "(" and tokens[ahead + 1][0][0] in ".01":
                found[-1] = found[-1]._replace(amount=_decimal(tokens[ahead + 1][0]))  # "AU 12 (0.82)"
            at = ahead
        elif word in (",", "+", "and", "&", "/", "or", "au", "aus") and found:
            ahead += 1
        else:
            break
    return found, at


def _opens_part(tokens: list[_Token], at: int) -> bool:
    """Whether a part of the face follows: in "pressure in the lips", "in" belongs to the lips, not to "press in"."""
    while at + 1 < len(tokens) and _small().get(tokens[at][0]) == "skip":
        at += 1
    return lexicon.FORMS.get(tokens[at][0], tokens[at][0]) in _part_words()


@cache
def _part_words() -> frozenset[str]:
    return frozenset(lexicon.FORMS.get(words[0], words[0]) for _, words, _ in lexicon.entries(lexicon.PARTS))


@cache
def _small() -> dict[str, str]:
    return {word: kind for kind, words in lexicon.SMALL.items() for word in words.split()}


@cache
def _trie() -> dict:
    """The lexicon as nested dicts keyed by base form; the key None holds (kind, name, amount)."""
    trie: dict = {}
    tables = (
        ("part", lexicon.PARTS), ("amount", lexicon.AMOUNTS), ("move", lexicon.MOVES), ("unit", lexicon.UNITS),
        ("", lexicon.PHRASES), ("unit", lexicon.names()),
    )  # fmt: skip
    for kind, table in tables:
        for name, words, amount in lexicon.entries(table):
            node = trie
            for word in words:
                node = node.setdefault(lexicon.FORMS.get(word, word), {})
            if kind == "move":  # "deep", "high": a movement that also states an amount
                amount = amount or (node[None][1] if None in node and node[None][0] == "amount" else None)
            node[None] = (kind or name, name, name if kind == "amount" else amount)
    return trie
