"""Runs `emoreason finetune --data …`: check the data, encode every face once, train, score before and after.

The scores come from the same Reader that answers users.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from emoreason.core.device import cores
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data import messages, read, sniff
from emoreason.data.schema import Sample
from emoreason.faces.detect import Detector
from emoreason.models.bundle import find_bundle
from emoreason.models.encoder import Encoder
from emoreason.reasoner import Reasoner, load
from emoreason.train import run_folder
from emoreason.train.features import CROPS, choose_detector, compute_features, feature_cache
from emoreason.train.finetune_config import FinetuneConfig, check_ranges
from emoreason.train.heads.crossfit import FEW_FACES, crossfit, part_of
from emoreason.train.heads.label_model import LabelModel
from emoreason.train.heads.measures import fit_measures
from emoreason.train.heads.objectives import NAMES
from emoreason.train.heads.training import train_head
from emoreason.train.labeled_faces import LabeledFaces, select_faces
from emoreason.train.report import (
    calibration_message,
    data_hash,
    data_summary,
    label_spec,
    score_before_and_after,
    split_rows,
    split_summary,
)
from emoreason.train.settings import require_one_of
from emoreason.train.splits import Splits, make_splits
from emoreason.train.text.finetune import check_words, finetune_conversations, finetune_texts, has_messages
from emoreason.train.tower.finetune import WHATS, choose_what, pixels_of, save_tower, tune_tower, units_of

TOWER_ONLY = ("eac", "ada-cm")  # losses that need pictures, not only features
Count = Callable[[str], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class FinetuneResult:
    folder: Path
    metrics: dict[str, Any]


def finetune(
    config: FinetuneConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    notify: Callable[[str], None] = lambda text: None,
    count: Count = lambda what: nullcontext(lambda n: None),
) -> FinetuneResult:
    """Run a whole fine-tuning. `notify` gets each line of the log, `count` shows the progress of a long step."""
    config = resolved(config)
    out = Path(config.out)
    if os.environ.get("RANK", "0") != "0":  # under `accelerate launch` only the first process logs and writes
        return _tune(config, out, resume, lambda text: None, lambda what: nullcontext(lambda n: None), False)
    run_folder.prepare(out, config, resume, overwrite)
    with run_folder.lock(out):
        try:
            return _tune(config, out, resume, notify, count, True)
        except EmoreasonError:
            if not resume:
                run_folder.remove_unstarted(out)
            raise


def _tune(
    config: FinetuneConfig, out: Path, resume: bool, notify: Callable[[str], None], count: Count, first_process: bool
) -> FinetuneResult:
    """Train and write the run. Only the first process writes."""
    base = load(config.model, device_name=config.device, detector=config.detector, explainer="none")
    encoder = base.reader.zeroshot.encoder
    notify(f"{encoder.name} {encoder.revision} on {base.compute.device}: {base.compute.reason}")
    if has_messages(config.data.source):
        if first_process:
            run_folder.start(out, config, resume)
        return _finetune_conversations(config, base, out, resume, notify)

    samples = _read(config)
    first = list(islice(samples, 24))
    detector, crops = choose_detector(first, base.detector, config.data.crops)
    notify(crops)
    started = time.monotonic()
    cache = feature_cache(encoder, detector)
    with count("looking at faces") as progress:
        entries = list(compute_features(chain(first, samples), encoder, detector, cache, cores(), progress))
    seconds = {"looking": time.monotonic() - started}
    for line in data_summary(entries, config):
        notify(line)
    faces = select_faces(entries, config.data)
    parts = make_splits(faces, config.data.validation, config.data.holdout, config.seed, config.data.limit)
    for line in split_summary(faces, parts):
        notify(line)

    if first_process:
        run_folder.start(out, config, resume)
    started = time.monotonic()
    metrics: dict[str, Any] = {
        "data": config.data.source,
        "data_sha256": data_hash(faces, parts),
        "crops": crops.split(" (--")[0],
        "left_out": faces.left_out,
        "counts": {name: faces.counts(rows) for name, rows in parts.named().items()},
        "faces": {name: len(rows) for name, rows in parts.named().items()},
    }
    spec = _spec(config, encoder, faces.labels, metrics["data_sha256"], len(parts.train))
    tensors: dict[str, np.ndarray] = {}
    features, probabilities = faces.features, None
    if faces.labels:
        learned, tensors = _train(config, base, faces, parts, detector, out, notify, count)
        features = learned.features
        spec |= label_spec(learned, faces, parts, config)
        notify(calibration_message(spec["calibration"], learned, parts))
        figures, probabilities = score_before_and_after(base.reader, spec, learned, faces, parts, config)
        metrics |= figures
    seconds["training"] = time.monotonic() - started
    if first_process:
        measures = fit_measures(
            faces.samples, features, (parts.train, parts.holdout, parts.report), out, config.seed,
            distributions=probabilities, base_units=_base_units(config, encoder, faces, parts, detector),
        )  # fmt: skip
        if measures is not None:
            metrics["measures"] = measures
    started = time.monotonic()
    part_of_id = {faces.ids[row]: name for name, rows in parts.named().items() for row in rows}
    words = finetune_texts(
        ((sample, part_of_id[sample.id]) for sample in _read(config) if sample.id in part_of_id),
        base, config.words, out, notify,
        detector=detector, labels=faces.labels or base.default_labels, model=config.model, seed=config.seed,
        device=config.device, resume=resume,
    )  # fmt: skip
    if words is not None:
        metrics["words"], seconds["words"] = words, time.monotonic() - started
    metrics["seconds"] = {name: round(value, 1) for name, value in seconds.items()}
    if not first_process:
        return FinetuneResult(out, {})
    left_out = metrics.get("measures", {}).get("left_out", {})
    if not faces.labels and words is None and set(metrics.get("measures", ())) <= {"left_out"}:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise EmoreasonError(f"nothing was learned: {why or 'the data has no labels, measures or texts'}")
    if faces.labels:
        run_folder.write_log(out, learned.log, learned.kept)
    run_folder.write_split(out, sorted(split_rows(faces, parts)))
    run_folder.finish(out, spec, metrics, tensors)
    return FinetuneResult(out, metrics)


def _read(config: FinetuneConfig) -> Iterator[Sample]:
    return iter(read(config.data.source, format=config.data.format))


def _base_units(
    config: FinetuneConfig, encoder: Encoder, faces: LabeledFaces, parts: Splits, detector: Detector | None
) -> dict[str, np.ndarray]:
    """The base model's own action units for the held-out and report faces; NaN for the others."""
    if not encoder.unit_codes or not any(sample.units for sample in faces.samples):
        return {}
    rows = np.concatenate([parts.holdout, parts.report])
    source = config.data.source
    pixels = pixels_of(source, config.data.format, [faces.ids[row] for row in rows], encoder, detector)
    units = np.full((len(faces), len(encoder.unit_codes)), np.nan, np.float32)
    units[rows] = units_of(encoder, pixels)
    return dict(zip(encoder.unit_codes, units.T, strict=True))


