"""Exp-CLIP (Zhao et al., WACV 2025): learns one linear map for faces and texts from faces without labels.

The projected embedding of a face must match the hidden state of an instruction-following language model that looks at
the same face (InfoNCE over the faces of a batch). The result is a file for `--projection`.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from emoreason.core import device
from emoreason.core.environment import describe
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.files import write_atomically
from emoreason.core.probabilities import softmax
from emoreason.data import read
from emoreason.data.check import copies_in
from emoreason.evaluate.predictions import Prediction
from emoreason.evaluate.score import score
from emoreason.evidence.zeroshot import TextCache, ZeroShot, load_label_prompts, load_projection
from emoreason.faces.detect import load_detector
from emoreason.knowledge.emotions import label_set
from emoreason.models.encoder import Features, load_encoder
from emoreason.reasoner import DEFAULT_LABELS
from emoreason.train.checkpoint import read_checkpoint, write_checkpoint
from emoreason.train.curve import draw
from emoreason.train.features import CROPS, choose_detector
from emoreason.train.recipes.exp_clip_config import ExpClipConfig, ProjectionTraining
from emoreason.train.recipes.exp_clip_teacher import load_teacher
from emoreason.train.recipes.exp_clip_vectors import FaceVectors, VectorSource, face_vectors, vector_cache
from emoreason.train.run_card import majority, score_rows
from emoreason.train.settings import require_one_of

WEIGHTS, CHECKPOINT = "projection.safetensors", "checkpoint.pt"


def train_exp_clip(
    config: ExpClipConfig, notify: Callable[[str], None] = lambda text: None, cache: Path | None = None
) -> Path:
    """Run the recipe, or continue a stopped run. Returns the path of the projection.

    cache: folder for cached vectors, instead of the user's cache folder."""
    if not config.data.source:
        raise UsageError("data.source is missing: --data my_faces/ (no labels are needed)")
    require_one_of("data.crops", config.data.crops, CROPS)
    out = Path(config.out)
    _prepare(out, config)
    compute = device.choose(config.device)
    encoder = load_encoder(config.model, compute)
    notify(f"{encoder.name} {encoder.revision} on {compute.device}: {compute.reason}")
    first = islice(read(config.data.source), 24)
    detector, crops = choose_detector(first, load_detector(config.detector), config.data.crops)
    notify(crops)
    held_out = list(read(config.data.validation)) if config.data.validation else []
    skipped = copies_in(read(config.data.source), held_out) if held_out else set()
    if skipped:
        notify(f"{len(skipped)} faces are copies of validation faces and are left out")
    samples = islice((s for s in read(config.data.source) if s.id not in skipped), config.data.limit or None)
    teacher = load_teacher(config.teacher, compute)
    crop = detector.name if detector else "whole"
    student = f"{encoder.name} {encoder.revision} {encoder.mirror} {compute.dtype}"
    student_source = VectorSource(
        vector_cache(f"{student} {crop}", cache), lambda crops: encoder.encode_faces(crops).embedding
    )
    teacher_source = VectorSource(vector_cache(f"{teacher.id} {compute.dtype} {crop}", cache), teacher.embed)
    faces = list(face_vectors(samples, detector, (student_source, teacher_source), config.teacher.batch_size, notify))
    if len(faces) < 2:
        raise EmoreasonError(
            f"{config.data.source} has {len(faces)} faces; at least 2 are needed, to contrast each with the others"
        )
    embeddings, targets = (np.stack([face.vectors[i] for face in faces]) for i in (0, 1))
    weight, log = train_projection(
        embeddings, targets, encoder.logit_scale, config.train, config.seed, out / CHECKPOINT, notify
    )
    _write_projection(out / WEIGHTS, weight)
    metrics: dict[str, Any] = {
        "faces": len(faces), "copies_left_out": len(skipped), "teacher": teacher.id, "width": weight.shape[0],
        "data_sha256": hashlib.sha256(b"".join(sorted(face.key for face in faces))).hexdigest(),
        "last": log[-1] if log else None,
    }  # fmt: skip
    if held_out:
        labeled = [sample for sample in held_out if sample.label and not sample.problem]
        zeroshot = ZeroShot(encoder, load_label_prompts(), TextCache())
        validation = list(face_vectors(iter(labeled), detector, (student_source,), 128, notify))
        metrics |= {"model": encoder.name, "validation": config.data.validation}
        for name, model in (("before", zeroshot), ("after", zeroshot.with_projection(out / WEIGHTS))):
            metrics[name] = _zero_shot(model, validation, config.seed)
            war, uar = (metrics[name][key]["value"] for key in ("accuracy", "uar"))
            notify(f"zero-shot {name}: accuracy {100 * war:.1f} %, UAR {100 * uar:.1f} %")
    write_atomically(out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in log).encode())
    write_atomically(out / "metrics.json", (json.dumps(metrics, indent=1) + "\n").encode())
    curve = {"loss": [(line["step"], line["loss"]) for line in log]}
    write_atomically(out / "loss.png", draw(curve, "step", "InfoNCE"))
    write_atomically(out / "README.md", _card(config, encoder.revision, metrics).encode())
    (out / CHECKPOINT).unlink(missing_ok=True)  # removed last: a folder without a checkpoint is a finished run
    return out / WEIGHTS


