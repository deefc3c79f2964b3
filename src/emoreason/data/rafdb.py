"""RAF-DB, the basic set: the authors' layout with its attributes, or the class folders 1 to 7 that mirrors hand out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from emoreason.core.errors import EmoreasonError
from emoreason.data.schema import Sample, broken, folders, indexed_label, known_split, pictures

LAYOUT = "basic/EmoLabel/list_patition_label.txt with basic/Image/aligned or original; or {train,test}/{1..7}/*.jpg"
LIST = Path("EmoLabel", "list_patition_label.txt")  # their spelling
GENDER = ("male", "female", "unsure")
RACE = ("caucasian", "african_american", "asian")
AGE = ("0-3", "4-19", "20-39", "40-69", "70+")


def matches(path: Path) -> bool:
    return _root(path) is not None or _numbered(path) is not None


def read(path: Path, split: str | None = None, *, images: str = "aligned") -> Iterator[Sample]:
    """`images`: "aligned" (100×100 faces, the standard) or "original" (whole pictures, to be used with detection)."""
    root, numbered = _root(path), _numbered(path)
    if root is None and numbered is None:
        raise EmoreasonError(f"{path}: expected {LAYOUT}")
    if root is None:
        yield from _read_numbered(numbered or path, split)
        return
    folder = root / "Image" / images
    if not folder.is_dir():
        raise EmoreasonError(f"{folder} is not there; RAF-DB keeps its pictures in Image/aligned and Image/original")
    with open(root / LIST, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            words = line.split()
            if not words:
                continue
            name = words[0]
            of_row = known_split(name.split("_")[0])
            if split not in (None, of_row):
                continue
            if len(words) != 2:
                yield broken(name, f"{LIST.name}, line {number}: expected `name class`", "rafdb", of_row)
                continue
            stem, dot, suffix = name.rpartition(".")
            image = folder / (f"{stem}_aligned{dot}{suffix}" if images == "aligned" else name)
            groups = _attributes(root / "Annotation" / "manual" / f"{stem}_manu_attri.txt")
            yield Sample(name, str(image), indexed_label("rafdb7", words[1]), None, groups, of_row, "rafdb")


def _attributes(file: Path) -> dict[str, str]:
    """Five landmark lines, then gender, race and age band as one number each. Any other file says nothing."""
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
        of_part = known_split(part.name)
        if of_part and split in (None, of_part):
            for of_class in folders(part):
                label = indexed_label("rafdb7", of_class.name)
                for file in pictures(of_class):
                    yield Sample(file.relative_to(root).as_posix(), str(file), label, split=of_part, source="rafdb")
