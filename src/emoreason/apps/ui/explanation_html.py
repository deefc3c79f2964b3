"""Explanations as Markdown for the chatbot: foldable thoughts, and the conclusion.

All text is escaped, so none of it acts as Markdown or HTML. Gradio keeps the classes of a span but drops its data
attributes, so the action unit, region and face are encoded as classes, which page.js reads.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape

from emoreason.explain.explanation import Explanation
from emoreason.explain.read.claims import Mention, mentions
from emoreason.explain.read.sections import HEADINGS, parse

_HEADING = re.compile(rf"(?:^|\n)[^\w\n]*({'|'.join(HEADINGS)})[ \t*_]*(?::[ \t*_]*|\n+|$)", re.IGNORECASE)
# Characters with a meaning in Markdown, some only at line starts.
_SPECIAL = re.compile(r"[\\`*_\[\]#~|$@\r]|:(?=//)|^[ \t\-+=\d]+", re.MULTILINE)


def explanation_html(explanation: Explanation, number: int) -> tuple[str, str]:
    """(thoughts, conclusion) of face `number`. Movements named in the observations become clickable.

    A text without the three sections becomes the conclusion as it is."""
    return _html(explanation.text, number)


@lru_cache(maxsize=256)  # the whole conversation is rendered again on every update
def _html(text: str, number: int) -> tuple[str, str]:
    sections = parse(text)
    if sections is None:
        return "", escape_text(text)
    observations = _mark_units(sections.observations, mentions(sections.observations), number)
    thoughts = (_section(HEADINGS[0], observations), _section(HEADINGS[1], escape_text(sections.interpretation)))
    return "\n\n".join(thoughts), escape_text(sections.conclusion)


def streaming_html(text: str) -> tuple[str, str]:
    """(thoughts, conclusion) of an unfinished explanation."""
    last = text.rpartition("\n")[2]
    if any(heading.startswith(last) for heading in HEADINGS):  # hide an unfinished heading
        text = text.removesuffix(last)
    first, *rest = _HEADING.split(text)
    thoughts, conclusion = [escape_text(first.strip())], ""
    for heading, body in zip(rest[::2], rest[1::2], strict=True):
        if heading.lower() == HEADINGS[2].lower():
            conclusion = escape_text(body.strip())
        else:
            thoughts.append(_section(heading, escape_text(body.strip())))
    return "\n\n".join(filter(None, thoughts)), conclusion


def _section(heading: str, body: str) -> str:
    return f"**{heading}**\n\n{body}".rstrip()


def escape_text(text: str) -> str:
    """Escapes text so that it shows as it is, not as Markdown or HTML."""
    return _SPECIAL.sub(lambda match: "".join(f"&#{ord(letter)};" for letter in match[0]), escape(text, quote=False))


def _mark_units(text: str, mentions: Sequence[Mention], number: int) -> str:
    pieces, end = [], 0
    for group in _overlapping(mentions):
        start, stop = group[0].start, max(m.end for m in group)
        units = dict.fromkeys(f"er-unit-{m.action_unit}" for m in group)
        regions = dict.fromkeys(f"er-region-{m.region}" for m in group)
        classes = " ".join(("er-au", f"er-face-{number}", *units, *regions))
        span = f'<span class="{classes}" role="button" tabindex="0">{escape_text(text[start:stop])}</span>'
        pieces += [escape_text(text[end:start]), span]
        end = stop
    return "".join(pieces) + escape_text(text[end:])


def _overlapping(mentions: Sequence[Mention]) -> Iterator[list[Mention]]:
    """Groups mentions that overlap in the text; each group gets one span."""
    group: list[Mention] = []
    for mention in sorted(mentions, key=lambda m: (m.start, m.end)):
        if group and mention.start >= max(m.end for m in group):
            yield group
            group = []
        group.append(mention)
    if group:
        yield group
