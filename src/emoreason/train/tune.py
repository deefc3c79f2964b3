"""`emoreason finetune --data …`: check the data, look at every face once, train a head, measure before and after.

The figures of the report are made by the very Reader that answers users.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from emoreason.calibration import Calibration
from emoreason.data import read
from emoreason.data.check import check_entries
from emoreason.data.schema import Sample
from emoreason.encoder import Features, find_bundle
from emoreason.errors import UsageError
from emoreason.evaluate.prediction import Prediction
from emoreason.evaluate.score import score
from emoreason.evidence import Reader
from emoreason.faces import Detector
from emoreason.head import LabelHead
from emoreason.label import cores
from emoreason.reasoner import load
from emoreason.train import run_folder
from emoreason.train.bundle import fit_points
from emoreason.train.features import FeatureCache, Seen, look, looks_cropped
from emoreason.train.head_loop import Part, Trained, train_head
from emoreason.train.parts import Parts, make_parts
from emoreason.train.tune_config import TuneConfig
from emoreason.train.tune_data import Faces, gather, unknown_words

ENOUGH = 50  # held-out faces with one label; temperature and points of fewer would be noise
Count = Callable[[str], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Tuned:
    folder: Path
    metrics: dict[str, Any]


def tune(
    config: TuneConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
    count: Count = lambda what: nullcontext(lambda n: None),
) -> Tuned:
    """The whole run. `say` gets what is worth telling, `count` shows how far a long step is."""
    config = resolved(config)
    out = Path(config.out)
    samples = read(config.data.source, format=config.data.format)
    run_folder.prepare(out, config, resume, overwrite)
    reasoner = load(config.model, device_name=config.device, detector=config.detector, explainer="none")
    zeroshot = reasoner.reader.zeroshot
    encoder = zeroshot.encoder
    say(f"{encoder.name} {encoder.revision} on {reasoner.compute.device}: {reasoner.compute.reason}")

    first = list(islice(samples, 24))
    detector, crops = _cropping(first, reasoner.detector, config.data.crops)
    say(crops)
    started = time.monotonic()
    cache = FeatureCache(encoder, detector)
    with count("looking at faces") as progress:
        entries = list(look(chain(first, samples), encoder, detector, cache, cores(), progress))
    seconds = {"looking": time.monotonic() - started}
    for line in summary(entries, config):
        say(line)
    faces = gather(entries, config.data)
    parts = make_parts(faces, config.data.validation, config.data.holdout, config.seed, config.data.limit)
    for line in _told(faces, parts):
        say(line)

    started = time.monotonic()
    words = replace(zeroshot, projection=None).prototypes(faces.labels)
    inside = {name: Part(faces.features[rows], faces.targets[rows]) for name, rows in parts.named().items()}
    with count("training the head") as progress:
        trained = train_head(
            words, encoder.logit_scale, inside["train"], inside["holdout"], config.train, config.seed, progress
        )
    seconds["training"] = time.monotonic() - started
    say(f"trained for {len(trained.log) - 1} epochs in {seconds['training']:.1f} s; epoch {trained.epoch} is kept")
    spec = {
        "kind": "head",
        "name": config.name,
        "base": config.model,
        "base_revision": encoder.revision,
        "labels": list(faces.labels),
        "calibration": calibrate(trained, faces, parts, inside["train"].prior),
        "trained_on": {"data_sha256": data_hash(faces, parts), "train": len(parts.train), "seed": config.seed},
    }
    metrics = _measured(reasoner.reader, spec, trained, faces, parts, config)
    metrics |= {"crops": crops.split(" (--")[0], "seconds": {name: round(value, 1) for name, value in seconds.items()}}
    run_folder.write_log(out, trained.log, trained.epoch)
    run_folder.write_split(out, sorted(_split_rows(faces, parts)))
    run_folder.write_metrics(out, metrics)
    run_folder.write_atomically(out / "README.md", run_folder.card(spec, metrics, out).encode())
    run_folder.write_model(out, spec, trained.weight, trained.bias)
    return Tuned(out, metrics)


def resolved(config: TuneConfig) -> TuneConfig:
    """With the names filled in, so that config.yaml says all."""
    if not config.data.source:
        raise UsageError("--data is missing: emoreason finetune --data my_faces/ --out runs/mine")
    if config.data.crops not in ("auto", "yes", "no"):
        raise UsageError(f"data.crops {config.data.crops!r}: auto, yes or no was expected")
    for name, share in (("validation", config.data.validation), ("holdout", config.data.holdout)):
        if not 0 < share < 1:
            raise UsageError(f"data.{name} {share}: a share between 0 and 1 was expected")
    bundle = find_bundle(config.model)
    if bundle is not None and bundle.base is not None:
        raise UsageError(f"--model {config.model} is a head itself: train on what it stands on, --model {bundle.base}")
    model = str(bundle.folder.resolve()) if bundle and Path(config.model) == bundle.folder else config.model
    plain = config.data.source.removeprefix("hub:").rstrip("/")
    out = config.out or f"runs/{Path(plain).stem or 'mine'}"
    return replace(config, model=model, out=out, name=config.name or Path(out).resolve().name)


def _cropping(first: Sequence[Sample], detector: Detector, crops: str) -> tuple[Detector | None, str]:
    if crops != "auto":
        asked = crops == "yes"
        return None if asked else detector, "taken as face crops, as asked" if asked else "faces cut out, as asked"
    are_crops, why = looks_cropped(first, detector)
    if are_crops:
        return None, f"the pictures are taken as face crops: {why} (--detect looks for faces all the same)"
    return detector, f"faces are looked for and cut out: {why} (--no-detect takes the pictures as they are)"


def summary(entries: Sequence[tuple[Sample, Seen | str]], config: TuneConfig) -> list[str]:
    """What `emoreason data check` would say, in a few lines."""
    report = check_entries(
        ((sample, seen if isinstance(seen, str) else seen.print) for sample, seen in entries), similarity=None
    )
    lines = [f"{config.data.source}: {report.n} pictures"]
    bad = (*report.missing, *report.broken)
    lines += [f"cannot be used: {trouble.id}: {trouble.why}" for trouble in bad[:3]]
    lines += [f"… and {len(bad) - 3} more"] if len(bad) > 3 else []
    conflicts = sum(group.conflicts for group in report.exact)
    if report.exact:
        lines.append(f"{report.surplus} pictures are exact copies of others, {conflicts} of them with different labels")
    for pair, counts in report.leaks().items():
        lines.append(f"{counts['groups']} pictures stand in {pair}: they are not trained on")
    for word, near in unknown_words([w for w in report.unknown_labels if w != "(no label)"]).items():
        lines.append(f"{word!r} is no known emotion word" + (f" (near: {', '.join(near)})" if near else ""))
    return lines


def calibrate(trained: Trained, faces: Faces, parts: Parts, prior: np.ndarray) -> dict[str, Any]:
    """Temperatures and operating points from the held-out faces. No threshold of abstention: that is the user's."""
    rows = parts.holdout
    if int((faces.label[rows] >= 0).sum()) < ENOUGH:
        return {"labels": [], "prior": {}, "points": {"accurate": {}}, "abstain_below": 0.0}
    logits = trained.logits(faces.features[rows])
    return {
        "labels": list(faces.labels),
        "prior": {label: round(float(p), 6) for label, p in zip(faces.labels, prior, strict=True)},
        "points": fit_points(logits, faces.label[rows], faces.targets[rows], prior),
        "abstain_below": 0.0,
    }


