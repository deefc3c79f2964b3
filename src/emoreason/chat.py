"""A conversation about pictures: messages in the usual layout go in, text comes out as it is written.

    messages = [{"role": "user", "content": [{"type": "image", "image": "photo.jpg"}]}]
    for piece in model.chat(messages, stream=True): ...

A message that brings pictures is answered by their explanations. A message without is a question about the faces
before it: "face 2", "the left one", "compare the two"; without a word for it, the first face of the last picture is
meant.
"""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.probabilities import percent
from emoreason.core.types import Picture
from emoreason.explain.explanation import Explanation, Piece, Question, Style, Subject, Turn, consume
from emoreason.explain.read.sections import parse
from emoreason.explain.sheet import Sheet
from emoreason.media.images import Limits, open_picture

if TYPE_CHECKING:
    from emoreason.analysis import Analysis, FaceAnalysis
    from emoreason.core.types import Face

NO_FACE = "No face was found in this picture. If it is a tight crop of a face, ask for it to be read whole."
NO_PICTURE = "Give me a picture of a face first; then I can say what it shows and answer questions about it."
REMEMBERED = 3  # earlier questions about the same picture
_ORDINALS = {
    "first": 0,
    "second": 1,
    "third": 2,
    "fourth": 3,
    "last": -1,
    "left": 0,
    "leftmost": 0,
    "right": -1,
    "rightmost": -1,
}
_COMPARE = re.compile(r"\b(compare|difference|differ|both|two faces|the two|each other)\b", re.I)
_NUMBERED = re.compile(r"^Face \d+\n", re.M)


# ---- what happens while a message is answered ------------------------------------------------------------------------


@dataclass(frozen=True)
class Queued:
    """Others come first; told again while it lasts."""

    ahead: int


@dataclass(frozen=True)
class FacesMeasured:
    """The pictures of the message, before a word about them."""

    analyses: tuple["Analysis", ...]
    first: int  # number of their first face, counted from 1 through the conversation


@dataclass(frozen=True)
class TextStarted:
    """The text about a face follows; None: about a picture without one."""

    number: int | None
    alone: bool  # the only face of the conversation so far


@dataclass(frozen=True)
class Explained:
    """The pictures of the message, explained."""

    analyses: tuple["Analysis", ...]


@dataclass(frozen=True)
class AnswerStarted:
    """The answer to the question follows; it is about the faces of these numbers."""

    about: tuple[int, ...]


Event = str | Queued | FacesMeasured | TextStarted | Explained | AnswerStarted


class ChatModel(Protocol):
    """What a conversation needs of a model: a Reasoner has it, and so has the Caller of an Engine."""

    @property
    def name(self) -> str: ...

    @property
    def has_words(self) -> bool: ...

    def faces(self, picture: Picture, detect: bool = True) -> list["Face"]: ...

    def analyze_faces(
        self, pictures: Sequence[tuple[Picture, list["Face"]]], labels: Sequence[str] | None = None
    ) -> list["Analysis"]: ...

    def explain(
        self, analyses: Sequence["Analysis"], decide: str = "evidence", manner: Style = Style()
    ) -> Generator[Any, None, list["Analysis"]]: ...

    def answer(self, questions: Sequence[Question], manner: Style = Style()) -> Generator[Any, None, list[str]]: ...


@dataclass(frozen=True)
class ChatOptions:
    """How the pictures of a message are read, and how the answer is said."""

    labels: Sequence[str] | None = None
    detect: bool = True
    decide: str = "evidence"
    manner: Style = Style()
    limits: Limits = Limits()


@dataclass
class Memory:
    """What a conversation has come to: the faces of its pictures, and the questions that were asked about them."""

    faces: list["FaceAnalysis"] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    latest: int = 0  # number of faces before the last picture's

    def copy(self) -> "Memory":
        return Memory(list(self.faces), list(self.turns), self.latest)


# ---- messages in, text out -------------------------------------------------------------------------------------------


