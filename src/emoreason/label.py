"""Labels many pictures: threads open pictures and find faces while the encoder runs; a bad file becomes a row."""

import hashlib
import io
import itertools
import random
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from PIL import Image

from emoreason import pipeline
from emoreason.analysis import Analysis, columns, row
from emoreason.core.device import cores
from emoreason.core.image_folder import ImageFolder
from emoreason.core.row_files import Row, RowFile
from emoreason.core.types import Face, Picture
from emoreason.evidence.reader import Reader
from emoreason.explain.explanation import consume
from emoreason.faces.detect import Detector
from emoreason.media.images import Limits, describe, find_pictures

CHUNK = 8  # pictures per worker task: with small crops the hand-over costs more than the work
EXPORT_SIZE = 512  # longest side of an exported crop
EXPLAINED = 16  # pictures whose faces are explained together


class Labeler(Protocol):
    """The attributes and methods of a model that labeling uses. Reasoner and engine.Caller both have them."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def prompt_id(self) -> str: ...
    @property
    def default_labels(self) -> tuple[str, ...]: ...
    @property
    def reader(self) -> Reader: ...
    @property
    def detector(self) -> Detector: ...
    @property
    def explainer_name(self) -> str: ...

    def faces(self, picture: Picture, detect: bool = True) -> list[Face]: ...

    def analyze_faces(
        self, pictures: Sequence[tuple[Picture, list[Face]]], labels: Sequence[str] | None = None, batch_size: int = 128
    ) -> list[Analysis]: ...

    def explain(
        self, analyses: Sequence[Analysis], decide: str = "evidence"
    ) -> Generator[Any, None, list[Analysis]]: ...


@dataclass(frozen=True)
class LabelJob:
    """What to label and how."""

    paths: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    detect: bool = True
    frames: bool = False
    batch_size: int = 128
    workers: int = field(default_factory=cores)  # one per core: a detection keeps one core busy
    limit: int | None = None
    shuffle_seed: int | None = None
    limits: Limits = Limits()
    explain: bool = False
    decide: str = "evidence"

    def sources(self) -> list[str]:
        """The name of each picture, once, in the order of the job. 100,000 names take a few megabytes."""
        names = _once(find_pictures(self.paths))
        if self.shuffle_seed is not None:
            everything = list(names)
            random.Random(self.shuffle_seed).shuffle(everything)
            names = iter(everything)
        return list(itertools.islice(names, self.limit))


def _once(sources: Iterable[str]) -> Iterator[str]:
    """Yields each source once: a resumed run recognises pictures by their source."""
    seen: set[str] = set()
    for source in sources:
        if source not in seen:
            seen.add(source)
            yield source


def row_source(source: str) -> str:
    """The source as a row names it: data URIs by their hash, bytes of file names that are not UTF-8 escaped."""
    return pipeline.valid_utf8(describe(source))


@dataclass(frozen=True)
class Labeled:
    """All rows of one source and, for an export, its crops (one per row with a face)."""

    source: str
    rows: list[Row]
    crops: list[bytes]


@dataclass(frozen=True)
class OpenedSource:
    """A source with small crops of its faces and, for an export, the full crops as PNG."""

    opened: pipeline.Opened
    crops: list[bytes]


def open_source(model: Labeler, job: LabelJob, source: Any, keep_crops: bool = False) -> OpenedSource:
    """Open a source and find its faces. Runs in a worker thread and never raises for a bad file."""
    crops: list[bytes] = []

    def reduce(picture: Picture, faces: list[Face]) -> tuple[Picture, list[Face]]:
        if keep_crops:
            crops.extend(_png(face.crop) for face in faces)
        return pipeline.shrink(picture, faces, model.reader.zeroshot.encoder)

    find = partial(model.faces, detect=job.detect)
    opened = pipeline.open_and_detect(source, find, job.limits, job.frames, reduce)
    return OpenedSource(opened, crops if opened.error is None else [])


def _png(crop: Image.Image) -> bytes:
    small, buffer = crop.copy(), io.BytesIO()
    small.thumbnail((EXPORT_SIZE, EXPORT_SIZE))
    small.save(buffer, "PNG")
    return buffer.getvalue()


def label_sources(
    model: Labeler, job: LabelJob, sources: list[str], keep_crops: bool = False
) -> Generator[Labeled, None, None]:
    """Yields the rows of each source, in order. A limited number of pictures is open at once, so memory stays flat."""
    waiting: list[OpenedSource] = []
    n_faces = 0
    for source in _opened(model, job, sources, keep_crops):
        waiting.append(source)
        n_faces += source.opened.n_faces
        if n_faces >= job.batch_size or len(waiting) >= 4 * job.batch_size:
            yield from _labeled(model, job, waiting)
            waiting, n_faces = [], 0
    yield from _labeled(model, job, waiting)


def _opened(model: Labeler, job: LabelJob, sources: list[str], keep_crops: bool) -> Iterator[OpenedSource]:
    def work(chunk: Sequence[str]) -> list[OpenedSource]:
        return [open_source(model, job, source, keep_crops) for source in chunk]

    chunks = (sources[start : start + CHUNK] for start in range(0, len(sources), CHUNK))
    ahead = 2 * job.workers + max(1, job.batch_size // CHUNK)  # enough to open the next batch while this one is encoded
    with ThreadPoolExecutor(job.workers, thread_name_prefix="open") as pool:
        for chunk in pipeline.in_order(pool, work, chunks, ahead):
            yield from chunk


def _labeled(model: Labeler, job: LabelJob, waiting: list[OpenedSource]) -> Iterator[Labeled]:
    pictures = [entry for source in waiting for entry in source.opened.pictures]
    analyzed = model.analyze_faces(pictures, job.labels, job.batch_size)
    analyses = iter(_explained(model, job, analyzed) if job.explain else analyzed)
    for source in waiting:
        rows = rows_of(model, source.opened, analyses, row_source(source.opened.source))
        yield Labeled(source.opened.source, rows, source.crops)


def rows_of(model: Labeler, opened: pipeline.Opened, analyses: Iterator[Analysis], source: str) -> list[Row]:
    """The rows of one source. Consumes one item of `analyses` for each of its pictures."""
    if opened.error is not None:
        return [row(source=source, status="error", error=opened.error, model=model.name, revision=model.revision,
                    prompt_id=model.prompt_id)]  # fmt: skip
    return [line | {"source": source} for _ in opened.pictures for line in next(analyses).rows()]


def _explained(model: Labeler, job: LabelJob, analyses: list[Analysis]) -> Iterator[Analysis]:
    """Explain in smaller batches: a text takes a thousand times as long as a label."""
    for start in range(0, len(analyses), EXPLAINED):
        yield from consume(model.explain(analyses[start : start + EXPLAINED], job.decide))


def label_rows(model: Labeler, job: LabelJob) -> Iterator[Row]:
    """Yields the rows of a job."""
    for labeled in label_sources(model, job, job.sources()):
        yield from labeled.rows


@dataclass(frozen=True)
class Outcome:
    """What the output file holds after a run."""

    pictures: int  # number of pictures in the job
    done_before: int  # pictures that an earlier run had already labeled
    statuses: dict[str, int]  # number of rows by status, including those of earlier runs

    @property
    def failed(self) -> int:
        return self.statuses.get("error", 0)

    def __str__(self) -> str:
        parts = [f"{n} {status.replace('_', ' ')}" for status, n in sorted(self.statuses.items())]
        resumed = f" ({_count(self.done_before, 'picture')} done before)" if self.done_before else ""
        rows = sum(self.statuses.values())
        return f"{_count(self.pictures, 'picture')}, {_count(rows, 'row')}: {', '.join(parts)}{resumed}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def remaining(output: RowFile, sources: list[str]) -> list[str]:
    """The sources that still need labeling.

    A picture whose rows were cut off when resuming comes first, even if it is not among `sources`."""
    todo = [source for source in sources if row_source(source) not in output.done]
    if output.cut is None or any(row_source(source) == output.cut for source in todo):
        return todo
    return [output.cut, *todo]


def run(
    model: Labeler,
    job: LabelJob,
    output: RowFile,
    sources: list[str],
    *,
    export: ImageFolder | None = None,
    progress: Callable[[Labeled], None] = lambda labeled: None,
) -> Outcome:
    """Label the sources that the output does not hold yet; write the rows of each picture as soon as they are ready."""
    todo = remaining(output, sources)
    # closing(): if writing fails, the worker threads stop opening pictures at once
    with closing(label_sources(model, job, todo, keep_crops=export is not None)) as results:
        for labeled in results:
            if export is not None:
                export.add(labeled.rows, labeled.crops)
            output.write(labeled.rows)
            progress(labeled)
    output.finish()
    done_before = sum(row_source(source) in output.done for source in sources)
    return Outcome(len(sources), done_before, dict(output.statuses))


def row_columns(model: Labeler, job: LabelJob) -> list[str]:
    """The columns of this job's rows."""
    return columns(job.labels or model.default_labels, model.reader.unit_codes)


def made_with(model: Labeler, job: LabelJob, export: bool = False) -> dict[str, Any]:
    """The options that affect the rows. A resumed run must have the same ones."""
    projection = model.reader.zeroshot.projection
    return {
        "model": model.name,
        "revision": model.revision,
        "prompt_id": model.prompt_id,
        "operating point": model.reader.operating_point,
        "threshold": model.reader.threshold,
        "projection": projection and hashlib.sha256(projection.weight.tobytes()).hexdigest()[:12],
        "detector": model.detector.name if job.detect else None,
        "frames": job.frames,
        "export": export,
        "explainer": model.explainer_name if job.explain else None,
        "decide": job.decide if job.explain else None,
    }