def data_hash(faces: Faces, parts: Parts) -> str:
    """Of pictures, targets and parts: the same in any order."""
    lines = [
        f"{name} {faces.keys[row]} {np.round(faces.targets[row], 4).tolist()}"
        for name, rows in parts.named().items()
        for row in rows
    ]
    return hashlib.sha256("\n".join([json.dumps(faces.labels), *sorted(lines)]).encode()).hexdigest()


def _measured(
    reader: Reader, spec: Mapping[str, Any], trained: Trained, faces: Faces, parts: Parts, config: TuneConfig
) -> dict[str, Any]:
    """metrics.json."""
    calibration = Calibration.from_spec(spec["calibration"])
    head = LabelHead(config.name, "", faces.labels, trained.weight, trained.bias, calibration)
    after = replace(reader, head=head, calibration=calibration, base=reader.calibration, point="accurate")
    readers = {"before": reader, "after": after}
    if calibration.labels:
        readers["balanced"] = replace(after, point="balanced")
    rows = parts.report[faces.label[parts.report] >= 0]
    figures = {name: _scored(chosen, faces, rows, config.seed) for name, chosen in readers.items()}
    for name, figure in figures.items():
        figure |= {"benchmark": config.data.source, "split": parts.report_name, "protocol": "one label a face",
                   "model": reader.zeroshot.encoder.name if name == "before" else config.name}  # fmt: skip
    counts = {name: faces.counts(rows) for name, rows in parts.named().items()}
    return {
        "data": config.data.source,
        "data_sha256": spec["trained_on"]["data_sha256"],
        "left_out": faces.left_out,
        "counts": counts,
        "protocol": protocol(faces, parts, bool(calibration.labels)),
        "epoch": trained.epoch,
        **figures,
    }