def train_projection(
    embeddings: np.ndarray,
    targets: np.ndarray,
    scale: float,
    config: ProjectionTraining,
    seed: int,
    checkpoint: Path,
    notify: Callable[[str], None] = lambda text: None,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """(n, D) and (n, H) -> the map (H, D) and the log. A killed run continues exactly.

    It has its own loop instead of train/loop.py: the loss compares each face with all others of its batch, so it is not
    a sum over rows and cannot be split into micro-batches. All data is in memory, and a step takes milliseconds."""
    n, size = len(embeddings), min(config.batch_size, len(embeddings))
    if size < config.batch_size:
        notify(f"{n} faces are fewer than the batch size {config.batch_size}: each batch has all of them")
    steps = n // size
    bound = 1 / math.sqrt(embeddings.shape[1])  # the initialisation of torch.nn.Linear, which the published heads used
    start = torch.Generator().manual_seed(seed)
    weight = (
        torch.empty(targets.shape[1], embeddings.shape[1]).uniform_(-bound, bound, generator=start).requires_grad_()
    )
    optimizer = torch.optim.SGD([weight], lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    log: list[dict[str, Any]] = []
    if (state := read_checkpoint(checkpoint)) is not None:
        if state["weight"].shape != weight.shape or state["n"] != n:
            raise EmoreasonError(f"{checkpoint} is from other data or another model: give another --out")
        weight.data.copy_(state["weight"])
        optimizer.load_state_dict(state["optimizer"])
        log = state["log"]
        notify(f"going on after step {len(log)} of {steps * config.epochs}")
    for number in range(len(log), steps * config.epochs):
        epoch, place = divmod(number, steps)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed * 100_003 + epoch))
        rows = order[place * size : (place + 1) * size].numpy()
        loss, top1 = info_nce(
            weight, torch.from_numpy(embeddings[rows]).float(), torch.from_numpy(targets[rows]).float(), scale
        )
        if not torch.isfinite(loss):
            raise EmoreasonError(f"the loss became {loss.item()} in step {number + 1}: try a smaller --train.lr")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log.append({"step": number + 1, "epoch": epoch + 1, "loss": loss.item(), "top1": top1})
        if (number + 1) % config.checkpoint_every == 0 or place + 1 == steps:
            state = {"weight": weight.detach(), "optimizer": optimizer.state_dict(), "log": log, "n": n}
            write_checkpoint(checkpoint, state)
        if place + 1 == steps:
            notify(f"epoch {epoch + 1}: loss {np.mean([line['loss'] for line in log[-steps:]]):.4f}")
    return weight.detach().numpy(), log


def info_nce(weight: Tensor, embeddings: Tensor, targets: Tensor, scale: float) -> tuple[Tensor, float]:
    """The symmetric contrastive loss of a batch, and the share of faces whose own text is the nearest."""
    faces, texts = F.normalize(embeddings @ weight.T, dim=1), F.normalize(targets, dim=1)
    logits, own = scale * faces @ texts.T, torch.arange(len(embeddings))
    loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    return loss, float((logits.argmax(dim=1) == own).float().mean())


