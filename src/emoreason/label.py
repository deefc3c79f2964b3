"""Batch labeling: workers open pictures and find faces while the encoder computes; one bad file is one row."""

import hashlib
import io
import itertools
import os
import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from emoreason.analysis import Analysis, columns, row
from emoreason.core.errors import EmoreasonError
from emoreason.core.image_folder import ImageFolder
from emoreason.core.row_files import RowFile
from emoreason.faces.detect import Face
from emoreason.media.images import Limits, Picture, describe, find_pictures, open_frames, open_picture
from emoreason.reasoner import Reasoner

CHUNK = 8  # pictures that one worker takes at a time: small crops cost less than the hand-over
SPENT = Image.new("RGB", (1, 1))  # stands for a picture whose faces were found: rows need no pixels
EXPORT_SIZE = 512  # longest side of an exported crop
EXPLAINED = 16  # pictures whose faces are explained together
LONGEST_ERROR = 300  # characters: some decoders put half a file into their message


def cores() -> int:
    """The cores that this process may use; a container often has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Job:
    """What to label and how."""

    paths: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    detect: bool = True
    frames: bool = False
    batch_size: int = 128
    workers: int = field(default_factory=cores)  # a detection keeps one core busy
    limit: int | None = None
    shuffle_seed: int | None = None
    limits: Limits = Limits()
    explain: bool = False
    decide: str = "evidence"

    def sources(self) -> list[str]:
        """Every picture once, in the order of the job: names only, so that 100,000 of them are a few megabytes."""
        found = _once(find_pictures(self.paths))
        if self.shuffle_seed is not None:
            everything = list(found)
            random.Random(self.shuffle_seed).shuffle(everything)
            found = iter(everything)
        return list(itertools.islice(found, self.limit))


def _once(sources: Iterable[str]) -> Iterator[str]:
    """A picture that was named twice is labeled once: resuming tells pictures apart by their source."""
    seen: set[str] = set()
    for source in sources:
        if source not in seen:
            seen.add(source)
            yield source


def row_source(source: str) -> str:
    """The source as it stands in a row: data URIs by their hash; names that are no UTF-8 with their bytes escaped."""
    return _utf8(describe(source))


def _utf8(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "backslashreplace")


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
        return Opened(source, error=_short(str(error)))
    except Exception as error:  # a decoder's surprise must not end a job of a day
        return Opened(source, error=_short(f"{type(error).__name__}: {error}"))
    return Opened(source, pictures, kept)


def _short(message: str) -> str:
    line = _utf8(" ".join(message.split()))
    return line if len(line) <= LONGEST_ERROR else line[: LONGEST_ERROR - 1] + "…"


def _png(crop: Image.Image) -> bytes:
    small, buffer = crop.copy(), io.BytesIO()
    small.thumbnail((EXPORT_SIZE, EXPORT_SIZE))
    small.save(buffer, "PNG")
    return buffer.getvalue()


def label_sources(
    reasoner: Reasoner, job: Job, sources: list[str], keep: bool = False
) -> Generator[Labeled, None, None]:
    """Sources -> their rows, in order. Few chunks per worker are in flight: memory does not grow with the job."""
    waiting: list[Opened] = []
    n_faces = 0
    for opened in _opened(reasoner, job, sources, keep):
        waiting.append(opened)
        n_faces += opened.n_faces
        if n_faces >= job.batch_size or len(waiting) >= 4 * job.batch_size:
            yield from _read(reasoner, job, waiting)
            waiting, n_faces = [], 0
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
    read = reasoner.analyze_faces(pictures, job.labels, job.batch_size)
    analyses = iter(_explained(reasoner, job, read) if job.explain else read)
    for opened in waiting:
        source = row_source(opened.source)
        if opened.error is not None:
            failed = row(source=source, status="error", error=opened.error, model=reasoner.name,
                         revision=reasoner.revision, prompt_id=reasoner.prompt_id)  # fmt: skip
            yield Labeled(opened.source, [failed], [])
            continue
        rows = [line for _ in opened.pictures for line in next(analyses).rows()]
        yield Labeled(opened.source, [line | {"source": source} for line in rows], opened.kept)


def _explained(reasoner: Reasoner, job: Job, analyses: list[Analysis]) -> Iterator[Analysis]:
    """Explanations in batches of their own: a text takes a thousand times as long as a label."""
    from emoreason.explain.explanation import consume

    for start in range(0, len(analyses), EXPLAINED):
        yield from consume(reasoner.explain(analyses[start : start + EXPLAINED], job.decide))


def label_rows(reasoner: Reasoner, job: Job) -> Iterator[dict[str, Any]]:
    """The rows of a job, one after another."""
    for labeled in label_sources(reasoner, job, job.sources()):
        yield from labeled.rows


@dataclass(frozen=True)
class Outcome:
    """What the output holds now."""

    pictures: int  # of the job
    before: int  # of these, in the output of the run that was resumed
    statuses: dict[str, int]  # rows by status, those of before included

    @property
    def failed(self) -> int:
        return self.statuses.get("error", 0)

    def __str__(self) -> str:
        parts = [f"{n} {status.replace('_', ' ')}" for status, n in sorted(self.statuses.items())]
        again = f" ({_count(self.before, 'picture')} done before)" if self.before else ""
        rows = sum(self.statuses.values())
        return f"{_count(self.pictures, 'picture')}, {_count(rows, 'row')}: {', '.join(parts)}{again}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def remaining(output: RowFile, sources: list[str]) -> list[str]:
    """What the output does not hold yet; the picture that was cut off it first, even when it was not asked for now."""
    todo = [source for source in sources if row_source(source) not in output.done]
    lost = output.cut is not None and all(row_source(source) != output.cut for source in todo)
    return [output.cut, *todo] if output.cut is not None and lost else todo


def run(
    reasoner: Reasoner,
    job: Job,
    output: RowFile,
    sources: list[str],
    *,
    export: ImageFolder | None = None,
    progress: Callable[[Labeled], None] = lambda labeled: None,
) -> Outcome:
    """Label what the output does not hold yet, writing as it goes."""
    todo = remaining(output, sources)
    # Closed at once when writing fails, so that nothing goes on opening pictures for a job that has ended.
    with closing(label_sources(reasoner, job, todo, keep=export is not None)) as found:
        for labeled in found:
            if export is not None:
                export.add(labeled.rows, labeled.crops)
            output.write(labeled.rows)
            progress(labeled)
    output.finish()
    before = sum(row_source(source) in output.done for source in sources)
    return Outcome(len(sources), before, dict(output.statuses))


def row_columns(reasoner: Reasoner, job: Job) -> list[str]:
    """The columns of this job's rows."""
    return columns(job.labels or reasoner.default_labels, reasoner.reader.unit_codes)


def made_with(reasoner: Reasoner, job: Job, export: bool = False) -> dict[str, Any]:
    """All that decides the rows besides the pictures: a run that is resumed must have the same."""
    projection = reasoner.reader.zeroshot.projection
    return {
        "model": reasoner.name,
        "revision": reasoner.revision,
        "prompt_id": reasoner.prompt_id,
        "operating point": reasoner.reader.point,
        "threshold": reasoner.reader.threshold,
        "projection": projection and hashlib.sha256(projection.weight.tobytes()).hexdigest()[:12],
        "detector": reasoner.detector.name if job.detect else None,
        "frames": job.frames,
        "export": export,
        "explainer": reasoner.explainer_name if job.explain else None,
        "decide": job.decide if job.explain else None,
    }
