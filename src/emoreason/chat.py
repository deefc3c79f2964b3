"""Chat about pictures: takes messages in the usual chat format and yields the reply as it is written.

    messages = [{"role": "user", "content": [{"type": "image", "image": "photo.jpg"}]}]
    for piece in model.chat(messages, stream=True): ...

The reply to a message with pictures explains them. A message without pictures is a question about the faces seen so
far: "face 2", "the left one", "who smiles most?". A question that names no face is about the face that the
conversation is about.
"""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.probabilities import percent
from emoreason.core.types import Picture
from emoreason.explain.explanation import Answer, Explanation, Piece, Question, Style, Turn, consume
from emoreason.explain.read.faces import asked_faces
from emoreason.explain.sheet import Placed, Sheet, place_in_row
from emoreason.media.images import Limits, open_picture

if TYPE_CHECKING:
    from emoreason.analysis import Analysis, FaceAnalysis
    from emoreason.core.types import Face

NO_FACE = "No face was found in this picture. If it is a tight crop of a face, turn face detection off and try again."
NO_PICTURE = "Give me a picture of a face first; then I can say what it shows and answer questions about it."
REMEMBERED = 3  # earlier questions about the same picture that the model sees again
IN_VIEW = 6  # faces whose sheets the model reads with a question
_NUMBERED = re.compile(r"^Face \d+\n", re.M)


# ---- events of a reply -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Queued:
    """Other requests come first; sent again whenever their number changes."""

    ahead: int


@dataclass(frozen=True)
class FacesMeasured:
    """The analyses of the message's pictures, before their explanations are written."""

    analyses: tuple["Analysis", ...]
    first: int  # number of the first face; faces are numbered from 1 through the whole conversation


@dataclass(frozen=True)
class TextStarted:
    """The text about the face with this number follows; None stands for a picture without a face."""

    number: int | None
    alone: bool  # no other face in the conversation so far


@dataclass(frozen=True)
class Explained:
    """The analyses of the message's pictures, with explanations."""

    analyses: tuple["Analysis", ...]


@dataclass(frozen=True)
class AnswerStarted:
    """The answer to the question follows; it is about the faces with these numbers."""

    about: tuple[int, ...]


Event = str | Queued | FacesMeasured | TextStarted | Explained | AnswerStarted


class ChatModel(Protocol):
    """The methods of a model that a chat uses. Reasoner and engine.Caller both have them."""

    @property
    def name(self) -> str: ...

    @property
    def has_words(self) -> bool: ...

    def faces(self, picture: Picture, detect: bool = True) -> list["Face"]: ...

    def analyze_faces(
        self, pictures: Sequence[tuple[Picture, list["Face"]]], labels: Sequence[str] | None = None
    ) -> list["Analysis"]: ...

    def explain(
        self, analyses: Sequence["Analysis"], decide: str = "evidence", style: Style = Style()
    ) -> Generator[Any, None, list["Analysis"]]: ...

    def answer(self, questions: Sequence[Question], style: Style = Style()) -> Generator[Any, None, list[Answer]]: ...


@dataclass(frozen=True)
class ChatOptions:
    """How to read the pictures of a message and how to word the reply."""

    labels: Sequence[str] | None = None
    detect: bool = True
    decide: str = "evidence"
    style: Style = Style()
    limits: Limits = Limits()


@dataclass
class Memory:
    """What the conversation has covered: the faces of its pictures and the questions about them."""

    faces: list["FaceAnalysis"] = field(default_factory=list)
    pictures: list[int] = field(default_factory=list)  # for each face, the number of its picture
    turns: list[Turn] = field(default_factory=list)  # Turn.about are indices of `faces`
    focus: int = 0  # index in `faces` of the face that the conversation is about

    def copy(self) -> "Memory":
        return Memory(list(self.faces), list(self.pictures), list(self.turns), self.focus)


# ---- messages in, text out -------------------------------------------------------------------------------------------


