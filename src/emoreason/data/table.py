"""Reads tables (CSV, JSONL, parquet): `path,label[,votes][,groups][,au_…][,split]`. Paths are relative to the table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from emoreason.core.errors import EmoreasonError
from emoreason.data.measures import file_scale
from emoreason.data.protocols import VOTES
from emoreason.data.rows import RowSource, find_columns, to_sample
from emoreason.data.schema import Sample, broken, known_split
from emoreason.data.textfile import csv_rows, header, is_open_ended, open_parquet, open_text

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


def matches(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES if path.is_file() else bool(_tables_in(path))


def read(path: Path, split: str | None = None) -> Iterator[Sample]:
    scale = file_scale([file for file, _ in split_files(path, None)])
    for file, file_split in split_files(path, split):
        yield from read_file(file, file_split, scale=scale)


def split_files(path: Path, split: str | None) -> Iterator[tuple[Path, str | None]]:
    """The files of a table, each with the split in its name: train.parquet, train-00000-of-00002.parquet."""
    for file in _tables_in(path) if path.is_dir() else [path]:
        file_split = known_split(file.stem.split("-")[0])
        if split is None or file_split in (None, split):
            yield file, file_split


def read_file(path: Path, split: str | None, source: str = "table", scale: float = 1.0) -> Iterator[Sample]:
    """The samples of one file. `scale`: the highest value of action units in this table (see `measures`)."""
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl}
    readers[".parquet"] = read_parquet
    if path.suffix.lower() not in readers:
        raise EmoreasonError(f"{path}: expected a table ending in {', '.join(readers)}")
    yield from readers[path.suffix.lower()](path, split, source, scale=scale)


def _read_csv(path: Path, split: str | None, source: str, scale: float) -> Iterator[Sample]:
    place = RowSource(path.parent, path.name, source, split)
    with open_text(path) as file:
        columns = find_columns(header(file)[0], str(path), scale=scale)
        for index, (line, row) in enumerate(csv_rows(file)):
            if is_open_ended(row):
                why = f"{path.name}, line {line}: a quotation mark is never closed, so the rest of the file is lost"
                yield broken(f"{path.name}:{index}", why, source, split)
            else:
                yield to_sample(row, columns, place, index, line)


def _read_jsonl(path: Path, split: str | None, source: str, scale: float) -> Iterator[Sample]:
    place = RowSource(path.parent, path.name, source, split)
    with open_text(path) as file:
        for index, line in enumerate(file):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"expected an object, found {type(row).__name__}")
                columns = find_columns(row, path.name, scale=scale)  # rows of JSONL need not have the same keys
            except (ValueError, EmoreasonError) as error:
                yield broken(f"{path.name}:{index}", f"{path.name}, line {index + 1}: {error}", source, split)
                continue
            yield to_sample(row, columns, place, index, index + 1)


def _tables_in(folder: Path) -> list[Path]:
    """The parquet files of a folder, or else its text table with labels of the pictures (or one per split)."""
    if found := parquet_files(folder):
        return found
    text = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    found = [file for file in text if file.stem.lower() != "metadata" and _labels_pictures(file)]
    return found if len(found) < 2 else [file for file in found if known_split(file.stem.split("-")[0])]


def _labels_pictures(file: Path) -> bool:
    """Whether the first row has an existing picture and a label or measurement. Tables that `emoreason label` wrote
    (column `source`) hold answers, so they only count as labels if the user names the file itself."""
    try:
        with open_text(file) as text:
            if file.suffix.lower() in (".csv", ".tsv"):
                names = header(text)[0]
            else:
                first = json.loads(text.readline())
                names = list(first) if isinstance(first, dict) else []
        columns = find_columns(names, file.name)
        sample = next(read_file(file, None), None)
    except (EmoreasonError, ValueError):
        return False
    if sample is None or not isinstance(sample.image, str) or columns.image.lower() == "source":
        return False
    values = (sample.label, sample.votes, sample.units, sample.valence, sample.arousal, sample.explanation)
    return any(value is not None for value in values) and Path(sample.image).is_file()


def parquet_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.parquet") if not p.name.startswith(".")) if folder.is_dir() else []


def read_parquet(
    path: Path, split: str | None, source: str = "table", scale: float = 1.0, *, label: str | None = None
) -> Iterator[Sample]:
    """The samples, read in small batches as the file may not fit in memory. `label` names an unusual label column."""
    with open_parquet(path) as file:
        schema = file.schema_arrow
        metadata = schema.metadata or {}
        names = tuple(json.loads(metadata.get(b"emotions", b"null")) or VOTES)
        columns = find_columns(schema.names, str(path), vote_names=names, scale=scale)
        columns = replace(columns, label=label or columns.label)
        if columns.label:
            columns = replace(columns, class_names=_class_names(metadata, columns.label))
        rows = (row for batch in file.iter_batches(batch_size=256) for row in batch.to_pylist())
        for index, row in enumerate(rows):
            yield to_sample(row, columns, RowSource(path.parent, path.name, source, split), index)


def _class_names(metadata: dict[bytes, bytes], column: str) -> tuple[str, ...]:
    """The names that `datasets` keeps for a ClassLabel column."""
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return tuple(features.get(column, {}).get("names") or ())
