"""Texts that another system wrote: ExpLLM's JSON, LLaVA's and ShareGPT's conversations, `messages`, or plain rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from emoreason.data.schema import label_name
from emoreason.errors import EmoreasonError
from emoreason.explain.parser import parse

NAMES = ("file_name", "image", "images", "source", "path", "id")
TEXTS = ("text", "description", "explanation", "response", "output", "prediction", "answer")
LABELS = ("emo", "label", "emotion")
TURNS = (("messages", "role", "content", "assistant"), ("conversations", "from", "value", "gpt"))


@dataclass(frozen=True)
class Imported:
    name: str
    text: str
    label: str | None = None  # what the face was annotated with, where the file says so


def read_texts(path: str | Path) -> list[Imported]:
    """The texts of a JSON list or of JSON lines, in order."""
    path = Path(path)
    if not path.is_file():
        raise EmoreasonError(f"--texts {path}: no such file; expected JSON or JSON lines with an image name and a text")
    content = path.read_text(encoding="utf-8")
    try:
        rows = json.loads(content) if content.lstrip().startswith("[") else [*_lines(content)]
    except ValueError as problem:
        raise EmoreasonError(f"--texts {path}: not JSON and not JSON lines ({problem})") from None
    found = [_imported(row, i) for i, row in enumerate(rows)]
    missing = [i for i, one in enumerate(found) if one is None]
    if missing or not found:
        where = f"row {missing[0] + 1} has none" if missing else "the file is empty"
        raise EmoreasonError(
            f"--texts {path}: a text was expected under one of {', '.join(TEXTS)}, messages or conversations; {where}"
        )
    return [one for one in found if one is not None]


def _lines(content: str) -> Iterator[Any]:
    return (json.loads(line) for line in content.splitlines() if line.strip())


def _imported(row: Any, number: int) -> Imported | None:
    if not isinstance(row, Mapping):
        return None
    text = next((told for key in TEXTS if (told := _told(row.get(key))) is not None), None) or _spoken(row)
    if text is None:
        return None
    name = next((row[key] for key in NAMES if row.get(key)), str(number))
    name = name[0] if isinstance(name, list) else name
    label = next((row[key] for key in LABELS if isinstance(row.get(key), str)), None)
    return Imported(str(name), text, label_name(label) if label else None)


def _told(value: Any) -> str | None:
    """A text, or emoreason's own JSON of an explanation."""
    return value.get("text") if isinstance(value, Mapping) else value if isinstance(value, str) else None


def _spoken(row: Mapping[str, Any]) -> str | None:
    """What the assistant says in a conversation: the answer that has the sections, or else all of its answers."""
    for key, who, what, assistant in TURNS:
        if isinstance(row.get(key), list):
            said = [turn[what] for turn in row[key] if turn.get(who) == assistant]
            return next((answer for answer in said if parse(answer)), "\n".join(said)) if said else None
    return None


def matched(texts: Iterable[Imported], ids: Sequence[str]) -> dict[str, Imported]:
    """Texts by the id of their face: by the whole name, else by the file's name, else by it without its ending."""
    found: dict[str, Imported] = {}
    for key in (str, _file, _stem):
        known = {key(id): id for id in ids}
        for one in texts:
            id = known.get(key(one.name))
            if id is not None:
                found.setdefault(id, one)
    return found


def _file(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


def _stem(name: str) -> str:
    return PurePosixPath(_file(name)).stem
