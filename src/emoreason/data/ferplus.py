"""Reads FER+, which has ten votes for each FER2013 face.

Three layouts: Kaggle's csv with fer2013new.csv beside it, the folders that FER+'s own script writes from those two, and
parquet files (columns image, votes). `label` is the winner by the `majority` protocol, None if there is no majority.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from emoreason.core.errors import EmoreasonError
from emoreason.data import fer2013, table
from emoreason.data.protocols import VOTES, majority_label
from emoreason.data.schema import Sample, broken, known_split, split_name
from emoreason.data.textfile import open_parquet

LAYOUT = (
    "fer2013.csv + fer2013new.csv, FER2013Train|Valid|Test/label.csv, or {train,validation,test}.parquet with votes"
)
VOTE_FILE = "fer2013new.csv"
FOLDERS = ("FER2013Train", "FER2013Valid", "FER2013Test")


def matches(path: Path) -> bool:
    if path.is_dir() and ((path / VOTE_FILE).is_file() or any((path / f / "label.csv").is_file() for f in FOLDERS)):
        return True
    if path.is_file() and path.suffix.lower() == ".csv":
        return path.name == VOTE_FILE or (fer2013.matches(path) and (path.parent / VOTE_FILE).is_file())
    files = [path] if path.suffix.lower() == ".parquet" else table.parquet_files(path)
    return bool(files) and all(_has_votes(file) for file in files)


def read(path: Path, split: str | None = None) -> Iterator[Sample]:
    folder = path if path.is_dir() else path.parent
    if path.suffix.lower() == ".parquet" or table.parquet_files(path):
        for file, file_split in table.split_files(path, split):
            for sample in table.read_parquet(file, file_split, "ferplus"):
                yield replace(sample, label=majority_label(sample.votes or {}))
    elif path.suffix.lower() != ".csv" and any((path / name).is_dir() for name in FOLDERS):
        yield from _read_folders(path, split)
    else:
        yield from _read_csv(fer2013.find(folder), folder / VOTE_FILE, split)


def _has_votes(file: Path) -> bool:
    import pyarrow as pa

    with open_parquet(file) as parquet:
        schema = parquet.schema_arrow
    if not {"image", "votes"} <= set(schema.names):
        return False
    kind = schema.field("votes").type
    return pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _read_csv(faces: Path | None, votes: Path, split: str | None) -> Iterator[Sample]:
    """Rows of both files belong together by position. FER+ dropped the rows without a name (they show no face)."""
    if faces is None or not votes.is_file():
        missing = fer2013.FILES[0] if faces is None else VOTE_FILE
        raise EmoreasonError(
            f"{votes.parent}: FER+ needs fer2013.csv (Kaggle) and {VOTE_FILE} (microsoft/FERPlus) side by side, "
            f"but {missing} is missing"
        )
    with open(votes, newline="", encoding="utf-8-sig") as handle:
        for index, (row, vote_row) in enumerate(
            zip_longest(fer2013.csv_rows(faces), csv.reader(_after_header(handle)))
        ):
            if row is None or vote_row is None:
                raise EmoreasonError(
                    f"{votes} and {faces} must have the same number of rows, but one ends after {index}; "
                    "download the incomplete one again"
                )
            usage, name, *cells = [cell.strip() for cell in vote_row]
            row_split = split_name(row["usage"])
            if split_name(usage) != row_split:
                raise EmoreasonError(
                    f"{votes}, row {index}: Usage is {usage!r}, but {faces.name} says {row['usage']!r}"
                )
            if name and split in (None, row_split):
                yield _voted(fer2013.face(row, name, "ferplus"), cells)


def _read_folders(folder: Path, split: str | None) -> Iterator[Sample]:
    """label.csv has no header: file name, box, ten counts."""
    for name in FOLDERS:
        folder_split = known_split(name)
        if split not in (None, folder_split) or not (folder / name / "label.csv").is_file():
            continue
        with open(folder / name / "label.csv", newline="", encoding="utf-8-sig") as handle:
            for row in csv.reader(handle):
                if row:
                    face = Sample(
                        row[0].strip(), str(folder / name / row[0].strip()), split=folder_split, source="ferplus"
                    )
                    yield _voted(face, row[2:])


def _voted(face: Sample, cells: Sequence[str]) -> Sample:
    try:
        votes = {name: float(cell) for name, cell in zip(VOTES, cells, strict=True)}
    except ValueError as error:
        return broken(face.id, f"votes {','.join(cells)!r}: {error}", "ferplus", face.split)
    return face if face.problem else replace(face, label=majority_label(votes), votes=votes)


def _after_header(handle: Iterator[str]) -> Iterator[str]:
    next(handle, None)
    return handle
