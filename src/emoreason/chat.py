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
from typing import TYPE_CHECKING, Any

from emoreason.errors import EmoreasonError, UsageError
from emoreason.explain.explanation import Explanation, Subject, Turn
from emoreason.explain.parser import parse
from emoreason.explain.sheet import Sheet

if TYPE_CHECKING:
    from emoreason.analysis import Analysis, FaceAnalysis
    from emoreason.reasoner import Reasoner

NO_FACE = "No face was found in this picture. If it is a tight crop of a face, ask for it to be read whole."
NO_PICTURE = "Give me a picture of a face first; then I can say what it shows and answer questions about it."
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


@dataclass
class Memory:
    """What a conversation has come to: the faces of its pictures, and the questions that were asked about them."""

    faces: list["FaceAnalysis"] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    latest: int = 0  # number of faces before the last picture's


def chat(
    reasoner: "Reasoner",
    messages: Sequence[Mapping[str, Any]],
    labels: Sequence[str] | None = None,
    detect: bool = True,
    decide: str = "evidence",
) -> Iterator[str]:
    """The answer to the last message, piece by piece. Earlier pictures are measured again, not explained again."""
    if not messages or messages[-1].get("role") != "user":
        raise UsageError("the last message has to be the user's: {'role': 'user', 'content': …}")
    memory = Memory()
    for i, message in enumerate(messages[:-1]):
        if message.get("role") != "user":
            continue
        text, pictures = parts(message)
        if pictures:
            told = str(messages[i + 1].get("content", "")) if i + 1 < len(messages) else ""
            remember(memory, [_read_again(reasoner, picture, told, labels, detect, decide) for picture in pictures])
        elif i + 1 < len(messages) and messages[i + 1].get("role") == "assistant":
            memory.turns.append(Turn(text, str(messages[i + 1].get("content", ""))))
    yield from reply(reasoner, memory, messages[-1], labels, detect, decide)


def _read_again(
    reasoner: "Reasoner", picture: Any, told: str, labels: Sequence[str] | None, detect: bool, decide: str
) -> "Analysis":
    """A picture of an earlier message, with what was said about it then where that can be told."""
    analysis = reasoner.analyze(picture, labels, detect, explain=decide != "evidence", decide=decide)
    if decide != "evidence" or len(analysis.faces) != 1 or parse(told) is None:
        return analysis
    face = analysis.faces[0]
    said = Explanation.of(told, Sheet.of(face.evidence), reasoner.name)
    return replace(analysis, faces=(replace(face, explanation=said),))


def reply(
    reasoner: "Reasoner",
    memory: Memory,
    message: Mapping[str, Any],
    labels: Sequence[str] | None = None,
    detect: bool = True,
    decide: str = "evidence",
) -> Generator[str, None, None]:
    """One more message in a conversation that is remembered; `memory` grows with it."""
    if reasoner.explainer is None:
        raise UsageError(f"{reasoner.name} has no language model to chat with: give one with --explainer")
    text, pictures = parts(message)
    if pictures:
        analyses = [reasoner.analyze(picture, labels, detect, explain=False) for picture in pictures]
        explained = yield from _told(reasoner, analyses, decide)
        remember(memory, explained)
        if not text.strip():
            return
        yield "\n\n"
    if not memory.faces:
        yield NO_FACE if pictures else NO_PICTURE
        return
    about, other = meant(text, memory)
    answer = ""
    subject = _subject(memory.faces[about])
    second = _subject(memory.faces[other]) if other is not None else None
    for piece in reasoner.explainer.answer(text, subject, memory.faces[about].explanation, memory.turns[-3:], second):
        answer += piece.text
        yield piece.text
    memory.turns.append(Turn(text, answer))


def _told(reasoner: "Reasoner", analyses: list["Analysis"], decide: str) -> Generator[str, None, list["Analysis"]]:
    """Explanations one face after the other, so that they can be read while they are written."""
    total = sum(len(analysis.faces) for analysis in analyses)
    number, done = 0, []
    for analysis in analyses:
        if not analysis.faces:
            yield NO_FACE
            done.append(analysis)
            continue
        faces = []
        for face in analysis.faces:
            number += 1
            if number > 1:
                yield "\n\n"
            if total > 1:
                yield f"Face {number}\n"
            alone = type(analysis)(analysis.picture, analysis.model, analysis.revision, analysis.prompt_id, (face,))
            pieces = reasoner.explain([alone], decide)
            while True:
                try:
                    yield next(pieces).text
                except StopIteration as end:
                    faces.append(end.value[0].faces[0])
                    break
        done.append(
            type(analysis)(analysis.picture, analysis.model, analysis.revision, analysis.prompt_id, tuple(faces))
        )
    return done


def remember(memory: Memory, analyses: Sequence["Analysis"]) -> None:
    found = [face for analysis in analyses for face in analysis.faces]
    if found:
        memory.latest = len(memory.faces)
        memory.faces += found
        memory.turns = []


def meant(text: str, memory: Memory) -> tuple[int, int | None]:
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


def parts(message: Mapping[str, Any]) -> tuple[str, list[Any]]:
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
