"""Parses the three sections of an explanation, and the label and confidence that its conclusion states.

Accepts the many ways other models write the headings (Markdown, numbers, brackets, "Key Observations of …"), but
requires three headings, once each, in this order, and no empty section.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from emoreason.knowledge.emotion_words import find, index, synonyms
from emoreason.knowledge.emotions import SETS_KEPT, canonical

HEADINGS = ("Key observations", "Overall emotional interpretation", "Conclusion")

_MARK = r"[ \t]*(?:[#>*_\-+•]+[ \t]*)*(?:[(\[]?(?:\d{1,2}|[a-cA-C]|i{1,3}|I{1,3})[.):\]]+[ \t]*)?(?:[*_]+[ \t]*)?"
_NAME = (
    r"(?:(?P<observations>(?:key|main|facial)\s+observations?|observations)"
    r"|(?P<interpretation>(?:overall\s+)?(?:emotional\s+)?interpretation)"
    r"|(?P<conclusion>(?:final\s+|overall\s+)?conclusions?))"
)
_MORE = r"(?:[ \t]+(?:of|from|about|on|in|for)(?:[ \t]+[\w'’-]+){1,5})?"
_END = r"[ \t]*[*_]*[ \t]*(?:[:：][ \t]*[*_]*|[-–—](?=[\s*])[*_]*|(?=\r?\n|\Z))"
_LINE = rf"(?:^|\n){_MARK}{_NAME}{_MORE}{_END}"
_INLINE_MARK = r"(?:(?:[*_]{2}|#+[ \t]*)\(?(?:\d[.)])?|[(\[]?\d[.)\]]+[*_]*)[ \t]*"
_INLINE = rf"(?<=[.!?\s]){_INLINE_MARK}{_NAME.replace('?P<', '?P<inline_')}{_MORE}{_END}"
_PLAIN = (
    r"(?<=[.!?][ \t])(?:Overall emotional interpretation(?P<plain_interpretation>)|Conclusion(?P<plain_conclusion>)):"
)
_HEADING = re.compile(f"(?:{_LINE}|{_INLINE}|{_PLAIN})", re.IGNORECASE)
_RULE = re.compile(r"(?:\s*\n[ \t]*(?:-{3,}|\*{3,}|_{3,}|={3,})[ \t]*)+\s*\Z")


@dataclass(frozen=True)
class Sections:
    observations: str
    interpretation: str
    conclusion: str

    def text(self) -> str:
        """The sections as three lines, in the form that `parse` reads."""
        parts = zip(HEADINGS, (self.observations, self.interpretation, self.conclusion), strict=True)
        return "\n".join(f"{heading}: {part}" for heading, part in parts)


def parse(text: str) -> Sections | None:
    """The three sections; None if one is missing, empty, repeated or out of order."""
    found = list(_HEADING.finditer(text))
    names = [next(name for name, part in match.groupdict().items() if part is not None) for match in found]
    if [name.split("_")[-1] for name in names] != ["observations", "interpretation", "conclusion"]:
        return None
    ends = [match.start() for match in found[1:]] + [len(text)]
    bodies = [_RULE.sub("", text[match.end() : end]).strip() for match, end in zip(found, ends, strict=True)]
    return Sections(*bodies) if all(re.search(r"\w", body) for body in bodies) else None


# ---- the label ------------------------------------------------------------------------------------------------------


def _words_of(text: str) -> str:
    """A regex alternation from alternatives written as "one | two" over several lines."""
    return "|".join(part.strip() for part in re.split(r" \| |\n", text) if part.strip())


# The words about a label end at a stop, a comma or a contrast.
_BREAK = re.compile(
    r"[.;:!?\n()—–]|,(?!\s*(?:or|nor)\b)|\b(?:but|while|whereas|although|though|however|yet|so|because)\b", re.I
)
_UNDECIDED = re.compile(r"\btoo close to (?:decide|call|tell)\b", re.I)
_SAME = re.compile(r"\s*(?:[,/&]|or|nor|and|\s)*\s*", re.I)  # between two labels of one list
_HEDGE = _words_of("""
    more or less
    not only | not just | not merely | no doubt | no other than | nothing but | none other than | without (?:a )?doubt
""")
_HEDGED = re.compile(rf"\b(?:{_HEDGE})\b", re.I)
_DENIED = _words_of("""
    not | no | never | neither | nor | without | rather than | instead of | other than | as opposed to | exclud\\w+
    rul(?:e|es|ed|ing) out | devoid of | absence of | lack of | lacks | free of | unlike | far from | away from
    contradicts? | less | unlikely | against | distinct from | differs? from | rejects?
""")
_NOT = re.compile(rf"\b(?:{_DENIED})\b|n['’]t\b", re.I)
_IS = r"(?:is|was|are|seems?|appears?|looks?|can be|could be|has been|does|do|did|would)"
_NOT_SO = _words_of("not | unlikely | less likely | ruled out | excluded | absent | out of the question")
_NOT_AFTER = re.compile(rf"^\s*(?:{_IS}\s+(?:\w+\s+)?)?(?:{_NOT_SO})\b|^\s*(?:is|does|do|was|would)n['’]t\b", re.I)
_BEHIND = _words_of("""
    (?:follow|trail|tail|shadow|chas|pursu)ed by | (?:following|after|behind|beside) (?:it|that|this) | right after
    next(?: is| comes?| stands?| lies)? | second | runner-?up | alternatives? | candidates? | rival
    then (?:comes|follows|stands) | (?:close|right|shortly|directly) behind