# ---- before and after -----------------------------------------------------------------------------------------------


def _zero_shot(model: ZeroShot, faces: Sequence[FaceVectors], seed: int) -> dict[str, Any]:
    """Zero-shot scores from the label words alone, without calibration or head."""
    samples, embeddings = [face.sample for face in faces], np.stack([face.vectors[0] for face in faces])
    present = {str(sample.label) for sample in samples}
    default = label_set(DEFAULT_LABELS).labels
    labels = default if present <= set(default) else tuple(sorted(present))
    rows = softmax(model.logits(Features(embeddings, None), labels))
    predictions = [
        Prediction(sample.id, "ok", labels[int(row.argmax())], dict(zip(labels, map(float, row), strict=True)),
                   target=sample.label)
        for sample, row in zip(samples, rows, strict=True)
    ]  # fmt: skip
    figures = score(predictions, labels, lambda row: row.target, lambda row: None, seed)
    return {key: figures[key] for key in ("n", "accuracy", "uar", "macro_f1", "majority", "per_class")}


# ---- the folder -----------------------------------------------------------------------------------------------------


def _prepare(out: Path, config: ExpClipConfig) -> None:
    """Create the folder, or accept that of this run if it was stopped."""
    text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
    config_file = out / "config.yaml"
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not config_file.is_file()):
        raise UsageError(f"--out {out} holds other files: give an empty or new folder")
    if config_file.is_file() and (out / "metrics.json").is_file() and not (out / CHECKPOINT).is_file():
        raise UsageError(f"--out {out} holds a finished run: give another --out")
    if config_file.is_file() and config_file.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"--out {out} holds a run with another configuration: give another --out, or use the same configuration"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(config_file, text.encode())
        write_atomically(out / "env.txt", (describe().text + "\n").encode())
    except OSError as error:
        raise EmoreasonError(f"--out {out} cannot be written: {error.strerror or error}") from None


def _write_projection(path: Path, weight: np.ndarray) -> None:
    """Write the weights in the published layout, which `--projection` reads."""
    from safetensors.numpy import save

    write_atomically(path, save({"mlp.weight": np.ascontiguousarray(weight, np.float32)}))
    load_projection(path, weight.shape[1])


# ---- the card -------------------------------------------------------------------------------------------------------


def _card(config: ExpClipConfig, revision: str, metrics: Mapping[str, Any]) -> str:
    """The text of README.md."""
    out = Path(config.out).as_posix()
    lines = [
        f"# A projection for {config.model}",
        "",
        f"One bias-free linear map to {metrics['width']} dimensions, shared by faces and texts, on the encoder of "
        f"`{config.model}` (revision {revision}). Learned by Exp-CLIP's recipe (Zhao et al., WACV 2025) from "
        f"{metrics['faces']} faces without labels; the teacher is `{config.teacher.model}` with the instruction "
        f"“{config.teacher.instruction}”",
        "",
        f"    emoreason explain photo.jpg --model {config.model} --projection {out}/projection.safetensors",
        "",
        f"Data: {config.data.source}; SHA-256 {metrics['data_sha256'][:12]}; {metrics['copies_left_out']} copies of "
        f"validation faces left out. {_final_scores(metrics['last'])}",
        "",
        "![Loss](loss.png)",
    ]
    if "after" in metrics:
        after = metrics["after"]
        lines += [
            "",
            f"| zero-shot, {after['n']} faces of {metrics['validation']} | before | after |",
            "| --- | --- | --- |",
            *score_rows(metrics["before"], after),
            "",
            f"From the label words alone, without calibration. {majority(after)}",
        ]
    lines += [
        "",
        "It describes the expression that is shown, not what a person feels. Not for use at work or in education, "
        "not a lie detector, not a diagnosis.",
        "",
    ]
    return "\n".join(lines)


def _final_scores(last: Mapping[str, float] | None) -> str:
    if last is None:
        return "Not trained: this is the random initial map."
    return (
        f"In the last batch the loss was {last['loss']:.4f} and for {100 * last['top1']:.1f} % of the faces "
        "their own text was the nearest."
    )