def chat(
    model: ChatModel, messages: Sequence[Mapping[str, Any]], options: ChatOptions = ChatOptions()
) -> Iterator[str]:
    """The reply to the last message, piece by piece. Earlier pictures are measured again but not explained again."""
    if not messages or messages[-1].get("role") != "user":
        raise UsageError("the last message has to be the user's: {'role': 'user', 'content': …}")
    if not model.has_words:
        raise UsageError(f"{model.name} has no language model to chat with: name one with --explainer")
    memory = Memory()
    for message, after in zip(messages, messages[1:], strict=False):
        if message.get("role") != "user":
            continue
        text, pictures = split_message(message)
        answer = split_message(after)[0] if after.get("role") == "assistant" else ""
        if pictures:
            remember(memory, _read_again(model, pictures, answer, options))
            answer = answer.rpartition("\n\n")[2]  # the answer to the text of the message follows the explanations
        if text.strip() and answer:
            _add_turn(memory, Turn(text, answer, _question(text, memory)[1] if memory.faces else ()))
    yield from reply(model, memory, messages[-1], options)


def _read_again(model: ChatModel, pictures: Sequence[Any], answer: str, options: ChatOptions) -> list["Analysis"]:
    """Measure the pictures of an earlier message and, where `answer` can be parsed, attach its explanations."""
    analyses = measure_pictures(model, pictures, options)
    if options.decide != "evidence":  # the model's verdict mattered, and only explaining again restores it
        return consume(model.explain(analyses, options.decide, options.style))
    faces = [face for analysis in analyses for face in analysis.faces]
    parts = _NUMBERED.split(answer.replace(NO_FACE, ""))
    texts = [part.strip().split("\n\n")[0] for part in parts if part.strip()]
    if len(texts) != len(faces):
        return analyses
    remaining = iter(texts)

    def explained(face: "FaceAnalysis") -> "FaceAnalysis":
        sheet = Sheet.of(face.evidence, options.style.brief)
        return replace(face, explanation=Explanation.of(next(remaining), sheet, model.name, free=True))

    return [replace(analysis, faces=tuple(map(explained, analysis.faces))) for analysis in analyses]


def measure_pictures(model: ChatModel, pictures: Sequence[Any], options: ChatOptions) -> list["Analysis"]:
    """Analyses of the pictures without explanations; all faces go through the encoder in one batch."""
    opened = [
        picture if isinstance(picture, Picture) else open_picture(picture, options.limits) for picture in pictures
    ]
    return model.analyze_faces([(picture, model.faces(picture, options.detect)) for picture in opened], options.labels)


def reply(
    model: ChatModel, memory: Memory, message: Mapping[str, Any], options: ChatOptions = ChatOptions()
) -> Generator[str, None, None]:
    """Reply to one more message of a conversation, as text. Adds the new faces and turns to `memory`."""
    any_text, prefix = False, ""
    for event in converse(model, memory, message, options):
        match event:
            case TextStarted(number, alone):
                prefix = ("\n\n" if any_text else "") + (f"Face {number}\n" if number and not alone else "")
            case AnswerStarted():
                prefix = "\n\n" if any_text else ""
            case str():
                yield prefix + event
                any_text, prefix = True, ""


# ---- the same as a stream of events ----------------------------------------------------------------------------------


def converse(
    model: ChatModel, memory: Memory, message: Mapping[str, Any], options: ChatOptions = ChatOptions()
) -> Generator[Event, None, None]:
    """Reply to one more message as events and text. Adds the new faces and turns to `memory`.

    Closing the generator stops the model; faces that were measured by then stay in `memory`."""
    text, pictures = split_message(message)
    if pictures:
        analyses = measure_pictures(model, pictures, options)
        first = len(memory.faces)
        remember(memory, analyses)
        yield FacesMeasured(tuple(analyses), first + 1)
        explained = yield from _explained(model, memory, analyses, first, options)
        yield Explained(tuple(explained))
        if not text.strip():
            return
    if not memory.faces:
        if not pictures:
            yield TextStarted(None, alone=True)
            yield NO_PICTURE
        return
    question, about = _question(text, memory)
    yield AnswerStarted(tuple(index + 1 for index in about))
    [answer] = yield from _texts(model.answer([question], options.style))
    _add_turn(memory, Turn(text, answer.text, about))


def _add_turn(memory: Memory, turn: Turn) -> None:
    memory.turns.append(turn)
    if len(turn.about) == 1:
        memory.focus = turn.about[0]