def chat(reads: ChatModel, messages: Sequence[Mapping[str, Any]], asking: ChatOptions = ChatOptions()) -> Iterator[str]:
    """The answer to the last message, piece by piece. Earlier pictures are measured again, not explained again."""
    if not messages or messages[-1].get("role") != "user":
        raise UsageError("the last message has to be the user's: {'role': 'user', 'content': …}")
    if not reads.has_words:
        raise UsageError(f"{reads.name} has no language model to chat with: give one with --explainer")
    memory = Memory()
    for message, after in zip(messages, messages[1:], strict=False):
        if message.get("role") != "user":
            continue
        text, pictures = split_message(message)
        told = split_message(after)[0] if after.get("role") == "assistant" else ""
        if pictures:
            remember(memory, _read_again(reads, pictures, told, asking))
            told = told.rpartition("\n\n")[2]  # after the explanations comes the answer to the text beside the picture
        if text.strip() and told:
            memory.turns.append(Turn(text, told))
    yield from reply(reads, memory, messages[-1], asking)


def _read_again(reads: ChatModel, pictures: Sequence[Any], answer: str, asking: ChatOptions) -> list["Analysis"]:
    """Pictures of an earlier message, with what was said about them then where that can be told."""
    analyses = measure_pictures(reads, pictures, asking)
    if asking.decide != "evidence":  # the verdict decided, and only explaining again brings that back
        return consume(reads.explain(analyses, asking.decide, asking.manner))
    faces = [face for analysis in analyses for face in analysis.faces]
    texts = [part.split("\n\n")[0] for part in _NUMBERED.split(answer) if part.strip()]
    if len(texts) != len(faces) or not all(parse(text) for text in texts):
        return analyses
    said = iter(texts)

    def with_words(face: "FaceAnalysis") -> "FaceAnalysis":
        sheet = Sheet.of(face.evidence, asking.manner.brief)
        return replace(face, explanation=Explanation.of(next(said), sheet, reads.name))

    return [replace(analysis, faces=tuple(map(with_words, analysis.faces))) for analysis in analyses]


def measure_pictures(reads: ChatModel, pictures: Sequence[Any], asking: ChatOptions) -> list["Analysis"]:
    """Every face of the pictures, without words; all go through the encoder together."""
    opened = [picture if isinstance(picture, Picture) else open_picture(picture, asking.limits) for picture in pictures]
    return reads.analyze_faces([(picture, reads.faces(picture, asking.detect)) for picture in opened], asking.labels)


def reply(
    reads: ChatModel, memory: Memory, message: Mapping[str, Any], asking: ChatOptions = ChatOptions()
) -> Generator[str, None, None]:
    """One more message of a conversation that is remembered, as text; `memory` grows with it."""
    begun, before = False, ""
    for event in converse(reads, memory, message, asking):
        match event:
            case TextStarted(number, alone):
                before = ("\n\n" if begun else "") + (f"Face {number}\n" if number and not alone else "")
            case AnswerStarted():
                before = "\n\n" if begun else ""
            case str():
                yield before + event
                begun, before = True, ""


# ---- the same, step by step ------------------------------------------------------------------------------------------


def converse(
    reads: ChatModel, memory: Memory, message: Mapping[str, Any], asking: ChatOptions = ChatOptions()
) -> Generator[Event, None, None]:
    """One more message of a conversation: what was measured, and the text as it is written; `memory` grows with it.

    Closing it stops the model; what was measured by then is remembered."""
    text, pictures = split_message(message)
    if pictures:
        analyses = measure_pictures(reads, pictures, asking)
        first = len(memory.faces)
        remember(memory, analyses)
        yield FacesMeasured(tuple(analyses), first + 1)
        explained = yield from _explained(reads, memory, analyses, first, asking)
        yield Explained(tuple(explained))
        if not text.strip():
            return
    if not memory.faces:
        if not pictures:
            yield TextStarted(None, alone=True)
            yield NO_PICTURE
        return
    about, other = faces_asked_about(text, memory)
    yield AnswerStarted((about + 1,) if other is None else (about + 1, other + 1))
    asked = Question(text, _subject(memory.faces[about]), memory.faces[about].explanation, memory.turns[-REMEMBERED:],
                     _subject(memory.faces[other]) if other is not None else None)  # fmt: skip
    answer = yield from _texts(reads.answer([asked], asking.manner))
    memory.turns.append(Turn(text, answer[0]))


