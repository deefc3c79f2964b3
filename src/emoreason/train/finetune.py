"""`emoreason finetune --data …`: check the data, look at every face once, train, measure before and after.

The figures of the report are made by the very Reader that answers users.
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
from emoreason.train.finetune_config import FinetuneConfig, refuse_nonsense
from emoreason.train.heads.crossfit import FEW_FACES, crossfit, part_of
from emoreason.train.heads.learned import Learned
from emoreason.train.heads.measures import fit_measures
from emoreason.train.heads.objectives import NAMES
from emoreason.train.heads.training import train_head
from emoreason.train.labeled_faces import LabeledFaces, gather
from emoreason.train.report import confidence, data_hash, described, measured, split_rows, summary, told
from emoreason.train.settings import one_of
from emoreason.train.splits import Splits, make_splits
from emoreason.train.text.finetune import check_words, finetune_conversations, finetune_texts, has_messages
from emoreason.train.tower.finetune import WHATS, chosen, pixels_of, save_tower, tune_tower, units_of

TOWER_ONLY = ("eac", "ada-cm")  # losses that look at pictures and not at features
Count = Callable[[str], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Tuned:
    folder: Path
    metrics: dict[str, Any]


def finetune(
    config: FinetuneConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    notify: Callable[[str], None] = lambda text: None,
    count: Count = lambda what: nullcontext(lambda n: None),
) -> Tuned:
    """The whole run. `say` gets what is worth telling, `count` shows how far a long step is."""
    config = resolved(config)
    out = Path(config.out)
    if os.environ.get("RANK", "0") != "0":  # of those that `accelerate launch` started, the first one tells and writes
        return _tune(config, out, resume, lambda text: None, lambda what: nullcontext(lambda n: None), False)
    run_folder.prepare(out, config, resume, overwrite)
    with run_folder.alone(out):
        try:
            return _tune(config, out, resume, notify, count, True)
        except EmoreasonError:
            if not resume:
                run_folder.withdraw(out)
            raise


def _tune(
    config: FinetuneConfig, out: Path, resume: bool, notify: Callable[[str], None], count: Count, first_process: bool
) -> Tuned:
    base = load(config.model, device_name=config.device, detector=config.detector, explainer="none")
    encoder = base.reader.zeroshot.encoder
    notify(f"{encoder.name} {encoder.revision} on {base.compute.device}: {base.compute.reason}")
    if has_messages(config.data.source):
        if first_process:
            run_folder.begin(out, config, resume)
        return _only_words(config, base, out, resume, notify)

    samples = _read(config)
    first = list(islice(samples, 24))
    detector, crops = choose_detector(first, base.detector, config.data.crops)
    notify(crops)
    started = time.monotonic()
    cache = feature_cache(encoder, detector)
    with count("looking at faces") as progress:
        entries = list(compute_features(chain(first, samples), encoder, detector, cache, cores(), progress))
    seconds = {"looking": time.monotonic() - started}
    for line in summary(entries, config):
        notify(line)
    faces = gather(entries, config.data)
    parts = make_splits(faces, config.data.validation, config.data.holdout, config.seed, config.data.limit)
    for line in told(faces, parts):
        notify(line)

    if first_process:
        run_folder.begin(out, config, resume)
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
        spec |= described(learned, faces, parts, config)
        notify(confidence(spec["calibration"], learned, parts))
        figures, probabilities = measured(base.reader, spec, learned, faces, parts, config)
        metrics |= figures
    seconds["training"] = time.monotonic() - started
    if first_process:
        told_more = fit_measures(
            faces.samples, features, (parts.train, parts.holdout, parts.report), out, config.seed,
            distributions=probabilities, base_units=_base_units(config, encoder, faces, parts, detector),
        )  # fmt: skip
        if told_more is not None:
            metrics["measures"] = told_more
    started = time.monotonic()
    place = {faces.ids[row]: name for name, rows in parts.named().items() for row in rows}
    words = finetune_texts(
        ((sample, place[sample.id]) for sample in _read(config) if sample.id in place),
        base, config.words, out, notify,
        detector=detector, labels=faces.labels or base.default_labels, model=config.model, seed=config.seed,
        device=config.device, resume=resume,
    )  # fmt: skip
    if words is not None:
        metrics["words"], seconds["words"] = words, time.monotonic() - started
    metrics["seconds"] = {name: round(value, 1) for name, value in seconds.items()}
    if not first_process:
        return Tuned(out, {})
    missed = metrics.get("measures", {}).get("left_out", {})
    if not faces.labels and words is None and set(metrics.get("measures", ())) <= {"left_out"}:
        why = "; ".join(f"{name}: {reason}" for name, reason in missed.items())
        raise EmoreasonError(f"nothing was learned: {why or 'the data has no labels, measures or texts'}")
    if faces.labels:
        run_folder.write_log(out, learned.log, learned.kept)
    run_folder.write_split(out, sorted(split_rows(faces, parts)))
    run_folder.finish(out, spec, metrics, tensors)
    return Tuned(out, metrics)


def _read(config: FinetuneConfig) -> Iterator[Sample]:
    return iter(read(config.data.source, format=config.data.format))


def _base_units(
    config: FinetuneConfig, encoder: Encoder, faces: LabeledFaces, parts: Splits, detector: Detector | None
) -> dict[str, np.ndarray]:
    """What the base model's own head says of the faces that measures are judged on; NaN for the others."""
    if encoder.unit_head is None or not any(sample.units for sample in faces.samples):
        return {}
    rows = np.concatenate([parts.holdout, parts.report])
    source = config.data.source
    pixels = pixels_of(source, config.data.format, [faces.ids[row] for row in rows], encoder, detector)
    units = np.full((len(faces), len(encoder.unit_codes)), np.nan, np.float32)
    units[rows] = units_of(encoder, pixels)
    return dict(zip(encoder.unit_codes, units.T, strict=True))


