"""Runs a model on a benchmark: predicts all samples, writes predictions.jsonl line by line, then the report."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.files import write_atomically
from emoreason.data import read
from emoreason.data.schema import Sample
from emoreason.evaluate.benchmark import LABEL_PROTOCOL, Benchmark, target_of
from emoreason.evaluate.predictions import Prediction, read_predictions
from emoreason.evaluate.report import write_report
from emoreason.evaluate.score import Target, score
from emoreason.knowledge.emotions import label_set

Predict = Callable[[Iterable[Sample], Sequence[str]], Iterator[Prediction]]


@dataclass(frozen=True)
class RunInfo:
    """run.json: the settings behind the predictions. Written at the start and again at the end."""

    benchmark: str
    benchmark_version: int
    protocol: str
    split: str | None
    labels: tuple[str, ...]
    data: str
    limit: int | None
    seed: int
    model: str
    model_hash: str | None
    settings: dict[str, Any]
    command: str | None
    emoreason_version: str | None
    started: str
    data_hash: str | None = None
    n_read: int | None = None
    n_unreadable: int | None = None
    seconds: float | None = None
    finished: bool = False


def run(
    benchmark: Benchmark,
    data: str | Path,
    predict: Predict,
    out: str | Path,
    *,
    split: str | None = None,
    protocol: str | None = None,
    labels: Sequence[str] | None = None,
    format: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    model: str = "unnamed",
    model_hash: str | None = None,
    settings: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Predicts every sample that counts under any protocol of the benchmark, writes all files and returns the report.

    The figures are computed from the written predictions.jsonl alone, so `rescore` gives the same ones.
    """
    protocol, split = _protocol(benchmark, protocol), split or benchmark.split
    benchmark = replace(benchmark, format=format or benchmark.format)
    labels = tuple(labels) if labels else _labels(benchmark, data, split)
    samples = limited(read(data, format=benchmark.format, split=split), limit, seed)
    samples = itertools.chain([next(samples)], samples)  # fail on a missing split before overwriting anything
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", "report.md", "confusion.png", "reliability.png", "risk_coverage.png"):
        (out / name).unlink(missing_ok=True)  # an old report does not match the new predictions
    info = RunInfo(
        benchmark=benchmark.name,
        benchmark_version=benchmark.version,
        protocol=protocol,
        split=split,
        labels=labels,
        data=str(data),
        limit=limit,
        seed=seed,
        model=model,
        model_hash=model_hash,
        settings=dict(settings or {}),
        command=command,
        emoreason_version=own_version(),
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    _write_info(info, out)
    counter, begin = SampleCounter(), time.monotonic()
    with (out / "predictions.jsonl").open("w", encoding="utf-8") as file:
        for row in _predicted(counter.count(samples), benchmark, protocol, labels, predict):
            file.write(row.to_json() + "\n")
            file.flush()
    seconds = round(time.monotonic() - begin, 2)
    info = replace(info, n_read=counter.n, n_unreadable=counter.n_unreadable, data_hash=counter.digest())
    _write_info(replace(info, seconds=seconds, finished=True), out)
    return rescore(out / "predictions.jsonl", benchmark, protocol, out=out)


def rescore(
    predictions: str | Path, benchmark: Benchmark, protocol: str | None = None, *, out: str | Path | None = None
) -> dict[str, Any]:
    """The report of saved predictions, without the model. Also written to the folder `out`, if given."""
    info = _read_info(Path(predictions).with_name("run.json"))
    if info.get("benchmark", benchmark.name) != benchmark.name:
        raise UsageError(f"{predictions} is a run of {info['benchmark']}, not of {benchmark.name}: their labels differ")
    rows = list(read_predictions(predictions))
    protocol = _protocol(benchmark, protocol or info.get("protocol"))
    labels = tuple(
        info.get("labels") or (label_set(benchmark.label_set).labels if benchmark.label_set else _labels_in(rows))
    )

    def target(row: Prediction) -> Target:
        if protocol == LABEL_PROTOCOL:
            return row.target if isinstance(row.target, str) and row.target in labels else None
        return target_of(None, row.votes, protocol, labels)

    def votes(row: Prediction) -> Mapping[str, float] | None:
        if protocol == LABEL_PROTOCOL:
            return row.votes
        soft = target_of(None, row.votes, "probability", labels)
        return soft if isinstance(soft, Mapping) else None

    figures = score(rows, labels, target, votes, seed=info.get("seed", 0))
    n_read = info.get("n_read") or len(rows)
    report = {
        "benchmark": benchmark.name,
        "benchmark_version": benchmark.version,
        "title": benchmark.title,
        "protocol": protocol,
        "split": info.get("split"),
        "model": info.get("model"),
        "model_hash": info.get("model_hash"),
        "settings": info.get("settings"),
        "data": info.get("data"),
        "data_hash": info.get("data_hash"),
        "limit": info.get("limit"),
        "seed": info.get("seed", 0),
        "command": info.get("command"),
        "emoreason_version": info.get("emoreason_version"),
        "started": info.get("started"),
        "seconds": info.get("seconds"),
        "finished": info.get("finished"),
        "n_read": n_read,
        "n_left_out": n_read - figures["n"],
        "n_unreadable": info.get("n_unreadable"),
        **figures,
        "licence": benchmark.licence,
        "note": benchmark.note,
        "anchors": [asdict(anchor) for anchor in benchmark.anchors],
    }
    if out is not None:
        write_report(report, Path(out))
    return report


def _protocol(benchmark: Benchmark, protocol: str | None) -> str:
    if protocol is None:
        return benchmark.protocols[0]
    if protocol not in benchmark.protocols:
        raise UsageError(
            f"{benchmark.name} has no protocol {protocol!r}; choose one of: {', '.join(benchmark.protocols)}"
        )
    return protocol


def limited(samples: Iterator[Sample], limit: int | None, seed: int) -> Iterator[Sample]:
    """All samples, or `limit` random ones (the first N of a folder sorted by class would all be of one class)."""
    if limit is None:
        yield from samples
        return
    if limit < 1:
        raise UsageError(f"--limit {limit}; expected 1 or more")
    rng = random.Random(seed)
    chosen: list[tuple[int, Sample]] = []
    for i, sample in enumerate(samples):
        place = i if i < limit else rng.randint(0, i)
        if place < limit:
            chosen[place : place + 1] = [(i, sample)]
    yield from (sample for _, sample in sorted(chosen, key=lambda pair: pair[0]))


def _labels(benchmark: Benchmark, data: str | Path, split: str | None) -> tuple[str, ...]:
    if benchmark.label_set:
        return label_set(benchmark.label_set).labels
    labels = sorted({s.label for s in read(data, format=benchmark.format, split=split) if s.label is not None})
    if len(labels) < 2:
        raise EmoreasonError(
            f"{data} has the labels {labels}; expected two or more: one folder per label, or a label column"
        )
    return tuple(labels)


def _labels_in(rows: Sequence[Prediction]) -> list[str]:
    """The labels that the rows use, for predictions without a run.json."""
    return sorted({name for row in rows for name in (row.target, *row.probabilities) if isinstance(name, str)})


def _predicted(
    samples: Iterable[Sample], benchmark: Benchmark, protocol: str, labels: Sequence[str], predict: Predict
) -> Iterator[Prediction]:
    """The model's rows, completed with the data of their samples. Samples without an answer get an error row."""
    unanswered: dict[str, Sample] = {}
    occurrences: Counter[str] = Counter()

    def questions() -> Iterator[Sample]:
        for sample in samples:
            if all(target_of(sample.label, sample.votes, p, labels) is None for p in benchmark.protocols):
                continue
            occurrences[sample.id] += 1
            if occurrences[sample.id] > 1:  # a table may have several faces of one picture, and each of them counts
                sample = replace(sample, id=f"{sample.id}#{occurrences[sample.id]}")
            unanswered[sample.id] = sample
            if sample.problem is None:
                yield sample

    def complete(row: Prediction, sample: Sample) -> Prediction:
        target = target_of(sample.label, sample.votes, protocol, labels)
        plain = dict(target) if isinstance(target, Mapping) else target
        return replace(row, target=plain, votes=sample.votes, groups=sample.groups, source=sample.source)

    remaining = questions()
    for row in predict(remaining, labels):
        sample = unanswered.pop(row.id, None)
        if sample is None:
            raise EmoreasonError(f"the model answered {row.id!r} twice, or answers a sample that it was not given")
        yield complete(row, sample)
    for _ in remaining:  # if the model stops early, the rest of the samples count as failures
        pass
    for sample in unanswered.values():
        why = sample.problem or "the model gave no answer"
        yield complete(Prediction(id=sample.id, status="error", error=why), sample)


class SampleCounter:
    """Counts and hashes the samples that pass. The hash depends neither on their order nor on the file format."""

    def __init__(self) -> None:
        self.n = 0
        self.n_unreadable = 0  # broken rows without a known target
        self._digests: list[bytes] = []

    def count(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        for sample in samples:
            self.n += 1
            self.n_unreadable += sample.problem is not None and sample.label is None and sample.votes is None
            content = hashlib.sha256(json.dumps([sample.label, sample.votes], sort_keys=True).encode())
            content.update(_image_bytes(sample.image))
            self._digests.append(content.digest())
            yield sample

    def digest(self) -> str:
        return hashlib.sha256(b"".join(sorted(self._digests))).hexdigest()


def _image_bytes(image: str | bytes) -> bytes:
    if isinstance(image, bytes):
        return image
    if "://" in image or image.startswith("data:"):
        return image.encode()
    path = Path(image)
    return path.read_bytes() if path.is_file() else b"missing"


def _write_info(info: RunInfo, out: Path) -> None:
    write_atomically(out / "run.json", (json.dumps(asdict(info), indent=1, ensure_ascii=False) + "\n").encode())


def _read_info(path: Path) -> dict[str, Any]:
    """The contents of run.json; {} if predictions.jsonl was moved away from it."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def own_version() -> str | None:
    try:
        return version("emoreason")
    except PackageNotFoundError:
        return None
