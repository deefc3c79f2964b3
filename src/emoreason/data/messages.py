"""Training text in the plain `messages` + `images` layout that TRL, LLaMA-Factory and ms-swift read, one JSON a line."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emoreason.errors import EmoreasonError

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    messages: tuple[Message, ...]
    images: tuple[str, ...] = ()  # paths, relative to the file that holds the conversation
    evidence: dict[str, Any] | None = None  # units, probabilities, votes, verdict_message
    provenance: dict[str, Any] = field(default_factory=dict)  # where the text comes from

    def to_dict(self) -> dict[str, Any]:
        messages = [{"role": message.role, "content": message.content} for message in self.messages]
        return {"messages": messages, "images": list(self.images), "evidence": self.evidence,
                "provenance": self.provenance}  # fmt: skip


def read(path: str | Path) -> Iterator[Conversation]:
    """The conversations of a JSONL file; a line that is none is an error that names it."""
    path = Path(path)
    if not path.is_file():
        raise EmoreasonError(f"no file {path}: make one with `emoreason data describe DATA -o FOLDER`")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _conversation(line, f"{path}, line {number}")


def _conversation(line: str, where: str) -> Conversation:
    try:
        given = json.loads(line)
        messages = tuple(Message(message["role"], message["content"]) for message in given["messages"])
    except (ValueError, KeyError, TypeError) as error:
        raise EmoreasonError(f"{where}: a JSON object with `messages` of role and content was expected ({error})") from None
    wrong = next((message.role for message in messages if message.role not in ROLES), None)
    if wrong:
        raise EmoreasonError(f"{where}: role {wrong!r} is not one of {', '.join(ROLES)}")
    return Conversation(messages, tuple(given.get("images") or ()), given.get("evidence"), given.get("provenance") or {})


def write(conversations: Iterable[Conversation], path: str | Path) -> int:
    """Write them all, or nothing: the file appears when it is whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh, n = path.with_name(path.name + ".tmp"), 0
    with fresh.open("w", encoding="utf-8") as file:
        for conversation in conversations:
            file.write(json.dumps(conversation.to_dict(), ensure_ascii=False) + "\n")
            n += 1
    fresh.replace(path)
    return n
