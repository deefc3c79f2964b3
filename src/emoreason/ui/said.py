"""An explanation as HTML for the conversation: the thoughts to fold away, and the conclusion.

Gradio reads messages as Markdown, which leaves a block of HTML alone until an empty line. So every part is one block on
one line, with its line breaks as character references.
"""

import re
from collections.abc import Iterator, Sequence
from html import escape

from emoreason.explain.explanation import Explanation
from emoreason.explain.parser import HEADINGS
from emoreason.explain.reading import Mention

_HEADING = re.compile(rf"(?:^|\n)[^\w\n]*({'|'.join(HEADINGS)})[ \t*_]*(?::[ \t*_]*|\n+|$)", re.IGNORECASE)


def explanation_html(explanation: Explanation, number: int) -> tuple[str, str]:
    """(thoughts, conclusion) of face `number`; the movements that the observations name can be pressed.

    A text without the three sections is not folded away: it is the conclusion as it stands."""
    sections = explanation.sections
    if sections is None:
        return "", _block(_plain(explanation.text))
    observations = _with_units(sections.observations, explanation.mentions, number)
    thoughts = _part(HEADINGS[0], observations) + _part(HEADINGS[1], _plain(sections.interpretation))
    return thoughts, _block(_plain(sections.conclusion))


def streaming(text: str) -> tuple[str, str]:
    """(thoughts, conclusion) of an explanation that is still written."""
    last = text.rpartition("\n")[2]
    if any(heading.startswith(last) for heading in HEADINGS):  # half a heading is not shown as a sentence
        text = text.removesuffix(last)
    first, *rest = _HEADING.split(text)
    thoughts = _block(_plain(first.strip())) if first.strip() else ""
    conclusion = ""
    for heading, body in zip(rest[::2], rest[1::2], strict=True):
        if heading.lower() == HEADINGS[2].lower():
            conclusion = _block(_plain(body.strip())) if body.strip() else ""
        else:
            thoughts += _part(heading, _plain(body.strip()))
    return thoughts, conclusion


def _part(heading: str, body: str) -> str:
    return f'<div class="er-said"><b class="er-part">{_plain(heading)}</b><span>{body}</span></div>'


def _block(body: str) -> str:
    return f'<div class="er-said">{body}</div>'


def _plain(text: str) -> str:
    return escape(text).replace("\r", "&#13;").replace("\n", "&#10;")


def _with_units(text: str, mentions: Sequence[Mention], number: int) -> str:
    pieces, end = [], 0
    for group in _together(mentions):
        start, stop = group[0].start, max(m.end for m in group)
        codes = " ".join(dict.fromkeys(m.action_unit for m in group))
        regions = " ".join(dict.fromkeys(m.region for m in group))
        pieces.append(_plain(text[end:start]))
        pieces.append(
            f'<span class="er-au" role="button" tabindex="0" aria-pressed="false" data-au="{escape(codes)}"'
            f' data-region="{escape(regions)}" data-face="{number}">{_plain(text[start:stop])}</span>'
        )
        end = stop
    return "".join(pieces) + _plain(text[end:])


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
