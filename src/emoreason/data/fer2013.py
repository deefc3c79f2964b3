"""FER2013: fer2013.csv (`emotion,pixels,Usage`), icml_face_data.csv, or the original label in FER+ parquet files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from emoreason.core.errors import EmoreasonError
from emoreason.data import table
from emoreason.data.schema import Sample, broken, indexed_label, png_from_pixels, split_name
from emoreason.data.textfile import open_parquet

LAYOUT = "fer2013.csv or icml_face_data.csv (emotion,pixels,Usage), or a folder with it"
FILES = ("fer2013.csv", "icml_face_data.csv")


def matches(path: Path) -> bool:
    return {"emotion", "pixels"} <= header(path) if path.is_file() else find(path) is not None


def read(path: Path, split: str | None = None) -> Iterator[Sample]:
    file = path if path.is_file() else find(path)
    if path.suffix == ".parquet" or (file is None and table.parquet_files(path)):
        yield from _read_parquet(path, split)
        return
    if file is None:
        raise EmoreasonError(f"{path}: expected {LAYOUT}")
    for index, row in enumerate(csv_rows(file)):
        if split in (None, split_name(row["usage"])):
            yield face(row, f"fer2013_{index:05d}", "fer2013")


def face(row: dict[str, str], id: str, source: str) -> Sample:
    """One CSV row."""
    split = split_name(row["usage"])
    label = indexed_label("fer2013_7", row["emotion"])
    try:
        return Sample(id, png_from_pixels(row["pixels"] or ""), label, split=split, source=source)
    except ValueError as error:
        return broken(id, str(error), source, split, label)


def csv_rows(file: Path) -> Iterator[dict[str, str]]:
    """Rows by stripped, lower-case column name, as icml_face_data.csv has spaces in its header."""
    with open(file, newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle)
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        missing = {"emotion", "pixels", "usage"} - set(reader.fieldnames)
        if missing:
            raise EmoreasonError(f"{file}: no column {', '.join(sorted(missing))}; expected emotion,pixels,Usage")
        yield from reader


def find(folder: Path) -> Path | None:
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def header(file: Path) -> set[str]:
    """The column names of a CSV; an empty set for other files."""
    if file.suffix.lower() != ".csv":
        return set()
    with open(file, newline="", encoding="utf-8-sig", errors="replace") as handle:
        return {name.strip().lower() for name in next(csv.reader(handle), [])}


def _read_parquet(path: Path, split: str | None) -> Iterator[Sample]:
    for file, file_split in table.split_files(path, split):
        with open_parquet(file) as parquet:
            if "fer2013_label" not in parquet.schema_arrow.names:
                raise EmoreasonError(f"{file}: no column fer2013_label; --format table reads its other labels")
        for sample in table.read_parquet(file, file_split, "fer2013", label="fer2013_label"):
            yield replace(sample, votes=None)
