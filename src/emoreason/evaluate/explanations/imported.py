"""Reads texts of other systems: the layouts of `data.messages` (ExpLLM, LLaVA, ShareGPT, TRL), or plain rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from emoreason.core.errors import EmoreasonError
from emoreason.core.messages import Conversation
from emoreason.data import messages
from emoreason.data.schema import label_name
from emoreason.explain.read.sections import parse

NAMES = ("image", "file_name", "source", "path", "id")
TEXTS = ("text", "explanation", "description", "response", "output", "prediction", "answer")
LABELS = ("label", "emotion", "emo")
CONVERSATIONS = ({"messages"}, {"conversations"}, {"file_name", "emo"})


@dataclass(frozen=True)
class Imported:
    name: str  # the picture's
    text: str
    label: str | None = None  # the annotated label of the face, if the file has it


def read_texts(path: str | Path) -> list[Imported]:
    """The texts of a JSON list or a JSON Lines file, in order."""
    path = Path(path)
    if not path.is_file():
        raise EmoreasonError(f"--texts {path}: no such file; expected JSON or JSON lines with an image and a text each")
    rows = _rows(path)
    if any(keys <= rows[0].keys() for keys in CONVERSATIONS):
        return [_from_conversation(conversation, i) for i, conversation in enumerate(messages.read(path))]
    return [_from_row(row, i, path) for i, row in enumerate(rows)]


def _rows(path: Path) -> list[Mapping[str, Any]]:
    content = path.read_text(encoding="utf-8-sig")
    try:
        listed = content.lstrip().startswith("[")
        rows = json.loads(content) if listed else [json.loads(line) for line in content.splitlines() if line.strip()]
    except ValueError as problem:
        raise EmoreasonError(f"--texts {path}: neither a JSON list nor JSON lines ({problem})") from None
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise EmoreasonError(f"--texts {path}: expected at least one object with an image and a text")
    return rows


def _from_row(row: Mapping[str, Any], number: int, path: Path) -> Imported:
    """The text of a row, under one of the usual keys. An `explanation` may be emoreason's own JSON object."""
    values = [row[key].get("text") if isinstance(row[key], Mapping) else row[key] for key in TEXTS if row.get(key)]
    text = next((value for value in values if isinstance(value, str)), None)
    if text is None:
        raise EmoreasonError(
            f"--texts {path}, row {number + 1}: no text under {', '.join(TEXTS)}; it has {', '.join(row)}"
        )
    label = next((row[key] for key in LABELS if isinstance(row.get(key), str)), None)
    name = next((str(row[key]) for key in NAMES if row.get(key)), str(number))
    return Imported(name, text, label_name(label) if label else None)


def _from_conversation(conversation: Conversation, number: int) -> Imported:
    """The first answer with the three sections, or else all answers together."""
    answers = [message.content for message in conversation.messages if message.role == "assistant"]
    text = next((answer for answer in answers if parse(answer)), "\n".join(answers))
    label = conversation.provenance.get("true_label") or conversation.provenance.get("label")
    name = conversation.images[0] if conversation.images else str(conversation.provenance.get("id", number))
    return Imported(name, text, label_name(label) if label else None)


def matched(texts: Iterable[Imported], ids: Sequence[str]) -> dict[str, Imported]:
    """Texts by the id of their face. Compares whole names, then file names, then file names without suffix."""
    texts = list(texts)
    found: dict[str, Imported] = {}
    for key in (str, _file, _stem):
        known = {key(id): id for id in ids}
        for text in texts:
            id = known.get(key(text.name))
            if id is not None:
                found.setdefault(id, text)
    return found


def _file(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


def _stem(name: str) -> str:
    return PurePosixPath(_file(name)).stem
