"""Reads SFEW 2.0: Train, Val and Test with a folder per class. Aligned faces are preferred over whole frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from emoreason.core.errors import EmoreasonError
from emoreason.data.schema import Sample, folders, label_name, pictures

LAYOUT = "Train|Val/{Angry,Disgust,Fear,Happy,Neutral,Sad,Surprise}/*.png, or Train_Aligned_Faces etc."
CLASSES = {"Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"}
SPLITS = {"Train": "train", "Val": "validation", "Test": "test"}


def matches(path: Path) -> bool:
    found = _found(path)
    return {"train", "validation"} <= set(found) and all(
        {c.name for c in folders(found[s])} <= CLASSES and folders(found[s]) for s in ("train", "validation")
    )


def read(path: Path, split: str | None = None) -> Iterator[Sample]:
    found = _found(path)
    if not found:
        raise EmoreasonError(f"{path}: expected {LAYOUT}")
    for part_split, part in found.items():
        if split not in (None, part_split):
            continue
        for file in pictures(part):
            inside = file.relative_to(part)
            label = label_name(inside.parts[0]) if len(inside.parts) > 1 else None  # Test has no classes
            yield Sample(file.relative_to(path).as_posix(), str(file), label, split=part_split, source="sfew")


def _found(path: Path) -> dict[str, Path]:
    """Split -> folder. Archives unpack to Train/Train_Aligned_Faces/Angry or to Train_Aligned_Faces/Angry."""
    parts: dict[str, Path] = {}
    for word, split in SPLITS.items():
        inside = folders(path / word)
        aligned = [p for p in (*folders(path), *inside) if p.name.startswith(f"{word}_Aligned_Faces")]
        plain = [path / word] if (path / word).is_dir() else []
        if aligned or plain:
            parts[split] = (aligned or plain)[0]
    return parts
