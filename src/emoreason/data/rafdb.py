"""Reads the basic set of RAF-DB: the authors' layout with attributes, or the class folders 1 to 7 of mirrors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from emoreason.core.errors import EmoreasonError
from emoreason.data.schema import Sample, broken, folders, indexed_label, known_split, pictures

LAYOUT = "basic/EmoLabel/list_patition_label.txt with basic/Image/aligned or original; or {train,test}/{1..7}/*.jpg"
LIST = Path("EmoLabel", "list_patition_label.txt")  # sic
GENDER = ("male", "female", "unsure")
RACE = ("caucasian", "african_american", "asian")
AGE = ("0-3", "4-19", "20-39", "40-69", "70+")


def matches(path: Path) -> bool:
    return _root(path) is not None or _numbered(path) is not None


def read(path: Path, split: str | None = None, *, images: str = "aligned") -> Iterator[Sample]:
    """`images`: "aligned" (100×100 faces, the standard) or "original" (whole pictures, for use with detection)."""
    root, numbered = _root(path), _numbered(path)
    if root is None and numbered is None:
        raise EmoreasonError(f"{path}: expected {LAYOUT}")
    if root is None:
        yield from _read_numbered(numbered or path, split)
        return
    folder = root / "Image" / images
    if not folder.is_dir():
        raise EmoreasonError(f"{folder} does not exist; RAF-DB keeps its pictures in Image/aligned and Image/original")
    with open(root / LIST, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            words = line.split()
            if not words:
                continue
            name = words[0]
            row_split = known_split(name.split("_")[0])
            if split not in (None, row_split):
                continue
            if len(words) != 2:
                yield broken(name, f"{LIST.name}, line {number}: expected `name class`", "rafdb", row_split)
                continue
            stem, dot, suffix = name.rpartition(".")
            image = folder / (f"{stem}_aligned{dot}{suffix}" if images == "aligned" else name)
            groups = _attributes(root / "Annotation" / "manual" / f"{stem}_manu_attri.txt")
            yield Sample(name, str(image), indexed_label("rafdb7", words[1]), None, groups, row_split, "rafdb")


def _attributes(file: Path) -> dict[str, str]:
    """Gender, race and age band of an annotation file: a number each after five landmark lines. Else {}."""
    try:
        numbers = [int(word) for word in file.read_text().split()[10:13]]
    except (OSError, ValueError):
        return {}
    names = zip(("gender", "race", "age_band"), (GENDER, RACE, AGE), numbers, strict=False)
    return {key: words[number] for key, words, number in names if 0 <= number < len(words)}


def _root(path: Path) -> Path | None:
    return next((p for p in (path, path / "basic") if (p / LIST).is_file()), None)


def _numbered(path: Path) -> Path | None:
    """The folder with train/1 … test/7. Folders that also have a 0 belong to another data set."""
    for root in (path, path / "DATASET"):
        classes = {c.name for s in folders(root) if known_split(s.name) for c in folders(s)}
        if classes and classes <= set("1234567"):
            return root
    return None


def _read_numbered(root: Path, split: str | None) -> Iterator[Sample]:
    for part in folders(root):
        part_split = known_split(part.name)
        if part_split and split in (None, part_split):
            for class_folder in folders(part):
                label = indexed_label("rafdb7", class_folder.name)
                for file in pictures(class_folder):
                    yield Sample(file.relative_to(root).as_posix(), str(file), label, split=part_split, source="rafdb")
