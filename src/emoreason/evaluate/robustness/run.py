"""Measures a model on clean, damaged and covered faces, and on pictures without a face; then writes the report.

All faces of a batch are opened once; each corruption is then applied and measured. Definitions: docs/evaluation.md.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from emoreason.core.device import cores
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.types import Evidence, Face, Picture
from emoreason.data.protocols import PROTOCOLS, ferplus_target
from emoreason.data.schema import Sample
from emoreason.evaluate import metrics
from emoreason.evaluate.robustness.corruptions import CORRUPTIONS, Corrupted, Square, corrupt
from emoreason.evaluate.robustness.nonfaces import EACH, draw_nonfaces
from emoreason.evaluate.robustness.report import write_robustness_report
from emoreason.evaluate.run import SampleCounter, limited, own_version
from emoreason.evaluate.score import DRAWS, Target
from emoreason.explain.sheet import Sheet
from emoreason.faces.detect import whole_picture
from emoreason.knowledge.facs import ACTION_UNITS
from emoreason.media.images import find_pictures
from emoreason.pipeline import largest, open_and_detect
from emoreason.reasoner import Reasoner

VERSION = 1  # of the definitions; do not compare figures of different versions
NONFACES = "nonfaces"
PARTS = (*CORRUPTIONS, NONFACES)
CLEAN = ("clean", 0)


class Subject(NamedTuple):
    """A face of the data: its picture, and where the face is in it; or the reason why there is none."""

    id: str
    picture: Picture | None = None
    face: Face | None = None
    error: str | None = None


class View(NamedTuple):
    """A face as the model gets it."""

    picture: Picture
    face: Face
    hidden: tuple[str, ...] = ()  # regions that are covered


class Answer(NamedTuple):
    """What the model said about one picture."""

    label: int  # -1: no face was found, or the picture cannot be read
    confidence: float = 0.0
    abstained: bool = False
    calibrated: bool = True
    covered: bool = False  # a region is hidden in which the model measures action units
    false_units: bool = False  # the evidence has a unit of a hidden region all the same
    false_sentences: bool = False  # and a text may say so


@dataclass(frozen=True)
class Faces:
    """The samples that count, their targets (n, labels) and the labels."""

    samples: list[Sample]
    targets: np.ndarray
    labels: tuple[str, ...]


def run_robustness(
    samples: Iterable[Sample],
    reasoner: Reasoner,
    folder: str | Path,
    *,
    labels: Sequence[str] | None = None,
    protocol: str = "majority",
    parts: Sequence[str] | None = None,
    nonfaces: str | Path | None = None,
    detect: bool = False,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 128,
    data: str | None = None,
    split: str | None = None,
    settings: Mapping[str, Any] | None = None,
    command: str | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> dict[str, Any]:
    """Writes report.json, report.md and robustness.png to `folder`, and returns the report.

    parts: only these corruptions, or `nonfaces` (default: all). nonfaces: a folder of pictures without a human face,
    measured with the drawn ones. data, split, settings, command: only noted in the report.
    """
    chosen = _parts(parts)
    if protocol not in PROTOCOLS:
        raise UsageError(f"unknown protocol {protocol!r}; expected one of: {', '.join(PROTOCOLS)}")
    own = _own_pictures(nonfaces) if nonfaces is not None else []
    started, begin = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
    counter = SampleCounter()
    faces = _counted(list(counter.count(limited(iter(samples), limit, seed))), reasoner, labels, protocol, data)
    conditions = [CLEAN, *((kind, s) for kind in chosen if kind != NONFACES for s in _severities(kind))]
    done = 0

    def count(n: int) -> None:
        nonlocal done
        done += n
        progress(done)

    measure = Measure(reasoner, faces.labels, batch_size, count)
    with ThreadPoolExecutor(cores()) as pool:
        answers, errors = _measured(faces, conditions, measure, detect, seed, pool)
        if sum(errors.values()) == len(faces.samples):
            raise EmoreasonError(
                f"none of the {len(faces.samples)} pictures can be read; `emoreason data check` says why"
            )
        without_face = _nonfaces([*_drawn(faces, reasoner, detect, seed), *own], measure) if NONFACES in chosen else []
    report = {
        "benchmark": "robustness", "benchmark_version": VERSION, "protocol": protocol, "split": split,
        "model": reasoner.name, "model_hash": reasoner.revision, "settings": dict(settings or {}),
        "data": data, "data_hash": counter.digest(), "limit": limit, "seed": seed, "parts": list(chosen),
        "command": command, "emoreason_version": own_version(), "started": started,
        "seconds": round(time.monotonic() - begin, 2),
        "n_read": counter.n, "n_left_out": counter.n - len(faces.samples), "n": len(faces.samples),
        "n_unreadable": sum(errors.values()), "errors": errors.most_common(5), "labels": list(faces.labels),
        "calibrated": any(answer.calibrated for answer in answers[CLEAN]),
        "conditions": [
            {"corruption": kind, "severity": severity, **_figures(faces.targets, answers[kind, severity], seed)}
            for kind, severity in conditions
        ],
        "nonfaces": without_face,
    }  # fmt: skip
    write_robustness_report(report, Path(folder))
    return report


# ---- what is measured ------------------------------------------------------------------------------------------------


def _parts(requested: Sequence[str] | None) -> list[str]:
    unknown = [name for name in requested or () if name not in PARTS]
    if unknown:
        raise UsageError(f"robustness has no part {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    return [name for name in PARTS if requested is None or name in requested]


def _severities(kind: str) -> range:
    return range(1, len(CORRUPTIONS[kind]) + 1)


def _own_pictures(folder: str | Path) -> list[tuple[str, str]]:
    """(kind, path) of the user's pictures; the kind is the name of their folder."""
    if not Path(folder).is_dir():
        raise UsageError(f"--nonfaces {folder} is not a folder; expected a folder of pictures without a human face")
    found = [(Path(path).parent.name, path) for path in find_pictures(folder)]
    if not found:
        raise EmoreasonError(f"--nonfaces {folder}: no pictures found; looked for jpg, png, webp, gif, bmp, tiff, …")
    return found


