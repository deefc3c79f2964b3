"""Writes the rows of a labeling run: JSONL that grows picture by picture and survives kill -9, then CSV or parquet."""

import csv
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.files import write_atomically

Row = dict[str, Any]

SUFFIXES = (".jsonl", ".csv", ".parquet")
INTEGERS = ("frame", "face_id", "x", "y", "w", "h")
TEXTS = ("source", "status", "label", "notes", "explanation", "error", "model", "revision", "prompt_id")
NEVER_NULL = ("notes", "explanation", "error")  # see analysis.row


def check_target(path: Path, resume: bool, overwrite: bool) -> None:
    """Refuse an unusable output path before a model is loaded."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"-o {path}: the suffix decides the format; expected one of {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise UsageError(f"-o {path}: there is no folder {path.parent}; create it with mkdir -p {path.parent}")
    if path.is_dir():
        raise UsageError(f"-o {path}: this is a folder; expected a file")
    if not (resume or overwrite) and (path.exists() or _lines_of(path).exists()):
        raise UsageError(f"-o {path} exists already: add --resume to continue it, or --overwrite to start again")


class RowFile:
    """Writes rows to `path`, or to standard output if it is None.

    A killed run may have left its last picture incomplete. So resuming removes the rows of the last picture, and `cut`
    names the picture to label again: no row is lost or written twice. `made_with` holds the settings that decide the
    answers; they are stored beside the rows (`.rows.jsonl.run.json`), and a run with other settings is refused.
    """

    def __init__(
        self,
        path: Path | None,
        columns: list[str],
        *,
        made_with: dict[str, Any],
        resume: bool = False,
        overwrite: bool = False,
    ):
        self.path, self.columns, self.made_with = path, columns, made_with
        self.done: set[str] = set()  # sources with all their rows in the file
        self.cut: str | None = None  # the source whose rows were removed when resuming
        self.statuses: Counter[str] = Counter()  # of all rows, including those of the run that was resumed
        if path is None:
            self._file: IO[str] = sys.stdout
            return
        check_target(path, resume, overwrite)
        self._lines, self._settings = _lines_of(path), path.with_name(f".{path.name}.run.json")
        with self._clear_errors():
            if resume:
                self._check_same_options()
                unpacked = self._unpack()
                if self._lines.exists():
                    try:
                        self._resume(finished=unpacked or bool(self._read_settings().get("finished")))
                    except EmoreasonError:
                        if unpacked:
                            self._lines.unlink()
                        raise
            self._file = self._lines.open("a" if resume else "w", encoding="utf-8", newline="\n")
            self._write_settings(finished=False)

    def write(self, rows: list[Row]) -> None:
        """Write and flush the rows of one picture. Every row gets all columns, in the same order."""
        text = "".join(json.dumps(dict.fromkeys(self.columns) | row, ensure_ascii=False) + "\n" for row in rows)
        with self._clear_errors():
            self._file.write(text)
            self._file.flush()
        self.statuses.update(row["status"] for row in rows)

    def finish(self) -> None:
        """Close the file. A CSV or parquet file is then created in one step: complete or not at all."""
        if self.path is None:
            return
        with self._clear_errors():
            os.fsync(self._file.fileno())
            self._file.close()
            if self._lines != self.path:
                temporary = self.path.with_name(f".{self.path.name}.tmp")
                write = _write_csv if self.path.suffix.lower() == ".csv" else _write_parquet
                write(read_rows(self._lines), temporary, self.columns)
                temporary.replace(self.path)
                self._lines.unlink()
            self._write_settings(finished=True)

    # ---- resuming ----------------------------------------------------------------------------------------------------

    def _resume(self, finished: bool) -> None:
        """Collect the sources that are complete. Unless the run had finished, remove the rows of the last one."""
        start = position = 0
        source: str | None = None
        statuses: Counter[str] = Counter()  # of the current source
        with self._lines.open("rb") as file:
            for line in file:
                row = _parsed(line)
                if row is None:
                    if file.read(1):
                        raise EmoreasonError(f"{self._lines} is damaged at byte {position}: use another -o")
                    finished = False  # a killed run left this line incomplete
                    break
                self._check_same_run(row)
                if row["source"] != source:
                    if source is not None:
                        self.done.add(source)
                        self.statuses.update(statuses)
                    start, source, statuses = position, row["source"], Counter()
                statuses[row["status"]] += 1
                position += len(line)
        if finished and source is not None:
            self.done.add(source)
            self.statuses.update(statuses)
        else:
            os.truncate(self._lines, start)
            self.cut = source

    def _check_same_options(self) -> None:
        before = self._read_settings().get("made_with", self.made_with)
        for key in sorted(before.keys() | self.made_with.keys()):
            self._check_same(key, before.get(key), self.made_with.get(key))

    def _check_same_run(self, row: Row) -> None:
        """Check the settings that a row shows, which works even if the file with the settings is lost."""
        if list(row) != self.columns:
            raise UsageError(
                f"{self.path} was made with other labels or another model (its columns differ): give the same options, "
                "or another -o"
            )
        for key in ("model", "revision", "prompt_id"):
            self._check_same(key, row[key], self.made_with.get(key))

    def _check_same(self, key: str, before: Any, now: Any) -> None:
        if before != now:
            raise UsageError(
                f"{self.path} was made with {key} = {before}, this run has {now}: give the same options, or another -o"
            )

    def _unpack(self) -> bool:
        """Convert a finished CSV or parquet file back to JSONL. Returns whether there was one."""
        if self.path is None or self._lines.exists() or not self.path.exists():
            return False
        read = _read_csv if self.path.suffix.lower() == ".csv" else _read_parquet
        temporary = self._lines.with_name(f".{self._lines.name}.tmp")  # renamed when complete: a kill loses no row
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for row in read(self.path):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        temporary.replace(self._lines)
        return True

    def _write_settings(self, finished: bool) -> None:
        content = json.dumps({"made_with": self.made_with, "finished": finished}) + "\n"
        write_atomically(self._settings, content.encode())

    def _read_settings(self) -> dict[str, Any]:
        try:
            settings = json.loads(self._settings.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return settings if isinstance(settings, dict) else {}

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise EmoreasonError(
                f"{self.path or 'standard output'} cannot be written ({error.strerror or error}): the rows "
                "written so far are safe; free some space or choose another -o, and add --resume to continue"
            ) from None


def _lines_of(path: Path) -> Path:
    """The JSONL file to append to: the output itself, or a file beside the CSV or parquet file made at the end."""
    return path if path.suffix.lower() == ".jsonl" else path.with_name(path.name + ".partial.jsonl")


def _parsed(line: bytes) -> Row | None:
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSONL file."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield json.loads(line)


def _write_csv(rows: Iterable[Row], path: Path, columns: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _read_csv(path: Path) -> Iterator[Row]:
    """Uses the csv module, because pandas reads a label "none" as missing and a revision 123e45 as a number."""
    with path.open(newline="", encoding="utf-8") as file:
        try:
            for record in csv.DictReader(file):
                yield {name: _type(name)(text) if text or name in NEVER_NULL else None for name, text in record.items()}
        except (ValueError, TypeError, csv.Error):
            raise EmoreasonError(
                f"{path} does not contain rows of emoreason, so it cannot be resumed; use another -o"
            ) from None


def _type(column: str) -> Callable[[str], Any]:
    return int if column in INTEGERS else str if column in TEXTS else float


def _write_parquet(rows: Iterator[Row], path: Path, columns: list[str], chunk_size: int = 10_000) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types: dict[Any, Any] = {int: pa.int64(), str: pa.string(), float: pa.float64()}
    schema = pa.schema([(name, types[_type(name)]) for name in columns])
    with pq.ParquetWriter(path, schema) as writer:
        while chunk := list(itertools.islice(rows, chunk_size)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(10_000):
            yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise EmoreasonError(f"{path} cannot be read as parquet ({str(error)[:200]}); use another -o") from None