def _question(text: str, memory: Memory) -> tuple[Question, tuple[int, ...]]:
    """The question with the faces in view, and the indices in `memory.faces` of those that it is about."""
    before = memory.turns[-1].about if memory.turns else ()
    asked, missing = asked_faces(text, placed(memory, range(len(memory.faces))), memory.focus, before)
    shown = _in_view(memory, asked)
    faces, focus = placed(memory, shown), shown.index(memory.focus)
    about = tuple(shown.index(i) for i in asked if i in shown)
    history = [turn._replace(about=tuple(shown.index(i) for i in turn.about if i in shown))
               for turn in memory.turns[-REMEMBERED:]]  # fmt: skip
    in_view = [memory.faces[index] for index in shown]
    question = Question(text, faces, focus, about, [face.face.crop for face in in_view],
                        memory.faces[memory.focus].explanation, history, missing)  # fmt: skip
    return question, tuple(shown[index] for index in about)


def _in_view(memory: Memory, asked: Sequence[int]) -> list[int]:
    """Indices of the faces that the model reads about: the conversation's, those asked about, and the last ones."""
    wanted = (memory.focus, *asked, *reversed(range(len(memory.faces))))
    return sorted(list(dict.fromkeys(wanted))[:IN_VIEW])


def placed(memory: Memory, shown: Sequence[int]) -> list[Placed]:
    """The faces with their numbers and places: "left" and "right" in one picture, else "picture 2"."""
    several = len({memory.pictures[index] for index in shown}) > 1
    faces = []
    for index in shown:
        beside = [i for i, picture in enumerate(memory.pictures) if picture == memory.pictures[index]]
        place = place_in_row(beside.index(index), len(beside))
        if several:
            place = f"picture {memory.pictures[index]}" + (f", {place}" if place else "")
        faces.append(Placed(_sheet(memory.faces[index]), index + 1, place))
    return faces


def _explained(
    model: ChatModel, memory: Memory, analyses: list["Analysis"], at: int, options: ChatOptions
) -> Generator[Event, None, list["Analysis"]]:
    """Explain one face after the other, so that each text can be read while it is written; `at`: index of the first."""
    done = []
    for analysis in analyses:
        if not analysis.faces:
            yield TextStarted(None, alone=len(memory.faces) == 0)
            yield NO_FACE
        faces = []
        for face in analysis.faces:
            yield TextStarted(at + 1, alone=len(memory.faces) == 1)
            [result] = yield from _texts(
                model.explain([replace(analysis, faces=(face,))], options.decide, options.style)
            )
            memory.faces[at] = result.faces[0]
            if not model.has_words:
                yield _label_only(face)
            faces.append(memory.faces[at])
            at += 1
        done.append(replace(analysis, faces=tuple(faces)))
    return done


def _label_only(face: "FaceAnalysis") -> str:
    """The text for a model without an explainer."""
    if face.evidence.abstained:
        return f"No answer: {face.evidence.why}."
    return (
        f"The expression shown is read as {face.label} ({percent(face.confidence)}). "
        "This model has no language model to explain why."
    )


def _texts(pieces: Generator[Any, None, Any]) -> Generator[Event, None, Any]:
    """The text of each Piece; other events pass through. Returns what `pieces` returns."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as done:
            return done.value
        if not isinstance(piece, Piece):
            yield piece
        elif piece.text:
            yield piece.text


def remember(memory: Memory, analyses: Sequence["Analysis"]) -> None:
    first, picture = len(memory.faces), max(memory.pictures, default=0)
    for analysis in analyses:
        picture += bool(analysis.faces)
        memory.faces += analysis.faces
        memory.pictures += [picture] * len(analysis.faces)
    if len(memory.faces) > first:
        memory.focus = first
        memory.turns = []


def split_message(message: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Text and pictures of a message whose content is a string or a list of text, image and image_url parts."""
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
                raise EmoreasonError(
                    f"unknown message part of type {other!r}; known types are text, image and image_url"
                )
    return " ".join(texts), pictures


def _sheet(face: "FaceAnalysis") -> Sheet:
    explanation: Explanation | None = face.explanation
    return explanation.sheet if explanation else Sheet.of(face.evidence)
