"""Batch labeling: workers open pictures and find faces while the encoder computes; rows leave in order, one bad file is one row."""

import io
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from emoreason.analysis import columns, row
from emoreason.errors import EmoreasonError
from emoreason.faces import Face
from emoreason.images import Limits, Picture, find_pictures, open_frames, open_picture
from emoreason.reasoner import Reasoner
from emoreason.rowfile import RowFile

CHUNK = 8  # pictures that one worker takes at a time: small crops cost less than the hand-over
SPENT = Image.new("RGB", (1, 1))  # stands for a picture whose faces were found: rows need no pixels
EXPORT_SIZE = 512  # longest side of an exported crop


@dataclass(frozen=True)
class Job:
    """What to label and how."""

    paths: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    detect: bool = True
    frames: bool = False
    batch_size: int = 128
    workers: int = 2
    limit: int | None = None
    shuffle_seed: int | None = None
    limits: Limits = Limits()

    def sources(self) -> list[str]:
        """Every picture, in the order of the job: names only, so that 100,000 of them are a few megabytes."""
        found = list(find_pictures(self.paths))
        if self.shuffle_seed is not None:
            random.Random(self.shuffle_seed).shuffle(found)
        return found[: self.limit]


@dataclass(frozen=True)
class Opened:
    """One source after its faces were found: small crops of the encoder's size, or what went wrong."""

    source: str
    pictures: list[tuple[Picture, list[Face]]] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)  # PNG per face, in order, when the crops are to be exported
    error: str | None = None

    @property
    def n_faces(self) -> int:
        return sum(len(faces) for _, faces in self.pictures)


@dataclass(frozen=True)
class Labeled:
    """All rows of one source, and its crops when they are to be exported (one per row with a face)."""

    source: str
    rows: list[dict[str, Any]]
    crops: list[bytes]


def open_source(reasoner: Reasoner, job: Job, source: str, keep: bool) -> Opened:
    """Runs in a worker. Never raises for a bad file."""
    encoder = reasoner.reader.zeroshot.encoder
    pictures: list[tuple[Picture, list[Face]]] = []
    kept: list[bytes] = []
    try:
        opened = open_frames(source, job.limits) if job.frames else iter([open_picture(source, job.limits)])
        for picture in opened:
            faces = reasoner.faces(picture, job.detect)
            if keep:
                kept += [_png(face.crop) for face in faces]
            small = [replace(face, crop=Image.fromarray(encoder.pixels(face.crop))) for face in faces]
            pictures.append((replace(picture, image=SPENT), small))
    except EmoreasonError as error:
        return Opened(source, error=str(error))
    except Exception as error:  # a decoder's surprise must not end a job of a day
        return Opened(source, error=f"{type(error).__name__}: {error}")
    return Opened(source, pictures, kept)


def _png(crop: Image.Image) -> bytes:
    small, buffer = crop.copy(), io.BytesIO()
    small.thumbnail((EXPORT_SIZE, EXPORT_SIZE))
    small.save(buffer, "PNG")
    return buffer.getvalue()


def label_sources(reasoner: Reasoner, job: Job, sources: list[str], keep: bool = False) -> Iterator[Labeled]:
    """Sources -> their rows, in order. At most a few chunks per worker are in flight, so memory does not grow with the job."""
    waiting: list[Opened] = []
    for opened in _opened(reasoner, job, sources, keep):
        waiting.append(opened)
        if sum(o.n_faces for o in waiting) >= job.batch_size or len(waiting) >= 4 * job.batch_size:
            yield from _read(reasoner, job, waiting)
            waiting = []
    yield from _read(reasoner, job, waiting)


def _opened(reasoner: Reasoner, job: Job, sources: list[str], keep: bool) -> Iterator[Opened]:
    def work(chunk: list[str]) -> list[Opened]:
        return [open_source(reasoner, job, source, keep) for source in chunk]

    ahead = 2 * job.workers + max(1, job.batch_size // CHUNK)  # enough to open the next batch while this one is encoded
    flying: deque[Future[list[Opened]]] = deque()
    with ThreadPoolExecutor(job.workers, thread_name_prefix="open") as pool:
        try:
            for start in range(0, len(sources), CHUNK):
                flying.append(pool.submit(work, sources[start : start + CHUNK]))
                if len(flying) > ahead:
                    yield from flying.popleft().result()
            while flying:
                yield from flying.popleft().result()
        finally:
            for future in flying:
                future.cancel()


def _read(reasoner: Reasoner, job: Job, waiting: list[Opened]) -> Iterator[Labeled]:
    pictures = [entry for opened in waiting for entry in opened.pictures]
    analyses = iter(reasoner.analyze_faces(pictures, job.labels, job.batch_size))
    made_by = {"model": reasoner.name, "revision": reasoner.revision, "prompt_id": reasoner.prompt_id}
    for opened in waiting:
        if opened.error is not None:
            yield Labeled(opened.source, [row(source=opened.source, status="error", error=opened.error, **made_by)], [])
            continue
        rows = [line for _ in opened.pictures for line in next(analyses).rows()]
        yield Labeled(opened.source, [line | {"source": opened.source} for line in rows], opened.kept)


def label_rows(reasoner: Reasoner, job: Job) -> Iterator[dict[str, Any]]:
    """The rows of a job, one after another."""
    for labeled in label_sources(reasoner, job, job.sources()):
        yield from labeled.rows


@dataclass(frozen=True)
class Outcome:
    """What a labeling run did."""

    pictures: int
    skipped: int  # already in the output of the run that was resumed
    statuses: dict[str, int]  # rows by status

    @property
    def failed(self) -> int:
        return self.statuses.get("error", 0)

    def __str__(self) -> str:
        parts = [f"{n} {status.replace('_', ' ')}" for status, n in sorted(self.statuses.items())]
        again = f", {self.skipped} were done before" if self.skipped else ""
        return f"{self.pictures} pictures: {', '.join(parts) or 'nothing new'}{again}"


def run(
    reasoner: Reasoner,
    job: Job,
    output: RowFile,
    sources: list[str],
    *,
    export: Path | None = None,
    progress: Callable[[Labeled], None] = lambda labeled: None,
) -> Outcome:
    """Label what the output does not hold yet, writing as it goes."""
    from emoreason.export import ImageFolder

    todo = [source for source in sources if source not in output.done]
    statuses: Counter[str] = Counter()
    folder = ImageFolder(export, f"model:{reasoner.name}@{reasoner.revision}") if export else None
    for labeled in label_sources(reasoner, job, todo, keep=export is not None):
        if folder is not None:
            folder.add(labeled.rows, labeled.crops)
        output.write(labeled.rows)
        statuses.update(line["status"] for line in labeled.rows)
        progress(labeled)
    output.finish()
    return Outcome(len(todo), len(sources) - len(todo), dict(statuses))


def row_columns(reasoner: Reasoner, job: Job) -> list[str]:
    """The columns of this job's rows."""
    return columns(job.labels or reasoner.default_labels, reasoner.reader.zeroshot.encoder.unit_codes)
