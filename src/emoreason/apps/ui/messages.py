"""A conversation as messages of Gradio's Chatbot, and what each message shows."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from emoreason.apps.ui.conversation import Exchange, PageConversation
from emoreason.apps.ui.explanation_html import escape_text, explanation_html
from emoreason.apps.ui.words import words


@dataclass(frozen=True)
class MessageRef:
    """Which part of the conversation a chatbot message shows."""

    exchange: int  # index in the conversation
    kind: str  # pictures, question, text, details, answer, note
    face: int | None = None


Message = dict[str, Any]


def messages(conversation: PageConversation) -> list[Message]:
    return [message for message, _ in _with_refs(conversation)]


def message_refs(conversation: PageConversation) -> list[MessageRef]:
    """One per message, in the same order."""
    return [ref for _, ref in _with_refs(conversation)]


def _with_refs(conversation: PageConversation) -> Iterator[tuple[Message, MessageRef]]:
    single = len(conversation.faces()) == 1
    for i, exchange in enumerate(conversation.exchanges):
        for message, kind, face in _exchange_messages(exchange, single):
            yield message, MessageRef(i, kind, face)


def _exchange_messages(exchange: Exchange, single_face: bool) -> Iterator[tuple[Message, str, int | None]]:
    texts = words()["page"]
    if exchange.thumbnails:
        yield _user(_pictures(exchange)), "pictures", None
    elif exchange.names:
        yield _user(escape_text(", ".join(exchange.names))), "pictures", None
    if exchange.text:
        yield _user(escape_text(exchange.text)), "question", None
    for number, _, face in exchange.faces():
        if face.explanation is not None:
            details, text = explanation_html(face.explanation, number)
            yield from _face(number, details, text, single_face)
        elif number in exchange.writing:
            yield from _face(number, "", escape_text(exchange.writing[number]), single_face)
    if exchange.answer:
        yield _assistant(escape_text(exchange.answer)), "answer", None
    if note := _note(exchange, texts):
        yield _assistant(note), "note", None


def _face(number: int, details: str, text: str, single_face: bool) -> Iterator[tuple[Message, str, int | None]]:
    """The messages of one face: the text, then its foldable details."""
    texts = words()["page"]
    if text:
        head = "" if single_face else f"**{texts['face'].format(number=number)}:** "
        yield _assistant(head + text), "text", number
    if details:
        title = texts["details_alone"] if single_face else texts["details"].format(number=number)
        yield _assistant(details) | {"metadata": {"title": title, "status": "done"}}, "details", number


def _note(exchange: Exchange, texts: dict[str, str]) -> str:
    """An error, that the answer was stopped, or what it is waiting for. Empty if there is nothing to say."""
    if exchange.error:
        return f'<span class="er-error">{escape_text(exchange.error)}</span>'
    if exchange.stopped:
        return f'<span class="er-quiet">{escape(texts["stopped"])}</span>'
    if not exchange.running or exchange.answer or any(exchange.writing.values()):
        return ""
    if exchange.ahead:
        key = "ahead_one" if exchange.ahead == 1 else "ahead"
        return f'<span class="er-quiet">{escape(texts[key].format(n=exchange.ahead))}</span>'
    state = "loading" if exchange.loading else "looking" if exchange.names else "thinking"
    return f'<span class="er-quiet">{escape(texts[state])}</span>'


def _pictures(exchange: Exchange) -> str:
    pairs = zip(exchange.thumbnails, exchange.names, strict=False)
    return "".join(f'<img class="er-sent" src="{uri}" alt="{escape(name)}">' for uri, name in pairs)


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}
