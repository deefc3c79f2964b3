"""Turns one row of any table (CSV, JSONL, parquet, `datasets`) into a Sample, and finds the meaning of each column."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError
from emoreason.data import measures
from emoreason.data.protocols import VOTES
from emoreason.data.schema import Sample, broken, label_name, split_name
from emoreason.media.images import is_data_uri, is_url

# The first name that the table has is used. `emoreason label` writes the columns `source` and `p_<label>`.
IMAGE = ("image", "path", "file_name", "filename", "file", "image_path", "img", "source")
LABEL = ("label", "emotion", "expression", "class")
VOTED = ("votes", "distribution", "probabilities")
SPLIT = ("split", "usage", "partition")
EXPLANATION = ("explanation", "caption", "description", "rationale")
GROUPS = frozenset(
    ("gender", "sex", "race", "ethnicity", "skin_tone", "age", "age_band", "age_group")
    + ("subject", "subject_id", "person", "actor", "identity", "group")
)
_RENAMED = {"nf": "not_a_face", "unknown": "unknown", "not_a_face": "not_a_face"}


@dataclass(frozen=True)
class Columns:
    """The meaning of a table's columns."""

    image: str
    label: str | None
    votes: str | None
    split: str | None
    id: str | None
    groups: tuple[str, ...]
    probabilities: tuple[str, ...]
    vote_names: tuple[str, ...] = VOTES  # for votes given as a bare list
    class_names: tuple[str, ...] = ()  # for labels given as an index (ClassLabel)
    explanation: str | None = None
    units: Mapping[str, str] = field(default_factory=dict)  # code of an action unit -> column
    scale: float = 1.0  # the highest value that an action unit can have in this table
    valence: str | None = None
    arousal: str | None = None


def find_columns(names: Iterable[str], where: str, image: str | None = None, **known: Any) -> Columns:
    """The columns of a header. `image` names the picture column if it is known; a table without one is an error."""
    named = {str(n).strip().lower(): n for n in names}
    options = {"image": IMAGE, "label": LABEL, "votes": VOTED, "split": SPLIT, "id": ("id",)}
    options |= {"explanation": EXPLANATION, "valence": ("valence",), "arousal": ("arousal",)}
    first = {key: next((named[name] for name in choice if name in named), None) for key, choice in options.items()}
    first["image"] = image or first["image"]
    if first["image"] is None:
        raise EmoreasonError(
            f"{where}: no column for the picture among {', '.join(map(repr, named.values())) or '(none)'}; "
            f"expected one of {', '.join(IMAGE[:4])}. A label table has the header: path,label"
        )
    groups = tuple(n for low, n in named.items() if low in GROUPS or low.startswith("group_") or low == "groups")
    probabilities = tuple(n for low, n in named.items() if low.startswith("p_"))
    known["units"] = measures.unit_columns(named.values())
    return Columns(groups=groups, probabilities=probabilities, **first, **known)  # type: ignore[arg-type]


@dataclass(frozen=True)
class RowSource:
    """Where rows come from: the folder of relative paths, the name for error messages, the reader and the split."""

    root: Path
    name: str
    source: str
    split: str | None


def to_sample(row: Mapping[str, Any], columns: Columns, place: RowSource, index: int, line: int = 0) -> Sample:
    """One row as a Sample; an invalid row becomes a Sample with a problem. `line`: its line number in a text file."""
    split = (split_name(row.get(columns.split)) if columns.split else None) or place.split
    image, name = _image(row.get(columns.image), place.root)
    id = str((row.get(columns.id) if columns.id else None) or name or f"{place.name}:{index}")
    where = f"{place.name}, " + (f"line {line}" if line else f"row {index + 1}")
    if not image:
        return broken(id, f"{where}: no picture in column {columns.image!r}", place.source, split)
    word = row.get(columns.label) if columns.label else None
    if isinstance(word, Mapping | Sequence) and not isinstance(word, str):
        why = f"{where}: label {str(word)[:60]}: expected one word (for shares of several, use a column distribution)"
        return broken(id, why, place.source, split)
    try:
        votes, winner = _votes(row, columns)
    except (ValueError, TypeError) as error:
        return broken(id, f"{where}: votes cannot be read: {error}", place.source, split)
    try:
        units = measures.units(row, columns.units, columns.scale)
        valence, arousal = measures.point(row, columns.valence), measures.point(row, columns.arousal)
    except ValueError as error:
        return broken(id, f"{where}: {error}", place.source, split)
    text = row.get(columns.explanation) if columns.explanation else None
    explanation = text.strip() or None if isinstance(text, str) else None
    word = _word(row, columns)
    return Sample(
        id, image, label_name(word), votes, _groups(row, columns), split, place.source, units=units, valence=valence,
        arousal=arousal, explanation=explanation, word=word or winner,
    )  # fmt: skip


def _image(cell: Any, root: Path) -> tuple[str | bytes, str]:
    """The picture and its name, from a path (relative to the table), encoded bytes, or both as in `datasets.Image`."""
    if isinstance(cell, Mapping):
        path = str(cell.get("path") or "")
        return (bytes(cell["bytes"]), path) if cell.get("bytes") else _image(path, root)
    if isinstance(cell, bytes | bytearray):
        return bytes(cell), ""
    text = str(cell or "").strip()
    if not text or is_url(text) or is_data_uri(text):
        return text, text
    if "\\" in text and not (root / text).exists():  # written on Windows
        text = text.replace("\\", "/")
    return str(root / text), text  # an absolute path stays as it is


def _word(row: Mapping[str, Any], columns: Columns) -> str | None:
    """The label as written in the data."""
    value = row.get(columns.label) if columns.label else None
    if value is None or (isinstance(value, float) and value != value):
        return None
    if columns.class_names and isinstance(value, int):
        return columns.class_names[value] if 0 <= value < len(columns.class_names) else str(value)
    return str(value).strip() or None


def _votes(row: Mapping[str, Any], columns: Columns) -> tuple[dict[str, float] | None, str | None]:
    """The votes by canonical name, and the name with the largest share as written in the data."""
    cell = row.get(columns.votes) if columns.votes else None
    if isinstance(cell, str):
        cell = json.loads(cell) if cell.strip() else None
    if cell is None and columns.probabilities:
        cell = {name[2:]: row[name] for name in columns.probabilities if row.get(name) not in (None, "")} or None
    if cell is None:
        return None, None
    if isinstance(cell, Sequence):
        if len(cell) != len(columns.vote_names):
            raise ValueError(f"{len(cell)} numbers without names, expected {len(columns.vote_names)}")
        cell = dict(zip(columns.vote_names, cell, strict=True))
    votes: dict[str, float] = {}
    written = {str(word).strip(): count for word, count in dict(cell).items() if count is not None}
    for word, count in written.items():
        name = _RENAMED.get(word.lower()) or label_name(word) or word
        votes[name] = votes.get(name, 0.0) + float(count)
    if any(not 0 <= count < float("inf") for count in votes.values()):
        raise ValueError(f"{votes}: expected finite numbers, none below 0")
    return votes, max(written, key=lambda word: float(written[word]), default=None)


def _groups(row: Mapping[str, Any], columns: Columns) -> dict[str, str]:
    found: dict[str, str] = {}
    for column in columns.groups:
        value = row.get(column)
        if isinstance(value, Mapping):
            found.update({str(k): str(v) for k, v in value.items() if v not in (None, "")})
        elif value not in (None, ""):
            found[str(column).strip().removeprefix("group_")] = str(value)
    return found