""")
_RUNNER_UP = re.compile(rf"\b(?:{_BEHIND})\b", re.I)
_PLACED = _words_of("""
    (?:tail|trail|follow|pursue|shadow|chase)s it | next | second | close(?:ly)? behind | behind | runner-?up
    follow(?:s|ing) | trail(?:s|ing) | alternative | candidate | near(?!\\w*\\s*\\d) | close(?!st) | within reach
    not (?:far|excluded) | be (?:ruled out|excluded)
""")
_RUNNER_UP_AFTER = re.compile(rf"^\W*(?:[\w'’]+\s+){{0,4}}?(?:{_PLACED})\b", re.I)
# These words demote one label among several; a single label keeps its standing ("possibly fear").
_BESIDE = _words_of("""
    then | secondary | (?:hint|trace|touch|element|nuance|undertone)(?:e?s)? of | ting(?:ed?|es) (?:of|with)
    (?:mixed|combined|blended) with | underlying | also | minor | along with | accompanied by | over | ahead of | before
    than | behind | some | a little | (?:share|note|shade|dose|something) (?:of|for) | something closer to | besides? | in addition to | subtle | slight | despite
""")
_SECOND = re.compile(rf"\b(?:{_BESIDE})\b|^\s*with\b", re.I)
_POSSIBLE = re.compile(r"^\s*(?:[\w'’]+\s+){0,3}?possible\b", re.I)


def stated_label(conclusion: str, labels: Sequence[str]) -> str | None:
    """The requested label that the conclusion settles on; None if it names none, or several on equal terms."""
    if _UNDECIDED.search(conclusion):
        return None
    spots = [
        spot for spot in find(conclusion, label_words(tuple(labels))) if not conclusion[: spot.end].endswith("less")
    ]
    shares: dict[str, float] = {}
    by_kind: dict[str, set[str]] = {"plain": set(), "second": set(), "runner-up": set(), "not": set()}
    kind = ""
    for n, spot in enumerate(spots):
        before = conclusion[spots[n - 1].end if n else 0 : spot.start]
        ahead = conclusion[spot.end : spots[n + 1].start if n + 1 < len(spots) else len(conclusion)]
        kind = _kind(before, ahead, kind if n and _SAME.fullmatch(before) else "")
        by_kind[kind].add(spot.entry)
        share = stated_confidence(ahead)
        if share is not None:
            shares.setdefault(spot.entry, share)
    settled = by_kind["plain"] or by_kind["second"]
    if len(settled) > 1 and settled <= shares.keys():  # "anger 45%, fear 30%"
        highest = max(shares[label] for label in settled)
        settled = {label for label in settled if shares[label] == highest}
    return next(iter(settled)) if len(settled) == 1 else None


def _kind(before: str, ahead: str, listed: str) -> str:
    """How the words around a label present it: plain, second, runner-up or not.

    `listed` is the kind of the label before it in the same list ("fear or anger"), empty if there is none."""
    before = _HEDGED.sub(" ", _BREAK.split(before)[-1])
    ahead = _BREAK.split(ahead)[0]
    if _RUNNER_UP_AFTER.search(ahead):
        return "runner-up"
    if _NOT_AFTER.search(ahead) or _NOT.search(before):
        return "not"
    if listed:
        return listed
    if _RUNNER_UP.search(before):
        return "runner-up"
    return "second" if _SECOND.search(before) or _POSSIBLE.search(ahead) else "plain"


_STILL = ("resting face", "face at rest")  # other words for a neutral face


@lru_cache(maxsize=SETS_KEPT)
def label_words(labels: tuple[str, ...]) -> dict[str, tuple[tuple[tuple[str, ...], str], ...]]:
    """All forms of the labels, and their synonyms unless these fit several of the labels."""
    own = [(label, label) for label in labels]
    taken = {label.casefold() for label in labels}
    shared = [
        (word, label)
        for label in labels
        for word in (*synonyms(label), *(_STILL if canonical(label) == "neutral" else ()))
        if _only(label, labels) and word.casefold() not in taken
    ]
    return index((*own, *shared))


def _only(label: str, labels: tuple[str, ...]) -> bool:
    return canonical(label) is not None and sum(canonical(other) == canonical(label) for other in labels) == 1


# ---- the confidence -------------------------------------------------------------------------------------------------

_PERCENT = re.compile(
    r"(?<![\d.,])(\d{1,3}(?:\.\d+)?)\s*(?:%|percent\b|per cent\b)|(?<![\d.,])(0?\.\d+|1\.0+)(?![\d%])", re.I
)


def stated_confidence(conclusion: str) -> float | None:
    """The first probability in the text, as 0 to 1."""
    for match in _PERCENT.finditer(conclusion):
        value = float(match[1]) / 100 if match[1] else float(match[2])
        if value <= 1:
            return value
    return None