def _spec(config: FinetuneConfig, encoder: Encoder, labels: Sequence[str], digest: str, train: int) -> dict[str, Any]:
    """model.json, before anything is known of what was trained."""
    return {
        "kind": "head",
        "what": "none",
        "name": config.name,
        "base": config.model,
        "base_revision": encoder.revision,
        "labels": list(labels),
        "trained_on": {"data_sha256": digest, "train": train, "seed": config.seed},
    }


def _only_words(
    config: FinetuneConfig, base: Reasoner, out: Path, resume: bool, notify: Callable[[str], None]
) -> Tuned:
    """A file of conversations about pictures: the explainer alone is trained."""
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
    return Tuned(out, metrics)


def _train(
    config: FinetuneConfig,
    reasoner: Reasoner,
    faces: LabeledFaces,
    parts: Splits,
    detector: Detector | None,
    out: Path,
    notify: Callable[[str], None],
    count: Count,
) -> tuple[Learned, dict[str, np.ndarray]]:
    """The head on frozen features; then, where it is asked for, the image tower with it. -> and the tensors to keep."""
    zeroshot = reasoner.reader.zeroshot
    what, why = chosen(config.what, reasoner.compute, len(parts.train))
    notify(f"what is trained: {what} ({why})")
    words = replace(zeroshot, projection=None).prototypes(faces.labels)
    started = time.monotonic()
    loss = replace(config.loss, name="ce") if what != "head" and config.loss.name in TOWER_ONLY else config.loss
    few = what == "head" and int((faces.label[parts.holdout] >= 0).sum()) < FEW_FACES
    scale, settings = zeroshot.encoder.logit_scale, (config.train, config.seed)
    with count("training the head") as progress:
        crossed = crossfit(words, scale, faces, parts, *settings, progress, loss) if few else None
        if crossed is None:
            train, holdout = part_of(faces, parts.train), part_of(faces, parts.holdout)
            trained, judged = train_head(words, scale, train, holdout, *settings, progress, loss), None
        else:
            trained, judged = crossed
    chosen_by = f", chosen by {len(judged.rows)} faces that other heads had not seen" if judged else ""
    took = time.monotonic() - started
    notify(f"the head: {len(trained.log) - 1} epochs in {took:.1f} s; epoch {trained.epoch} is kept{chosen_by}")
    head = {"head.weight": trained.weight, "head.bias": trained.bias}
    if what == "head":
        return Learned(what, trained.weight, trained.bias, faces.features, trained.epoch, trained.log, {}, judged), head
    from emoreason.train.processes import make_accelerator

    accelerator = make_accelerator(reasoner.compute)
    with count("training the image tower (steps)") as progress:
        learned, tuned, tower = tune_tower(
            config, what, reasoner.compute, faces, parts, trained, detector, out, accelerator, notify, progress
        )
    gain = "" if learned.kept else ", that is the head alone: the held-out faces gained nothing by more"
    notify(f"{what}: step {learned.kept} is kept{gain}; {learned.speed['rows_per_second']:.0f} faces a second")
    head = {"head.weight": learned.weight, "head.bias": learned.bias}
    return learned, head | (save_tower(what, tower, tuned, out) if accelerator.is_main_process else {})


def resolved(config: FinetuneConfig) -> FinetuneConfig:
    """With the names filled in, so that config.yaml says all."""
    if not config.data.source:
        raise UsageError("--data is missing: emoreason finetune --data my_faces/ --out runs/mine")
    one_of("data.crops", config.data.crops, CROPS)
    one_of("what", config.what, WHATS)
    one_of("loss.name", config.loss.name, NAMES)
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
    refuse_nonsense(config)
    for source in filter(None, (config.data.source, config.data.unlabeled)):
        if not has_messages(source):
            read(source, format=config.data.format if source == config.data.source else "auto")  # is it there at all?
    bundle = find_bundle(config.model)
    if bundle is not None and bundle.base is not None:
        raise UsageError(f"--model {config.model} is a head itself: train on what it stands on, --model {bundle.base}")
    model = str(bundle.folder.resolve()) if bundle and Path(config.model) == bundle.folder else config.model
    plain = config.data.source.removeprefix("hub:").rstrip("/")
    out = config.out or f"runs/{Path(plain).stem or 'mine'}"
    faces = Path(config.data.source)
    if faces.is_dir() and Path(out).resolve().is_relative_to(faces.resolve()) and sniff(faces) == "imagefolder":
        raise UsageError(f"--out {out} lies in --data {faces}, where its figures would be taken for faces")
    return replace(config, model=model, out=out, name=config.name or Path(out).resolve().name)