def protocol(faces: Faces, parts: Parts, calibrated: bool) -> str:
    """In words, for the card."""
    whole = f" Faces of one person ({faces.subject}) and" if faces.subject else ""
    return (
        f"The head learned from {len(parts.train)} faces. {len(parts.holdout)} others chose the epoch and "
        + ("fitted temperature and operating points. " if calibrated else "were too few to calibrate on. ")
        + f"The report is on {len(parts.report)} faces ({parts.report_name}) that nothing was chosen by."
        + (f"{whole} copies of a picture stand on one side." if whole else " Copies of a picture stand on one side.")
        + (f" {faces.alike} pictures look nearly the same and may stand on two." if faces.alike else "")
        + (f" {parts.removed} training faces were removed for that." if parts.removed else "")
        + (f" Not touched: {', '.join(parts.untouched)}." if parts.untouched else "")
    )


def _scored(reader: Reader, faces: Faces, rows: np.ndarray, seed: int) -> dict[str, Any]:
    probabilities, _ = reader.distribution(Features(faces.features[rows], None), faces.labels)
    predictions = [
        Prediction(
            faces.ids[row], "ok", faces.labels[int(p.argmax())], dict(zip(faces.labels, map(float, p), strict=True)),
            target=faces.labels[faces.label[row]],
        )
        for row, p in zip(rows, probabilities, strict=True)
    ]  # fmt: skip
    figures = score(predictions, faces.labels, lambda row: row.target, lambda row: None, seed)
    return {key: value for key, value in figures.items() if value is not None and key not in ("groups", "detected")}


def _split_rows(faces: Faces, parts: Parts) -> list[tuple[str, str, str]]:
    return [
        (faces.ids[row], faces.labels[faces.stratum[row]], name) for name, rows in parts.named().items() for row in rows
    ]


def _told(faces: Faces, parts: Parts) -> list[str]:
    lines = [f"left out, {why}: {n}" for why, n in faces.left_out.items()]
    if faces.subject:
        lines.append(f"column {faces.subject}: no person stands on two sides")
    if faces.alike:
        lines.append(
            f"{faces.alike} pictures look nearly the same and may be frames of one film: "
            "a column group, with the film or the person, keeps such on one side"
        )
    lines.append(
        f"{len(parts.train)} faces to train on, {len(parts.holdout)} to choose by, {len(parts.report)} for the report "
        f"({parts.report_name})"
    )
    if parts.removed:
        lines.append(f"{parts.removed} training faces removed: their picture or person stands in the other splits")
    if parts.untouched:
        lines.append("not touched: " + ", ".join(f"{name} ({n})" for name, n in parts.untouched.items()))
    return lines
