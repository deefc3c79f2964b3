"""Labels uploaded pictures and zips for the folder tab. The rows equal those of `emoreason label`."""

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
from emoreason.apps.ui.archive import Member, RefusedEntry, UploadLimits, count_entries, read_files
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

BATCH = 16  # pictures analyzed at once; small, so that chats of other users get their turn
MAX_EXPLAINED = 16  # faces per batch if explanations are written
# One pool for all sessions, to limit how many pictures are decoded at a time.
WORKERS = min(4, cores())
OPENING = ThreadPoolExecutor(WORKERS, thread_name_prefix="folder")


@dataclass(frozen=True)
class Progress:
    """How many pictures are done, and the rows that are new since the last update."""

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
    """Labels pictures and zips batch by batch. A file that cannot be read becomes a row with status=error.

    Ends early without an error when `stop` is set. Pass the event that the caller was created with."""
    stop = stop or threading.Event()
    job = LabelJob(paths=(), labels=check_labels(labels) if labels else None, detect=detect, limits=limits.picture,
              explain=explain, decide=decide)  # fmt: skip
    done, total = 0, count_entries(files, limits)
    yield Progress(done, total)
    try:
        for opened in _batches(_open_all(caller, job, files, limits), job, batch):
            if stop.is_set():
                return
            analyses = caller.analyze_faces([frame for upload in opened for frame in upload.pictures], job.labels)
            if job.explain:
                pieces = caller.explain(analyses, decide)
                analyses = yield from _report_queue(pieces, Progress(done, total))
            done += len(opened)
            remaining = iter(analyses)
            rows = tuple(row for upload in opened for row in rows_of(caller, upload, remaining, upload.source))
            yield Progress(done, max(done, total), rows)
    except EmoreasonError:
        if not stop.is_set():
            raise


def _batches(uploads: Iterator[Opened], job: LabelJob, size: int) -> Iterator[list[Opened]]:
    batch: list[Opened] = []
    for upload in uploads:
        batch.append(upload)
        if len(batch) >= size or (job.explain and sum(upload.n_faces for upload in batch) >= MAX_EXPLAINED):
            yield batch
            batch = []
    if batch:
        yield batch


def _open_all(caller: Any, job: LabelJob, files: Sequence[Path], limits: UploadLimits) -> Iterator[Opened]:
    """Opens every picture and finds its faces, in order, with only a few pictures in memory."""
    return in_order(OPENING, partial(_open, caller, job), read_files(files, limits), 2 * WORKERS)


def _open(caller: Any, job: LabelJob, entry: Member | RefusedEntry) -> Opened:
    if isinstance(entry, RefusedEntry):
        return Opened(entry.name, error=entry.why)
    opened = open_source(caller, job, entry.data).opened
    error = opened.error and opened.error.replace(describe(entry.data), entry.name)
    return replace(opened, source=entry.name, error=error)


def _report_queue(
    pieces: Generator[Any, None, list[Analysis]], now: Progress
) -> Generator[Progress, None, list[Analysis]]:
    """Runs the explanations, yields the position in the queue, and returns the explained analyses."""
    with closing(pieces):
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                return end.value
            if isinstance(piece, Queued):
                yield replace(now, note=words()["folder"]["waits"].format(n=piece.ahead))


# ---- downloads -------------------------------------------------------------------------------------------------------


def row_columns(caller: "Caller | Reasoner", labels: Sequence[str] | None = None) -> list[str]:
    """The columns that `emoreason label` writes."""
    names = check_labels(labels) if labels else caller.default_labels
    return columns(names, caller.reader.unit_codes)


def rows_file(rows: Sequence[Row], columns: list[str], kind: str) -> bytes:
    """The bytes of a jsonl, csv or parquet file. RowFile writes it, so it equals the file of `emoreason label`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{kind}"
        file = RowFile(path, columns, made_with={})
        file.write(list(rows))
        file.finish()
        return path.read_bytes()


def summary(rows: Sequence[Row]) -> str:
    """One line with the number of files, faces by status, and faces by label."""
    texts = words()["folder"]
    statuses = Counter(row["status"] for row in rows)
    labels = Counter(row["label"] for row in rows if row["status"] == "ok")
    parts = [texts["pictures"].format(n=len({row["source"] for row in rows}))]
    parts += [texts["status"][status].format(n=statuses[status]) for status in texts["status"] if statuses[status]]
    if labels:
        parts.append(texts["labels"].format(labels=", ".join(f"{label} {n}" for label, n in labels.most_common())))
    return " ".join(parts)