def _spec(config: FinetuneConfig, encoder: Encoder, labels: Sequence[str], digest: str, train: int) -> dict[str, Any]:
    """The start of model.json, before anything is trained."""
    return {
        "kind": "head",
        "what": "none",
        "name": config.name,
        "base": config.model,
        "base_revision": encoder.revision,
        "labels": list(labels),
        "trained_on": {"data_sha256": digest, "train": train, "seed": config.seed},
    }


def _finetune_conversations(
    config: FinetuneConfig, base: Reasoner, out: Path, resume: bool, notify: Callable[[str], None]
) -> FinetuneResult:
    """Train only the explainer, from a file of conversations about pictures."""
    source, started = Path(config.data.source), time.monotonic()
    first = islice((image for talk in messages.read(source) for image in talk.images), 24)
    pictures = [Sample(image, str(source.parent / image)) for image in first]
    detector, crops = choose_detector(pictures, base.detector, config.data.crops)
    notify(crops)
    words = finetune_conversations(source, base, config.words, out, notify, detector=detector, model=config.model,
                           seed=config.seed, device=config.device, resume=resume)  # fmt: skip
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    metrics = {
        "data": config.data.source, "data_sha256": digest, "crops": crops.split(" (--")[0], "left_out": {},
        "faces": words["counts"], "words": words, "seconds": {"words": round(time.monotonic() - started, 1)},
    }  # fmt: skip
    if os.environ.get("RANK", "0") == "0":
        run_folder.finish(
            out, _spec(config, base.reader.zeroshot.encoder, (), digest, words["counts"]["train"]), metrics, {}
        )
    return FinetuneResult(out, metrics)


