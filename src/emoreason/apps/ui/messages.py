"""A conversation as the messages of Gradio's Chatbot, and which message is which."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from emoreason.apps.ui.conversation import Exchange, PageConversation
from emoreason.apps.ui.explanation_html import explanation_html, plain_text, streaming_html
from emoreason.apps.ui.words import words


@dataclass(frozen=True)
class MessagePlace:
    """What a message of the Chatbot shows."""

    exchange: int
    kind: str  # pictures, question, thoughts, conclusion, answer, note
    face: int | None = None


Message = dict[str, Any]


def messages(conversation: PageConversation) -> list[Message]:
    return [message for message, _ in _all(conversation)]


def places(conversation: PageConversation) -> list[MessagePlace]:
    """One for each message, in their order."""
    return [place for _, place in _all(conversation)]


def _all(conversation: PageConversation) -> Iterator[tuple[Message, MessagePlace]]:
    alone = len(conversation.faces()) == 1
    for at, exchange in enumerate(conversation.exchanges):
        for message, kind, face in _of(exchange, alone):
            yield message, MessagePlace(at, kind, face)


def _of(exchange: Exchange, alone: bool) -> Iterator[tuple[Message, str, int | None]]:
    said = words()["page"]
    if exchange.thumbnails:
        yield _user(_pictures(exchange)), "pictures", None
    elif exchange.names:
        yield _user(plain_text(", ".join(exchange.names))), "pictures", None
    if exchange.text:
        yield _user(plain_text(exchange.text)), "question", None
    for number, _, face in exchange.faces():
        if face.explanation is not None:
            thoughts, conclusion = explanation_html(face.explanation, number)
            yield from _face(number, thoughts, conclusion, alone, done=True)
        elif number in exchange.writing:
            thoughts, conclusion = streaming_html(exchange.writing[number])
            yield from _face(number, thoughts, conclusion, alone, done=not exchange.running or bool(conclusion))
    if exchange.answer:
        yield _assistant(plain_text(exchange.answer)), "answer", None
    if note := _note(exchange, said):
        yield _assistant(note), "note", None


def _face(
    number: int, thoughts: str, conclusion: str, alone: bool, done: bool
) -> Iterator[tuple[Message, str, int | None]]:
    """The thoughts can be folded away; the conclusion stands outside."""
    said = words()["page"]
    if thoughts:
        title = said["thoughts_alone"] if alone else said["thoughts"].format(number=number)
        metadata = {"title": title, "status": "done" if done else "pending"}
        yield _assistant(thoughts) | {"metadata": metadata}, "thoughts", number
    if conclusion:
        head = "" if alone else f"**{said['face'].format(number=number)}:** "
        yield _assistant(head + conclusion), "conclusion", number


def _note(exchange: Exchange, said: dict[str, str]) -> str:
    """What is to be said beside the answer: an error, that it was stopped, or what it waits for."""
    if exchange.error:
        return f'<span class="er-error">{plain_text(exchange.error)}</span>'
    if exchange.stopped:
        return f'<span class="er-quiet">{escape(said["stopped"])}</span>'
    if not exchange.running or exchange.answer or any(exchange.writing.values()):
        return ""
    if exchange.ahead:
        key = "ahead_one" if exchange.ahead == 1 else "ahead"
        return f'<span class="er-quiet">{escape(said[key].format(n=exchange.ahead))}</span>'
    doing = "loading" if exchange.loading else "looking" if exchange.names else "thinking"
    return f'<span class="er-quiet">{escape(said[doing])}</span>'


def _pictures(exchange: Exchange) -> str:
    shown = zip(exchange.thumbnails, exchange.names, strict=False)
    return "".join(f'<img class="er-sent" src="{uri}" alt="{escape(name)}">' for uri, name in shown)


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}
