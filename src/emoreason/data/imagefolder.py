"""ImageFolder: a folder per class, split folders above where there are any, or metadata.jsonl beside the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from emoreason.data import table
from emoreason.data.measured import file_scale
from emoreason.data.schema import Sample, folders, known_split, label_name, pictures

LAYOUT = "[train|validation|test/]CLASS/*.jpg, or metadata.jsonl|csv (file_name,label) beside the pictures"
METADATA = ("metadata.jsonl", "metadata.csv")


def matches(path: Path) -> bool:
    return path.is_dir() and (_metadata(path) is not None or next(pictures(path), None) is not None)


def read(path: Path, split: str | None = None) -> Iterator[Sample]:
    parts = [part for part in folders(path) if known_split(part.name)]
    scale = file_scale([file for part in parts or [path] if (file := _metadata(part))])
    if not parts:
        yield from _read_part(path, path, None, scale)
    for part in parts:
        if split in (None, known_split(part.name)):
            yield from _read_part(part, path, known_split(part.name), scale)


def _read_part(part: Path, root: Path, split: str | None, scale: float) -> Iterator[Sample]:
    metadata = _metadata(part)
    if metadata:
        for sample in table.read_file(metadata, split, "imagefolder", scale):
            named_by_file = sample.image == str(part / sample.id)  # and file names are unique inside a part only
            yield replace(sample, id=f"{part.name}/{sample.id}") if split and named_by_file else sample
        return
    for file in pictures(part):
        inside = file.relative_to(part)
        word = inside.parts[0] if len(inside.parts) > 1 else None
        yield Sample(
            file.relative_to(root).as_posix(), str(file), label_name(word), split=split, source="imagefolder", word=word
        )


def _metadata(part: Path) -> Path | None:
    return next((part / name for name in METADATA if (part / name).is_file()), None)
