"""Converts a chat model's streamed output into the sections of an explanation."""

import re
from collections.abc import Iterable, Iterator, Sequence

from emoreason.core.stop_strings import split_at_stop
from emoreason.explain.read.sections import HEADINGS

_MARKS = r"[\s#>*_\-+•]*(?:[(\[]?\d{1,2}[.):\]]+\s*)?[*_]*"
_NAMES = (
    r"(?:key |facial )?observations?",
    r"(?:overall )?(?:emotional )?interpretation",
    r"(?:final |overall )?conclusion",
)
_HEADINGS = tuple(re.compile(rf"{_MARKS}{name}[ \t]*[*_]*[ \t]*(?::|(?=\n))", re.I) for name in _NAMES)
_OPENINGS = ("key observations", "facial observations", "observations", "overall emotional interpretation",
             "emotional interpretation", "interpretation", "overall interpretation", "final conclusion",
             "overall conclusion", "conclusion")  # fmt: skip
_BULLET = re.compile(r"\s*(?:[-*•+]\s+|\d{1,2}[.)]\s+)")
_THINKS, _THOUGHT = "<think>", "</think>"


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


class SectionStream:
    """Extracts the wanted sections from raw text, each as one line under our own heading; other sections are dropped.

    Text before any heading belongs to the first wanted section. List items become sentences; Markdown is removed.
    """

    def __init__(self, wanted: Sequence[str]):
        self._wanted, self._current = tuple(wanted), wanted[0]
        self._buffer, self._fresh, self._last, self._space = "", True, "", False
        self._begun = False  # whether a word of the current section went out
        self._broken = False  # whether the last word ended a line

    def feed(self, piece: str) -> str:
        """Add raw text; returns the text that is ready."""
        self._buffer += piece
        return self._ready(False)

    def close(self) -> str:
        """End the text; returns what was still held back."""
        self._buffer += "\n"
        return self._ready(True)

    def _ready(self, ended: bool) -> str:
        out = ""
        while self._buffer:
            if self._fresh:
                if self._undecided() and not ended:
                    break
                heading = next(((n, m) for n, h in enumerate(_HEADINGS) if (m := h.match(self._buffer))), None)
                if heading:
                    out += self._start_section(HEADINGS[heading[0]])
                    self._buffer = self._buffer[heading[1].end() :]
                    continue
                bullet = _BULLET.match(self._buffer)
                self._buffer = self._buffer[bullet.end() :] if bullet else self._buffer.lstrip()
                if self._broken and self._last.isalnum() and (bullet or self._buffer[:1].isupper()):
                    out += self._full_stop()  # the items of a list become sentences
                self._fresh = self._broken = False
            line, newline, rest = self._buffer.partition("\n")
            out += self._clean(line)
            self._buffer = rest
            if newline:
                self._space = self._fresh = self._broken = True
        return out

    def _undecided(self) -> bool:
        """Whether the line may still turn out to be a heading or a list item."""
        letter = re.search(r"[^\W\d_]", self._buffer)
        if letter is None:
            return True
        begun = self._buffer[letter.start() :].casefold()
        return not re.search(r"[\n:]", begun) and any(name.startswith(begun.rstrip("*_ ")) for name in _OPENINGS)

    def _start_section(self, heading: str) -> str:
        if heading == self._current or heading not in self._wanted:
            self._current = heading
            return ""
        self._current, self._space, self._last, self._begun = heading, True, "", False
        return f"\n{heading}:"

    def _full_stop(self) -> str:
        if self._current not in self._wanted:
            return ""
        self._last = "."
        return "."

    def _clean(self, text: str) -> str:
        if self._current not in self._wanted:
            return ""
        text = re.sub(r"\s+", " ", text.replace("*", ""))
        if not text.strip():
            self._space = self._space or bool(text)
            return ""
        lead = " " if self._space or not self._begun or text[0] == " " else ""
        self._space, self._begun = text[-1] == " ", True
        text = text.strip()
        self._last = text[-1]
        return lead + text


def one_line(text: str) -> str:
    """Remove Markdown and line breaks."""
    return " ".join(re.sub(r"[*#]+", "", text).split())
