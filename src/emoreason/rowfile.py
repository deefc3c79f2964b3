"""The output of a labeling run: JSONL that grows picture by picture and survives kill -9; CSV and parquet are made from it."""

import csv
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from emoreason.errors import EmoreasonError, UsageError

SUFFIXES = (".jsonl", ".csv", ".parquet")
INTEGERS = ("frame", "face_id", "x", "y", "w", "h")
TEXTS = ("source", "status", "label", "explanation", "error", "model", "revision", "prompt_id")


class RowFile:
    """Rows go to `path`, or to standard output when it is None.

    All rows of one picture are written at once. A run that was killed may have left its last picture incomplete, so
    resuming cuts the rows of the last picture off and labels it again: nothing is lost and nothing stands twice.
    """

    def __init__(self, path: Path | None, columns: list[str], *, made_by: dict[str, str], resume: bool = False, overwrite: bool = False):
        self.path, self.columns, self.done = path, columns, set[str]()
        if path is None:
            self._file: IO[str] = sys.stdout
            return
        if path.suffix not in SUFFIXES:
            raise UsageError(f"-o {path}: the suffix decides the format; one of {', '.join(SUFFIXES)} was expected")
        if not path.parent.is_dir():
            raise UsageError(f"-o {path}: there is no folder {path.parent}; make it with mkdir -p {path.parent}")
        self._lines = path if path.suffix == ".jsonl" else path.with_name(path.name + ".partial.jsonl")
        if path.exists() and path.suffix != ".jsonl" and resume and not self._lines.exists():
            self._reopen()
        exists = self._lines.exists() or path.exists()
        if exists and not (resume or overwrite):
            raise UsageError(f"-o {path} exists already: add --resume to go on with it, or --overwrite to start again")
        if resume and self._lines.exists():
            self._resume(made_by)
        try:
            self._file = self._lines.open("a" if resume else "w", encoding="utf-8")
        except OSError as error:
            raise EmoreasonError(f"-o {path} cannot be written: {error.strerror}") from None

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """The rows of one picture, flushed to the system at once. Every row has every column, in the same order."""
        text = "".join(json.dumps(dict.fromkeys(self.columns) | row, ensure_ascii=False) + "\n" for row in rows)
        try:
            self._file.write(text)
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise EmoreasonError(
                f"{self.path} cannot be written any more ({error.strerror}): what stands in it is safe; make room and add --resume"
            ) from None

    def finish(self) -> None:
        """Close; make the CSV or parquet file in one step, so that it is whole or not there."""
        if self.path is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self.path.suffix == ".jsonl":
            return
        fresh = self.path.with_name(self.path.name + ".tmp")
        write = _write_csv if self.path.suffix == ".csv" else _write_parquet
        write(read_rows(self._lines), fresh, self.columns)
        fresh.replace(self.path)
        self._lines.unlink()

    def _resume(self, made_by: dict[str, str]) -> None:
        """Collect the finished sources and cut off the last one."""
        last_start, last_source, position = 0, None, 0
        with self._lines.open("rb") as file:
            for line in file:
                row = _parsed(line)
                if row is None:
                    if file.read(1):
                        raise EmoreasonError(f"{self._lines} is damaged at byte {position}: it cannot be resumed; use another -o")
                    break  # the line that a killed run did not finish
                self._check_same_run(row, made_by)
                if row["source"] != last_source:
                    if last_source is not None:
                        self.done.add(last_source)
                    last_start, last_source = position, row["source"]
                position += len(line)
        os.truncate(self._lines, last_start)

    def _check_same_run(self, row: dict[str, Any], made_by: dict[str, str]) -> None:
        if list(row) != self.columns:
            raise UsageError(f"{self.path} was made with other labels or another model (its columns differ): give the same options, "
                             "or another -o")  # fmt: skip
        for key, value in made_by.items():
            if row[key] != value:
                raise UsageError(f"{self.path} was made with {key} {row[key]}, this run has {value}: give the same options, or another -o")

    def _reopen(self) -> None:
        """A finished CSV or parquet file becomes JSONL again, so that it can be gone on with."""
        import pandas as pd

        assert self.path is not None
        frame = pd.read_csv(self.path) if self.path.suffix == ".csv" else pd.read_parquet(self.path)
        with self._lines.open("w", encoding="utf-8") as file:
            for record in frame.astype(object).where(frame.notna(), None).to_dict("records"):
                whole = {k: int(v) if k in INTEGERS and v is not None else v for k, v in record.items()}
                file.write(json.dumps({str(k): v for k, v in whole.items()}, ensure_ascii=False) + "\n")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _write_csv(rows: Iterable[dict[str, Any]], path: Path, columns: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(rows: Iterator[dict[str, Any]], path: Path, columns: list[str], at_once: int = 10_000) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {name: pa.int64() for name in INTEGERS} | {name: pa.string() for name in TEXTS}
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in columns])
    with pq.ParquetWriter(path, schema) as writer:
        while chunk := list(itertools.islice(rows, at_once)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
