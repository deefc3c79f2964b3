"""Explanations as Markdown for the chatbot: the text, and its three steps as foldable details.

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

# Characters with a meaning in Markdown, some only at line starts.
_SPECIAL = re.compile(r"[\\`*_\[\]#~|$@\r]|:(?=//)|^[ \t\-+=\d]+", re.MULTILINE)


def explanation_html(explanation: Explanation, number: int) -> tuple[str, str]:
    """(details, text) of face `number`. Movements named in what is seen become clickable.

    A text without the three sections has no details."""
    return _html(explanation.text, bool(explanation.sheet.units), number)


@lru_cache(maxsize=256)  # the whole conversation is rendered again on every update
def _html(text: str, was_read: bool, number: int) -> tuple[str, str]:
    sections = parse(text)
    if sections is None:
        return "", escape_text(text)
    if not was_read:
        return "", escape_text(sections.conclusion)
    seen = _mark_units(sections.observations, mentions(sections.observations), number)
    shown = " ".join((escape_text(sections.conclusion), seen, escape_text(sections.interpretation)))
    bodies = (sections.observations, sections.interpretation, sections.conclusion)
    details = [_section(heading, escape_text(body)) for heading, body in zip(HEADINGS, bodies, strict=True)]
    return "\n\n".join(details), shown


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
