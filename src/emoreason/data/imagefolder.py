"""Reads folders of pictures: one folder per class, with or without split folders, or a metadata.jsonl beside pictures.

A single folder around the data set is skipped, and PERSON/EMOTION/*.jpg is understood.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from emoreason.data import table
from emoreason.data.measures import file_scale
from emoreason.data.schema import Sample, folders, known_split, label_name, pictures, printable
from emoreason.knowledge import emotions

log = logging.getLogger("emoreason")
METADATA = ("metadata.jsonl", "metadata.csv")


def matches(path: Path) -> bool:
    return path.is_dir() and (_metadata(path) is not None or next(pictures(path), None) is not None)


def read(path: Path, split: str | None = None) -> Iterator[Sample]:
    inner = _unwrapped(path)
    parts = [part for part in folders(inner) if known_split(part.name)]
    others = [folder.name for folder in folders(inner) if folder not in parts and next(pictures(folder), None)]
    if parts and others:
        log.warning(
            "%s has folders of splits (%s), so the other folders (%s) are not read",
            inner, ", ".join(part.name for part in parts), ", ".join(others[:5]),
        )  # fmt: skip
    scale = file_scale([file for part in parts or [inner] if (file := _metadata(part))])
    if not parts:
        yield from _read_part(inner, path, None, scale)
    for part in parts:
        if split in (None, known_split(part.name)):
            yield from _read_part(part, path, known_split(part.name), scale)


def _read_part(part: Path, root: Path, split: str | None, scale: float) -> Iterator[Sample]:
    metadata = _metadata(part)
    if metadata:
        for sample in table.read_file(metadata, split, "imagefolder", scale):
            named_by_file = sample.image == str(part / sample.id)  # file names are only unique inside a part
            yield replace(sample, id=f"{part.name}/{sample.id}") if split and named_by_file else sample
        return
    has_persons = _has_persons(part)
    for file in pictures(part):
        *above, _ = printable(file.relative_to(part)).split("/")
        person, word = (above[0], above[1]) if has_persons and len(above) > 1 else (None, above[0] if above else None)
        yield Sample(
            printable(file.relative_to(root)), str(file), label_name(word), split=split, source="imagefolder",
            groups={"subject": person} if person else {}, word=word,
        )  # fmt: skip


def _metadata(part: Path) -> Path | None:
    return next((part / name for name in METADATA if (part / name).is_file()), None)


def _unwrapped(path: Path) -> Path:
    """The data set's own folder: unpacked archives often wrap it in another folder that holds nothing else."""
    while True:
        inside, first = folders(path), next(pictures(path), None)  # files come before the contents of folders
        if len(inside) != 1 or _metadata(path) or first is None or first.parent == path:
            return path
        if _is_split_or_emotion(inside[0].name) or not folders(inside[0]):
            return path
        path = inside[0]


def _is_split_or_emotion(word: str) -> bool:
    return known_split(word) is not None or emotions.canonical(word) is not None


def _has_persons(part: Path) -> bool:
    """Whether the layout is PERSON/EMOTION/*.jpg: no outer folder is an emotion word and all inner ones are."""
    persons = folders(part)
    inside = {folder.name for person in persons for folder in folders(person)}
    known = [emotions.canonical(name) is not None for name in inside]
    return bool(inside) and all(known) and not any(emotions.canonical(person.name) for person in persons)