def _explained(
    reads: ChatModel, memory: Memory, analyses: list["Analysis"], at: int, asking: ChatOptions
) -> Generator[Event, None, list["Analysis"]]:
    """Explanations one face after the other, so that they can be read while they are written."""
    done = []
    for analysis in analyses:
        if not analysis.faces:
            yield TextStarted(None, alone=len(memory.faces) == 0)
            yield NO_FACE
        faces = []
        for face in analysis.faces:
            yield TextStarted(at + 1, alone=len(memory.faces) == 1)
            told = yield from _texts(reads.explain([replace(analysis, faces=(face,))], asking.decide, asking.manner))
            memory.faces[at] = told[0].faces[0]
            if not reads.has_words:
                yield _bare(face)
            faces.append(memory.faces[at])
            at += 1
        done.append(replace(analysis, faces=tuple(faces)))
    return done


def _bare(face: "FaceAnalysis") -> str:
    """What can be said without a language model."""
    if face.evidence.abstained:
        return f"No answer: {face.evidence.why}."
    return (
        f"The expression shown is read as {face.label} ({percent(face.confidence)}). This model has no words for why."
    )


def _texts(pieces: Generator[Any, None, Any]) -> Generator[Event, None, Any]:
    """The text of pieces that are all about one thing; waiting is passed on. The value is theirs."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as done:
            return done.value
        yield piece.text if isinstance(piece, Piece) else piece


def remember(memory: Memory, analyses: Sequence["Analysis"]) -> None:
    found = [face for analysis in analyses for face in analysis.faces]
    if found:
        memory.latest = len(memory.faces)
        memory.faces += found
        memory.turns = []


def faces_asked_about(text: str, memory: Memory) -> tuple[int, int | None]:
    """Which face a question is about, and which second one: places in `memory.faces`."""
    faces = len(memory.faces)
    named = [int(n) - 1 for n in re.findall(r"\b(?:face|person|picture|photo|number)\s*#?(\d+)", text, re.I)]
    named += [_ORDINALS[word] % faces for word in re.findall(r"\b(" + "|".join(_ORDINALS) + r")\b", text.lower())
              if re.search(rf"\b{word}\b\s*(one|face|person|picture|photo|man|woman|$|\?)", text.lower())]  # fmt: skip
    named = [n for n in dict.fromkeys(named) if 0 <= n < faces]
    if len(named) > 1:
        return named[0], named[1]
    if _COMPARE.search(text) and faces > 1:
        last = named[0] if named else faces - 1
        return (last - 1, last) if last else (0, 1)
    return (named[0] if named else min(memory.latest, faces - 1)), None


def split_message(message: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Text and pictures of a message: a string, or parts of type text, image and image_url."""
    content = message.get("content", "")
    if isinstance(content, str):
        return content, []
    texts, pictures = [], []
    for part in content:
        match part.get("type"):
            case "text":
                texts.append(part["text"])
            case "image":
                pictures.append(part["image"])
            case "image_url":
                url = part["image_url"]
                pictures.append(url["url"] if isinstance(url, Mapping) else url)
            case other:
                raise EmoreasonError(f"a part of type {other!r}: text, image and image_url are known")
    return " ".join(texts), pictures


def _subject(face: "FaceAnalysis") -> Subject:
    explanation: Explanation | None = face.explanation
    return Subject(explanation.sheet if explanation else Sheet.of(face.evidence), face.face.crop)