def _counted(
    samples: Sequence[Sample], reasoner: Reasoner, labels: Sequence[str] | None, protocol: str, data: str | None
) -> Faces:
    """The samples with a target. The labels are those given, else the model's own if they include those of the data,
    else those of the data."""
    targets: list[Target] = [
        sample.label if sample.votes is None else ferplus_target(sample.votes, protocol) for sample in samples
    ]
    found = {name for target in targets if target for name in ([target] if isinstance(target, str) else target)}
    if labels is None:
        labels = reasoner.default_labels if found <= set(reasoner.default_labels) else sorted(found)
    if len(labels) < 2:
        raise EmoreasonError(f"{data or 'the data'}: labels {list(labels)}; expected two or more, or --labels a,b,…")
    rows = [_shares(target, labels) for target in targets]
    kept = [i for i, row in enumerate(rows) if row.sum() > 0]
    if not kept:
        raise EmoreasonError(
            f"{data or 'the data'}: none of the {len(samples)} samples has one of the labels {', '.join(labels)}. "
            "Check it with `emoreason data check`, or name the labels with --labels"
        )
    return Faces([samples[i] for i in kept], np.stack([rows[i] / rows[i].sum() for i in kept]), tuple(labels))


def _shares(target: Target, labels: Sequence[str]) -> np.ndarray:
    weights = {target: 1.0} if isinstance(target, str) else target or {}
    return np.array([weights.get(label, 0.0) for label in labels])