def _train(
    config: FinetuneConfig,
    reasoner: Reasoner,
    faces: LabeledFaces,
    parts: Splits,
    detector: Detector | None,
    out: Path,
    notify: Callable[[str], None],
    count: Count,
) -> tuple[LabelModel, dict[str, np.ndarray]]:
    """Train the head on frozen features and then, if `what` says so, the image tower with it.

    Returns the model and the tensors to save."""
    zeroshot = reasoner.reader.zeroshot
    what, why = choose_what(config.what, reasoner.compute, len(parts.train))
    notify(f"what is trained: {what} ({why})")
    prototypes = replace(zeroshot, projection=None).prototypes(faces.labels)
    started = time.monotonic()
    loss = replace(config.loss, name="ce") if what != "head" and config.loss.name in TOWER_ONLY else config.loss
    few_held_out = what == "head" and int((faces.label[parts.holdout] >= 0).sum()) < FEW_FACES
    scale, settings = zeroshot.encoder.logit_scale, (config.train, config.seed)
    with count("training the head") as progress:
        crossfitted = crossfit(prototypes, scale, faces, parts, *settings, progress, loss) if few_held_out else None
        if crossfitted is None:
            train, holdout = part_of(faces, parts.train), part_of(faces, parts.holdout)
            trained, unseen = train_head(prototypes, scale, train, holdout, *settings, progress, loss), None
        else:
            trained, unseen = crossfitted
    chosen_by = f", chosen on {len(unseen.rows)} faces that other heads had not seen" if unseen else ""
    seconds = time.monotonic() - started
    notify(f"the head: {len(trained.log) - 1} epochs in {seconds:.1f} s; epoch {trained.epoch} is kept{chosen_by}")
    head = {"head.weight": trained.weight, "head.bias": trained.bias}
    if what == "head":
        return LabelModel(
            what, trained.weight, trained.bias, faces.features, trained.epoch, trained.log, {}, unseen
        ), head
    from emoreason.train.processes import make_accelerator

    accelerator = make_accelerator(reasoner.compute)
    with count("training the image tower (steps)") as progress:
        learned, tuned, tower = tune_tower(
            config, what, reasoner.compute, faces, parts, trained, detector, out, accelerator, notify, progress
        )
    gain = "" if learned.kept else ", which is the head alone: training the tower did not lower the held-out loss"
    notify(f"{what}: step {learned.kept} is kept{gain}; {learned.speed['rows_per_second']:.0f} faces a second")
    head = {"head.weight": learned.weight, "head.bias": learned.bias}
    return learned, head | (save_tower(what, tower, tuned, out) if accelerator.is_main_process else {})


def resolved(config: FinetuneConfig) -> FinetuneConfig:
    """Check the configuration and fill in its empty names, so that config.yaml is complete."""
    if not config.data.source:
        raise UsageError("--data is missing: emoreason finetune --data my_faces/ --out runs/mine")
    require_one_of("data.crops", config.data.crops, CROPS)
    require_one_of("what", config.what, WHATS)
    require_one_of("loss.name", config.loss.name, NAMES)
    check_words(config.words)
    for name, share in (("validation", config.data.validation), ("holdout", config.data.holdout)):
        if not 0 < share < 1:
            raise UsageError(f"data.{name} {share}: a share between 0 and 1 was expected")
    if not 0 <= config.openset < 0.5:
        raise UsageError(f"openset {config.openset}: a share from 0 to 0.5 was expected, such as 0.05")
    if bool(config.data.unlabeled) != (config.loss.name == "ada-cm"):
        raise UsageError(
            "Ada-CM learns from faces without labels: --data.unlabeled FOLDER and --loss.name ada-cm go together"
        )
    check_ranges(config)
    for source in filter(None, (config.data.source, config.data.unlabeled)):
        if not has_messages(source):
            read(
                source, format=config.data.format if source == config.data.source else "auto"
            )  # raises if the source does not exist
    bundle = find_bundle(config.model)
    if bundle is not None and bundle.base is not None:
        raise UsageError(
            f"--model {config.model} is itself a trained head: train on its base model, --model {bundle.base}"
        )
    model = str(bundle.folder.resolve()) if bundle and Path(config.model) == bundle.folder else config.model
    data_name = config.data.source.removeprefix("hub:").rstrip("/")
    out = config.out or f"runs/{Path(data_name).stem or 'mine'}"
    faces = Path(config.data.source)
    if faces.is_dir() and Path(out).resolve().is_relative_to(faces.resolve()) and sniff(faces) == "imagefolder":
        raise UsageError(
            f"--out {out} is inside --data {faces}, where its plots would be read as faces; give another --out"
        )
    return replace(config, model=model, out=out, name=config.name or Path(out).resolve().name)
