"""What all explainers share: the parts of a text and the way they came, the built-in parts, seeds."""

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from emoreason.explain.check.explanations import MODEL, RETRIED, WRITTEN
from emoreason.explain.explanation import Explanation, Question, Style, Subject
from emoreason.explain.read.sections import Sections
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.explain.write.explanation import Parts, write

CANDIDATES = 4  # texts of one part, until one passes the checks
RETRY_TEMPERATURE = 0.7
VARIED = 0.7  # temperature for another wording
TURNS = 3  # earlier questions that the model sees again
ROUTES = (MODEL, RETRIED, WRITTEN)  # from best to worst
UNREAD = "Nothing can be said about the movements of this face."


@dataclass(frozen=True)
class Part:
    text: str
    route: str


def unread(sheet: Sheet, name: str) -> Explanation:
    """The explanation of a face without measurements: there is nothing to write about."""
    reading = write(sheet, None, random.Random(zlib.crc32(sheet.why.encode()))).reading
    text = Sections(UNREAD, "There is nothing to weigh.", reading).text()
    return Explanation.of(text, sheet, name, WRITTEN)


def built_in(subject: Subject, verdict: Reasoned | None) -> Parts:
    return write(subject.sheet, verdict, random.Random(seed(subject)))


def worst(parts: Sequence[Part]) -> str:
    return max((part.route for part in parts), key=ROUTES.index)


def temperature(style: Style) -> float:
    if style.temperature is not None:
        return style.temperature
    return VARIED if style.variation else 0.0


def seed(subject: Subject, more: str = "") -> int:
    """A seed per face, so that the same face gets the same text again.

    It is computed from the picture, because the last digits of measurements vary with the batch."""
    return zlib.crc32(more.encode(), zlib.crc32(subject.crop.tobytes()))


def numbers(question: Question, about: Sequence[int]) -> list[int]:
    """The numbers of these faces, as far as they are in view."""
    return [question.faces[i].number for i in about if i < len(question.faces)]
