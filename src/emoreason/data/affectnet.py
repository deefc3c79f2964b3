"""Reads AffectNet in both of its forms: the csv lists of 2017 and the later folders with one .npy file per value.

Expressions 8 to 10 (none, uncertain, no face) are not emotions and are left out; `classes=7` also leaves out contempt.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data.measures import point
from emoreason.data.schema import Sample, broken, indexed_label, known_split, pictures

LAYOUT = "training.csv|validation.csv (subDirectory_filePath,…,expression,…), or train_set|val_set/{images,annotations}"
WITHOUT_EMOTION = ("8", "9", "10")  # none, uncertain, no face
COLUMNS = (
    *("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks"),
    *("expression", "valence", "arousal"),
)
LISTS = ("training.csv", "validation.csv")
LIST_FOLDERS = ("", "Manually_Annotated_file_lists", "Manually_Annotated/Manually_Annotated_file_lists")
IMAGE_FOLDERS = (
    "Manually_Annotated_Images",
    "Manually_Annotated/Manually_Annotated_Images",
    "Manually_Annotated",
    "images",
)
SETS = ("train_set", "val_set")


def matches(path: Path) -> bool:
    if path.is_file():
        return path.suffix == ".csv" and _is_list(path)
    return bool(_sets(path)) or any(_is_list(file) for file in _lists(path))


def read(path: Path, split: str | None = None, *, classes: int = 8) -> Iterator[Sample]:
    if classes not in (7, 8):
        raise UsageError(f"AffectNet is used with 7 or 8 classes, not {classes}")
    if _sets(path):
        for folder in _sets(path):
            if split in (None, known_split(folder.name)):
                yield from _read_set(folder, classes)
        return
    lists = [path] if path.is_file() else _lists(path)
    if not lists:
        raise EmoreasonError(f"{path}: expected {LAYOUT}")
    for file in lists:
        if split in (None, known_split(file.stem)):
            yield from _read_list(file, path if path.is_dir() else path.parent, classes)


def label(expression: str, classes: int = 8) -> str | None:
    """The emotion of an expression number, None if the sample is left out. Unknown numbers are returned as written."""
    name = indexed_label("affectnet8", expression)
    return None if name in WITHOUT_EMOTION or (classes == 7 and name == "contempt") else name


def _lists(folder: Path) -> list[Path]:
    found = ([folder / sub / name for name in LISTS if (folder / sub / name).is_file()] for sub in LIST_FOLDERS)
    return next(filter(None, found), [])


def _is_list(file: Path) -> bool:
    """Whether a CSV is an AffectNet list. Some releases have no header; their first row has nine cells and a number in
    the place of the expression."""
    with open(file, newline="", encoding="utf-8-sig", errors="replace") as handle:
        first = next(csv.reader(handle), [])
    return {COLUMNS[0], "expression"} <= set(first) or (len(first) == len(COLUMNS) and first[6].isdigit())


def _read_list(file: Path, root: Path, classes: int) -> Iterator[Sample]:
    bases = [base for base in (root, file.parent, file.parent.parent) if base.is_dir()]
    images = next((b / sub for b in bases for sub in IMAGE_FOLDERS if (b / sub).is_dir()), root)
    split = known_split(file.stem)
    with open(file, newline="", encoding="utf-8-sig") as handle:
        has_header = COLUMNS[0] in handle.readline()
        handle.seek(0)
        for row in csv.DictReader(handle, None if has_header else COLUMNS):
            name = (row.get(COLUMNS[0]) or "").strip()
            emotion = label(row.get("expression") or "", classes)
            if emotion is not None:
                yield _sample(name, str(images / name), emotion, split, row)


def _sets(path: Path) -> list[Path]:
    if path.name in SETS and (path / "annotations").is_dir():
        return [path]
    return [path / name for name in SETS if (path / name / "annotations").is_dir()]


def _read_set(folder: Path, classes: int) -> Iterator[Sample]:
    """images/N.jpg with annotations/N_exp.npy (also N_val, N_aro, N_lnd). The pictures are cropped faces."""
    import numpy as np

    split = known_split(folder.name)
    for image in pictures(folder / "images"):
        id = f"{folder.name}/{image.name}"
        try:
            expression = str(np.load(folder / "annotations" / f"{image.stem}_exp.npy").item())
        except (OSError, ValueError) as error:
            yield broken(id, f"annotation {image.stem}_exp.npy cannot be read: {error}", "affectnet", split)
            continue
        emotion = label(expression, classes)
        if emotion is not None:
            files = {"valence": f"{image.stem}_val.npy", "arousal": f"{image.stem}_aro.npy"}
            row = {name: _value(folder / "annotations" / file) for name, file in files.items()}
            yield _sample(id, str(image), emotion, split, row)


def _value(file: Path) -> str | None:
    """The number in a file, as text (some releases store it as text); None if the file does not exist."""
    import numpy as np

    try:
        return str(np.load(file).item())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return f"{file.name}: {error}"  # not a number, so `point` reports it


def _sample(id: str, image: str, emotion: str, split: str | None, row: Mapping[str, object]) -> Sample:
    try:
        valence, arousal = point(row, "valence"), point(row, "arousal")
    except ValueError as error:
        return broken(id, str(error), "affectnet", split, emotion)
    return Sample(id, image, emotion, split=split, source="affectnet", valence=valence, arousal=arousal)
