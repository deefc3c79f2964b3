"""Conversations as data: messages by role, with a placeholder for each picture."""

from dataclasses import dataclass, field
from typing import Any

from emoreason.core.errors import EmoreasonError

IMAGE = "<image>"  # placeholder for a picture in a message
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """Alternating turns of user and assistant about pictures. Checked when it is created."""

    messages: tuple[Message, ...]
    images: tuple[str, ...] = ()  # paths, relative to the file that holds the conversation
    evidence: dict[str, Any] | None = None  # units, probabilities, votes, verdict_message
    provenance: dict[str, Any] = field(default_factory=dict)  # the origin of the text

    def __post_init__(self) -> None:
        roles = [message.role for message in self.messages]
        unknown = next((role for role in roles if role not in ROLES), None)
        if unknown is not None:
            raise EmoreasonError(f"role {unknown!r} is not one of {', '.join(ROLES)}")
        turns = roles[1:] if roles[:1] == ["system"] else roles
        if not turns or len(turns) % 2 or turns != ["user", "assistant"] * (len(turns) // 2):
            found = ", ".join(roles) or "no message"
            raise EmoreasonError(
                f"the turns are {found}: expected user and assistant in turn, after an optional system message"
            )
        marks = sum(message.content.count(IMAGE) for message in self.messages)
        if marks != len(self.images):
            raise EmoreasonError(
                f"{marks} mark(s) {IMAGE} for {len(self.images)} picture(s): expected one mark for each"
            )

    def to_dict(self) -> dict[str, Any]:
        messages = [{"role": message.role, "content": message.content} for message in self.messages]
        return {
            "messages": messages,
            "images": list(self.images),
            "evidence": self.evidence,
            "provenance": self.provenance,
        }
