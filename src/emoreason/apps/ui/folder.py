"""The second tab: uploaded pictures and zips become the rows that `emoreason label` writes."""

import tempfile
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoreason.analysis import Analysis, columns
from emoreason.apps.ui.archive import Member, RefusedEntry, UploadLimits, expected, read_files
from emoreason.apps.ui.words import words
from emoreason.chat import Queued
from emoreason.core.device import cores
from emoreason.core.errors import EmoreasonError
from emoreason.core.row_files import Row, RowFile
from emoreason.evidence.zeroshot import check_labels
from emoreason.label import LabelJob, open_source, rows_of
from emoreason.media.images import describe
from emoreason.pipeline import Opened, in_order

if TYPE_CHECKING:
    from emoreason.engine import Caller
    from emoreason.reasoner import Reasoner

BATCH = 16  # pictures measured at once, so that chats of others come in between
EXPLAINED = 16  # faces after which a batch that is to be explained is full
# One pool for the folders of all sessions: however many there are, only so many pictures are decoded at a time.
WORKERS = min(4, cores())
OPENING = ThreadPoolExecutor(WORKERS, thread_name_prefix="folder")


@dataclass(frozen=True)
class Progress:
    """How far it is, and the rows that are new since the last one."""

    done: int
    total: int
    rows: tuple[Row, ...] = ()
    note: str = ""


def label_files(
    caller: "Caller | Reasoner",
    files: Sequence[Path],
    labels: Sequence[str] | None = None,
    *,
    detect: bool = True,
    explain: bool = False,
    decide: str = "evidence",
    stop: threading.Event | None = None,
    batch: int = BATCH,
    limits: UploadLimits = UploadLimits(),
) -> Iterator[Progress]:
    """Pictures and zips -> rows, a batch at a time. What cannot be read is a row with status=error.

    Ends early, and without a word, once `stop` is set: give the event that the caller was made with."""
    stop = stop or threading.Event()
    job = LabelJob(paths=(), labels=check_labels(labels) if labels else None, detect=detect, limits=limits.picture,
              explain=explain, decide=decide)  # fmt: skip
    done, total = 0, expected(files, limits)
    yield Progress(done, total)
    try:
        for opened in _batches(_opened(caller, job, files, limits), job, batch):
            if stop.is_set():
                return
            analyses = caller.analyze_faces([entry for one in opened for entry in one.pictures], job.labels)
            if job.explain:
                pieces = caller.explain(analyses, decide)
                analyses = yield from _noted(pieces, Progress(done, total))
            done += len(opened)
            read = iter(analyses)
            rows = tuple(row for one in opened for row in rows_of(caller, one, read, one.source))
            yield Progress(done, max(done, total), rows)
    except EmoreasonError:
        if not stop.is_set():
            raise


def _batches(found: Iterator[Opened], job: LabelJob, batch: int) -> Iterator[list[Opened]]:
    waiting: list[Opened] = []
    for opened in found:
        waiting.append(opened)
        if len(waiting) >= batch or (job.explain and sum(one.n_faces for one in waiting) >= EXPLAINED):
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _opened(caller: Any, job: LabelJob, files: Sequence[Path], limits: UploadLimits) -> Iterator[Opened]:
    """Every entry of the upload with its faces, in order; few pictures are in memory at a time."""
    return in_order(OPENING, partial(_open, caller, job), read_files(files, limits), 2 * WORKERS)


def _open(caller: Any, job: LabelJob, entry: Member | RefusedEntry) -> Opened:
    if isinstance(entry, RefusedEntry):
        return Opened(entry.name, error=entry.why)
    opened = open_source(caller, job, entry.data).opened
    error = opened.error and opened.error.replace(describe(entry.data), entry.name)
    return replace(opened, source=entry.name, error=error)


def _noted(pieces: Generator[Any, None, list[Analysis]], now: Progress) -> Generator[Progress, None, list[Analysis]]:
    """The explained analyses; of what is told on the way, how many come first."""
    with closing(pieces):
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                return end.value
            if isinstance(piece, Queued):
                yield replace(now, note=words()["folder"]["waits"].format(n=piece.ahead))


# ---- the downloads ---------------------------------------------------------------------------------------------------


def row_columns(caller: "Caller | Reasoner", labels: Sequence[str] | None = None) -> list[str]:
    """The columns of the rows, those of `emoreason label`."""
    asked = check_labels(labels) if labels else caller.default_labels
    return columns(asked, caller.reader.unit_codes)


def to_jsonl(rows: Sequence[Row], columns: list[str]) -> bytes:
    return _written(rows, columns, ".jsonl")


def to_csv(rows: Sequence[Row], columns: list[str]) -> bytes:
    return _written(rows, columns, ".csv")


def to_parquet(rows: Sequence[Row], columns: list[str]) -> bytes:
    return _written(rows, columns, ".parquet")


def _written(rows: Sequence[Row], columns: list[str], suffix: str) -> bytes:
    """By what writes the files of the command line, so that both are the same to the byte."""
    with tempfile.TemporaryDirectory() as folder:
        file = RowFile(Path(folder) / f"rows{suffix}", columns, made_with={})
        file.write(list(rows))
        file.finish()
        return (Path(folder) / f"rows{suffix}").read_bytes()


def summary(rows: Sequence[Row]) -> str:
    """In words: how many pictures, rows of what status, and faces of what label."""
    said = words()["folder"]
    statuses = Counter(row["status"] for row in rows)
    labels = Counter(row["label"] for row in rows if row["status"] == "ok")
    parts = [said["pictures"].format(n=len({row["source"] for row in rows}))]
    parts += [said["status"][status].format(n=statuses[status]) for status in said["status"] if statuses[status]]
    if labels:
        parts.append(said["labels"].format(labels=", ".join(f"{label} {n}" for label, n in labels.most_common())))
    return " ".join(parts)