def random_of(seed: int, part: str, name: str) -> np.random.Generator:
    """The random generator of one picture in one part. It does not depend on other pictures or parts."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}/{part}/{name}".encode()).digest()[:8], "big"))


# ---- measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    """Measures faces in batches and turns the evidence into answers."""

    reasoner: Reasoner
    labels: tuple[str, ...]
    batch_size: int
    count: Callable[[int], None]  # called with the number of pictures just measured

    def __call__(self, views: Sequence[View | None]) -> list[Answer]:
        """An answer per view; None is a picture without a face."""
        faces = [(view.picture, [view.face]) for view in views if view]
        analyses = iter(self.reasoner.analyze_faces(faces, self.labels, self.batch_size))
        answers = [
            self._answer(next(analyses).faces[0].evidence, view.hidden) if view else Answer(-1) for view in views
        ]
        self.count(len(views))
        return answers

    def _answer(self, evidence: Evidence, hidden: tuple[str, ...]) -> Answer:
        sheet, measured = Sheet.of(evidence), {ACTION_UNITS[code].region for code in self.reasoner.reader.unit_codes}
        covered = measured.intersection(hidden)
        false_units = any(ACTION_UNITS[code].region in covered for code in (*sheet.visible, *sheet.absent))
        return Answer(self.labels.index(evidence.label), evidence.confidence, evidence.abstained, evidence.calibrated,
                      bool(covered), false_units, false_units and not evidence.abstained)  # fmt: skip


def _measured(
    faces: Faces, conditions: Sequence[tuple[str, int]], measure: Measure, detect: bool, seed: int, pool: Executor
) -> tuple[dict[tuple[str, int], list[Answer]], Counter[str]]:
    """The answers of every condition in the order of the faces, and why pictures cannot be read."""
    answers: dict[tuple[str, int], list[Answer]] = {condition: [] for condition in conditions}
    errors: Counter[str] = Counter()
    reasoner, remaining = measure.reasoner, iter(faces.samples)
    while chunk := list(islice(remaining, measure.batch_size)):
        subjects = list(pool.map(lambda sample: _open(sample, reasoner, detect), chunk))
        errors.update(subject.error for subject in subjects if subject.error)
        for kind, severity in conditions:
            views = pool.map(lambda subject, k=kind, s=severity: _view(subject, k, s, reasoner, detect, seed), subjects)
            answers[kind, severity] += measure(list(views))
    return answers, errors


def _open(sample: Sample, reasoner: Reasoner, detect: bool) -> Subject:
    """The picture of a sample and its largest face."""
    if sample.problem:
        return Subject(sample.id, error=sample.problem)
    opened = open_and_detect(sample.image, lambda picture: reasoner.faces(picture, detect))
    if opened.error:
        return Subject(sample.id, error=opened.error)
    picture, found = opened.pictures[0]
    return Subject(sample.id, picture, largest(found))


def _view(subject: Subject, kind: str, severity: int, reasoner: Reasoner, detect: bool, seed: int) -> View | None:
    """The corrupted picture, searched again for the face. None if it has none, or had none before."""
    picture, face = subject.picture, subject.face
    if picture is None or face is None or face.square is None:
        return None
    if (kind, severity) == CLEAN:
        return View(picture, face)
    rng = random_of(seed, kind, subject.id)
    changed: Corrupted = corrupt(np.asarray(picture.image), kind, severity, face.square, rng)
    after = Picture(picture.source, Image.fromarray(changed.pixels))
    found = largest(other for other in reasoner.faces(after, detect) if _is_at(other, face.square))
    return View(after, found, changed.hidden) if found else None


def _is_at(face: Face, square: Square) -> bool:
    """Whether the centre of a face lies inside the square of another."""
    x, y, side, _ = square
    return face.square is not None and max(abs(face.square[0] - x), abs(face.square[1] - y)) <= side / 2


# ---- pictures without a face -----------------------------------------------------------------------------------------


def _drawn(faces: Faces, reasoner: Reasoner, detect: bool, seed: int) -> Iterator[tuple[str, Image.Image]]:
    """(kind, picture) of the drawn pictures; some are made from random faces of the data."""
    order = random.Random(f"{seed}/{NONFACES}").sample(faces.samples, len(faces.samples))
    found = (subject.face.crop for sample in order if (subject := _open(sample, reasoner, detect)).face)
    crops = list(islice(found, max(EACH.values())))
    if not crops:
        raise EmoreasonError(f"no face in the {len(order)} pictures; if they are face crops, leave out --detect")
    return draw_nonfaces(crops, lambda name: random_of(seed, NONFACES, name))


def _whole(source: Image.Image | str) -> View | None:
    """A picture taken as a face crop; None if it cannot be read."""
    opened = open_and_detect(source, lambda picture: [whole_picture(picture)])
    return None if opened.error else View(opened.pictures[0][0], opened.pictures[0][1][0])


def _nonfaces(shown: Sequence[tuple[str, Image.Image | str]], measure: Measure) -> list[dict[str, Any]]:
    """Per kind, how many of the pictures, taken as face crops, get a confident answer."""
    answers: dict[str, list[Answer]] = {kind: [] for kind, _ in shown}
    remaining = iter(shown)
    while chunk := list(islice(remaining, measure.batch_size)):
        for (kind, _), answer in zip(chunk, measure([_whole(source) for _, source in chunk]), strict=True):
            answers[kind].append(answer)
    rows = []
    for kind, given in answers.items():
        read = [answer for answer in given if answer.label >= 0]
        rows.append({
            "kind": kind, "n": len(read), "n_unreadable": len(given) - len(read),
            "confident": _share([not answer.abstained for answer in read]),
            "confidence": _share([answer.confidence for answer in read]),
        })  # fmt: skip
    return rows


# ---- figures ---------------------------------------------------------------------------------------------------------


def _figures(targets: np.ndarray, answers: Sequence[Answer], seed: int) -> dict[str, Any]:
    """The figures of one condition. No face and unreadable pictures are wrong answers, as in the other evaluations."""
    labels = np.array([answer.label for answer in answers])
    given = labels >= 0
    confidence = np.array([answer.confidence for answer in answers])
    correct = np.where(given, targets[np.arange(len(labels)), labels], 0.0)
    values = metrics.headline(metrics.confusion(targets, labels))
    low, high = metrics.bounds(targets, labels, DRAWS, seed)
    scores = {
        name: {"value": float(values[i]), "low": float(low[i]), "high": float(high[i])}
        for i, name in enumerate(("accuracy", "uar"))
    }
    covered = [answer for answer in answers if answer.covered]
    return {
        "n": len(answers),
        "n_no_answer": int((~given).sum()),
        **scores,
        "ece": metrics.equal_width_bins(confidence[given], correct[given]).ece() if given.any() else None,
        "abstained": _share([answer.abstained for answer in answers]),
        "confidence": _share(confidence[given].tolist()),
        "n_covered": len(covered),
        "false_sentences": _share([answer.false_sentences for answer in covered]),
        "false_units": _share([answer.false_units for answer in covered]),
    }


def _share(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
