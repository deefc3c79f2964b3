"""An explanation as Markdown for the conversation: the thoughts to fold away, and the conclusion.

No text is read as Markdown or HTML: letters that would act are character references. Gradio keeps the classes of a span
and drops its data attributes, so the unit, the region and the face stand in classes; page.js reads them there.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape

from emoreason.explain.explanation import Explanation
from emoreason.explain.read.claims import Mention, mentions
from emoreason.explain.read.sections import HEADINGS, parse

_HEADING = re.compile(rf"(?:^|\n)[^\w\n]*({'|'.join(HEADINGS)})[ \t*_]*(?::[ \t*_]*|\n+|$)", re.IGNORECASE)
_ACTIVE = re.compile(r"[\\`*_\[\]#~|$@\r]|:(?=//)|^[ \t\-+=\d]+", re.MULTILINE)  # in Markdown, some at line starts only


def explanation_html(explanation: Explanation, number: int) -> tuple[str, str]:
    """(thoughts, conclusion) of face `number`; the movements that the observations name can be pressed.

    A text without the three sections is not folded away: it is the conclusion as it stands."""
    return _html(explanation.text, number)


@lru_cache(maxsize=256)  # a conversation is shown again with every few words of its next answer
def _html(text: str, number: int) -> tuple[str, str]:
    sections = parse(text)
    if sections is None:
        return "", plain_text(text)
    observations = _with_units(sections.observations, mentions(sections.observations), number)
    thoughts = (_part(HEADINGS[0], observations), _part(HEADINGS[1], plain_text(sections.interpretation)))
    return "\n\n".join(thoughts), plain_text(sections.conclusion)


def streaming_html(text: str) -> tuple[str, str]:
    """(thoughts, conclusion) of an explanation that is still written."""
    last = text.rpartition("\n")[2]
    if any(heading.startswith(last) for heading in HEADINGS):  # half a heading is not shown as a sentence
        text = text.removesuffix(last)
    first, *rest = _HEADING.split(text)
    thoughts, conclusion = [plain_text(first.strip())], ""
    for heading, body in zip(rest[::2], rest[1::2], strict=True):
        if heading.lower() == HEADINGS[2].lower():
            conclusion = plain_text(body.strip())
        else:
            thoughts.append(_part(heading, plain_text(body.strip())))
    return "\n\n".join(filter(None, thoughts)), conclusion


def _part(heading: str, body: str) -> str:
    return f"**{heading}**\n\n{body}".rstrip()


def plain_text(text: str) -> str:
    """Text that is read as neither Markdown nor HTML."""
    return _ACTIVE.sub(lambda found: "".join(f"&#{ord(letter)};" for letter in found[0]), escape(text, quote=False))


def _with_units(text: str, mentions: Sequence[Mention], number: int) -> str:
    pieces, end = [], 0
    for group in _together(mentions):
        start, stop = group[0].start, max(m.end for m in group)
        units = dict.fromkeys(f"er-unit-{m.action_unit}" for m in group)
        regions = dict.fromkeys(f"er-region-{m.region}" for m in group)
        names = " ".join(("er-au", f"er-face-{number}", *units, *regions))
        pressed = f'<span class="{names}" role="button" tabindex="0">{plain_text(text[start:stop])}</span>'
        pieces += [plain_text(text[end:start]), pressed]
        end = stop
    return "".join(pieces) + plain_text(text[end:])


def _together(mentions: Sequence[Mention]) -> Iterator[list[Mention]]:
    """Mentions whose places overlap share one span."""
    group: list[Mention] = []
    for mention in sorted(mentions, key=lambda m: (m.start, m.end)):
        if group and mention.start >= max(m.end for m in group):
            yield group
            group = []
        group.append(mention)
    if group:
        yield group
