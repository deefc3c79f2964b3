"""Conversations as data: messages by role, with marks where pictures stand."""

from dataclasses import dataclass, field
from typing import Any

from emoreason.core.errors import EmoreasonError

IMAGE = "<image>"  # where the picture stands in a message
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """Turns of user and assistant about pictures, each of which has its mark in a message. Checked when it is made."""

    messages: tuple[Message, ...]
    images: tuple[str, ...] = ()  # paths, relative to the file that holds the conversation
    evidence: dict[str, Any] | None = None  # units, probabilities, votes, verdict_message
    provenance: dict[str, Any] = field(default_factory=dict)  # where the text comes from

    def __post_init__(self) -> None:
        roles = [message.role for message in self.messages]
        unknown = next((role for role in roles if role not in ROLES), None)
        if unknown is not None:
            raise EmoreasonError(f"role {unknown!r} is not one of {', '.join(ROLES)}")
        turns = roles[1:] if roles[:1] == ["system"] else roles
        if not turns or len(turns) % 2 or turns != ["user", "assistant"] * (len(turns) // 2):
            said = ", ".join(roles) or "no message"
            raise EmoreasonError(
                f"the turns are {said}: expected user and assistant by turns, after a system text if any"
            )
        marks = sum(message.content.count(IMAGE) for message in self.messages)
        if marks != len(self.images):
            raise EmoreasonError(
                f"{marks} mark(s) {IMAGE} for {len(self.images)} picture(s): one mark for each is needed"
            )

    def to_dict(self) -> dict[str, Any]:
        messages = [{"role": message.role, "content": message.content} for message in self.messages]
        return {
            "messages": messages,
            "images": list(self.images),
            "evidence": self.evidence,
            "provenance": self.provenance,
        }
