"""Takes the plain text out of what a chat model writes: no thoughts, no Markdown, no headings, no endless loops."""

import re
from collections.abc import Iterable, Iterator, Sequence

from emoreason.core.stop_strings import split_at_stop

RUN, TIMES = 6, 3  # a text that says RUN words in a row for the third time goes in circles
_THINKS, _THOUGHT = "<think>", "</think>"
_PREFACE = re.compile(r"\A[^\n]{0,120}:[ \t*]*\n")  # "Sure, here is the text:"
_NAMES = r"(?:\w+ ){0,2}(?:observations?|interpretation|conclusion|seen|reading|weighing|answer)"
_HEADING = re.compile(
    rf"(?:^|(?<=[.!?]))[ \t>#*_]*(?:{_NAMES})[ \t*_]*:[*_]*|^[ \t]*(?:#.*|\*\*[^*\n]+\*\*:?[ \t]*)$", re.I | re.M
)
_FIRST_ITEM = re.compile(r"\A\s*(?:[-*•+]|1[.)])\s+")
_ITEM = re.compile(r"\s*\n\s*(?:[-*•+]|\d{1,2}[.)])\s+")


def without_thoughts(pieces: Iterable[str]) -> Iterator[str]:
    """Drop the <think> block that some models write first."""
    held, state = "", "start"
    for piece in pieces:
        if state == "answer":
            yield piece
            continue
        held += piece
        if state == "start":
            begun = held.lstrip()
            if begun.startswith(_THINKS):
                state = "thoughts"
            elif begun and not _THINKS.startswith(begun):
                state = "answer"
                yield held
        if state == "thoughts" and _THOUGHT in held:
            state = "answer"
            if after := held.split(_THOUGHT, 1)[1]:
                yield after
    if state == "start" and held:
        yield held


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """Yield the text up to the first of the strings in `stops`."""
    waiting = ""
    for piece in pieces:
        ready, waiting, stopped = split_at_stop(waiting + piece, stops)
        if ready:
            yield ready
        if stopped:
            return
    if waiting:
        yield waiting


def loops(text: str) -> bool:
    """Whether the text ends with a run of words that it has said before, again and again."""
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    last = words[-RUN:]
    return len(last) == RUN and sum(words[i : i + RUN] == last for i in range(len(words) - RUN + 1)) >= TIMES


def one_line(text: str) -> str:
    """The text in one line, without Markdown, up to the second heading; the items of a list become sentences."""
    text = _PREFACE.sub("", text.strip())
    text = next((part for part in _HEADING.split(text) if part.strip()), "")
    text = _ITEM.sub(_next_sentence, _FIRST_ITEM.sub("", text))
    text = " ".join(re.sub(r"[*#`]+", "", text).split())
    is_quoted = text[:1] == text[-1:] == '"' and text.count('"') == 2
    return text.strip('"') if is_quoted else text


def _next_sentence(item: re.Match[str]) -> str:
    return ". " if item.string[: item.start()][-1:].isalnum() else " "
