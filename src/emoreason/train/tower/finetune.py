"""Tunes the image tower together with a trained head, and computes the features of the tuned encoder."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emoreason.core.device import Compute
from emoreason.core.errors import UsageError
from emoreason.faces.detect import Detector
from emoreason.models.encoder import Encoder, load_encoder
from emoreason.train.features import face_pixels
from emoreason.train.finetune_config import FinetuneConfig
from emoreason.train.heads.label_model import LabelModel
from emoreason.train.heads.training import TrainedHead
from emoreason.train.labeled_faces import LabeledFaces
from emoreason.train.loop import FitResult, fit
from emoreason.train.processes import is_sharded
from emoreason.train.splits import Splits
from emoreason.train.tower.lora import Tower, fresh_tower, make_tower, merged, save_adapter
from emoreason.train.tower.steps import Crops, TowerTask

WHATS = ("auto", "head", "lora", "full")
MANY_FACES = 2000  # training faces from which `auto` chooses LoRA on a GPU
IN_MEMORY = 2 << 30  # bytes of crops; more go to a temporary file


def choose_what(what: str, compute: Compute, faces: int) -> tuple[str, str]:
    """head, lora or full, and the reason."""
    if what != "auto":
        return what, "as asked"
    if not compute.device.startswith("cuda"):
        return (
            "head",
            f"on {compute.device} a head on frozen features takes seconds (--what lora trains the encoder too)",
        )
    if faces < MANY_FACES:
        return (
            "head",
            f"{faces} faces are few: below {MANY_FACES} the encoder stays frozen (--what lora trains it anyway)",
        )
    return "lora", f"a GPU and {faces} faces"


def tune_tower(
    config: FinetuneConfig,
    what: str,
    compute: Compute,
    faces: LabeledFaces,
    parts: Splits,
    head: TrainedHead,
    detector: Detector | None,
    out: Path,
    accelerator: Any,
    notify: Callable[[str], None],
    progress: Callable[[int], None] = lambda n: None,
) -> tuple[LabelModel, Encoder, Tower]:
    """Train the tower, starting its head from `head`. Returns the model, the tuned encoder and the tower to save."""
    encoder = load_encoder(config.model, compute)  # a fresh one, because training changes it
    rows = np.concatenate([parts.train, parts.holdout, parts.report])
    pixels = pixels_of(config.data.source, config.data.format, [faces.ids[row] for row in rows], encoder, detector)
    index_of = {int(row): i for i, row in enumerate(rows)}

    def crops(part: np.ndarray) -> Crops:
        return Crops(pixels[[index_of[int(row)] for row in part]], faces.targets[part])

    train, holdout = crops(parts.train), crops(parts.holdout)
    if config.data.unlabeled:
        known = {faces.keys[row] for row in (*parts.holdout, *parts.report)}
        train = add_unlabeled(train, config.data.unlabeled, encoder, detector, known)
        notify(f"{len(train) - len(parts.train)} faces without labels from {config.data.unlabeled}")
    if config.tower.fresh and accelerator.num_processes > 1:
        raise UsageError(
            "tower.fresh needs a single process: with several, each batch norm would see only the faces of one process"
        )
    torch.manual_seed(config.seed)  # initial values of LoRA or of a new tower
    tower = _tower(config, what, encoder, head)
    work = TowerTask(tower.to(compute.device), train, holdout, config, encoder.normalise)
    if config.tower.checkpointing:
        encoder.visual.set_grad_checkpointing(True)
    steps = config.tower.epochs * work.pass_steps
    trained = sum(p.numel() for p in work.parameters() if p.requires_grad)
    processes = f", {accelerator.num_processes} processes" if accelerator.num_processes > 1 else ""
    notify(f"{what}: {trained:,} numbers to train, {steps} steps of {work.batch} faces{processes}")
    fitted = fit(work, steps, work.pass_steps, config.loop, out, accelerator, config.seed, notify, progress)
    if is_sharded(accelerator):  # the sharded `work` cannot be put together again
        encoder = load_encoder(config.model, compute)
        work = TowerTask(
            _tower(config, what, encoder, head).to(compute.device), train, holdout, config, encoder.normalise
        )
    work.load_learned(fitted.learned)
    return finish(what, work.tower, encoder, pixels, rows, faces, fitted)


def finish(
    what: str,
    tower: Tower,
    encoder: Encoder,
    pixels: np.ndarray,
    rows: np.ndarray,
    faces: LabeledFaces,
    fitted: FitResult,
) -> tuple[LabelModel, Encoder, Tower]:
    """Merge the tower and compute the features of all faces with it."""
    tuned = encoder.with_tower(_copy_merged(tower), encoder.revision)
    features = np.zeros((len(faces), faces.features.shape[1]), np.float32)
    for start in range(0, len(rows), 128):
        features[rows[start : start + 128]] = tuned.encode_pixels(pixels[start : start + 128]).embedding
    weight, bias = (p.detach().float().cpu().numpy() for p in (tower.head_weight, tower.head_bias))
    speed = {"rows_per_second": round(fitted.rows_per_second, 1), "peak_gb": round(fitted.peak_bytes / 1e9, 2)}
    return LabelModel(what, weight, bias, features, fitted.step, fitted.log, speed), tuned, tower


def save_tower(what: str, tower: Tower, tuned: Encoder, out: Path) -> dict[str, np.ndarray]:
    """Write adapter/ for LoRA. Returns the tensors that go into weights.safetensors beside the head."""
    tensors: dict[str, np.ndarray] = {}
    if what == "lora":
        save_adapter(tower.visual, out / "adapter")
    else:
        tensors |= {f"visual.{name}": value.float().cpu().numpy() for name, value in tuned.visual.state_dict().items()}
    return tensors


def pixels_of(source: str, format: str, ids: Sequence[str], encoder: Encoder, detector: Detector | None) -> np.ndarray:
    """(n, S, S, 3) uint8 in the order of `ids`. Reads the pictures again, because only features are cached."""
    from emoreason.data import read

    wanted = {name: i for i, name in enumerate(ids)}
    pixels = pixel_buffer(len(ids), encoder.size)
    for sample, crop in face_pixels((s for s in read(source, format=format) if s.id in wanted), encoder, detector):
        pixels[wanted[sample.id]] = crop
    return pixels


def add_unlabeled(
    train: Crops, source: str, encoder: Encoder, detector: Detector | None, known: Iterable[str]
) -> Crops:
    """Append the faces of `source` without labels, except those in `known` (held-out and report faces)."""
    from PIL import Image

    from emoreason.data import read
    from emoreason.data.duplicates import fingerprint_of

    excluded = set(known)
    crops = [
        crop
        for _, crop in face_pixels(read(source), encoder, detector)
        if fingerprint_of(Image.fromarray(crop)).key not in excluded
    ]
    if not crops:
        raise UsageError(f"data.unlabeled {source}: no face was found in it")
    pixels = np.concatenate([train.pixels, np.stack(crops)])
    no_label = np.zeros((len(crops), train.targets.shape[1]), train.targets.dtype)
    return Crops(pixels, np.concatenate([train.targets, no_label]))


def pixel_buffer(n: int, size: int) -> np.ndarray:
    """(n, size, size, 3) zeros, in memory or in a temporary file."""
    shape = (n, size, size, 3)
    if np.prod(shape, dtype=np.int64) < IN_MEMORY:
        return np.zeros(shape, np.uint8)
    return np.memmap(tempfile.TemporaryFile(), np.uint8, shape=shape)  # deleted when the run ends, even after a crash


def units_of(encoder: Encoder, pixels: np.ndarray) -> np.ndarray | None:
    """(n, U) action units of the base model; None if it measures none."""
    if not encoder.unit_codes:
        return None
    return np.concatenate([encoder.encode_pixels(pixels[i : i + 128]).units for i in range(0, len(pixels), 128)])


def _tower(config: FinetuneConfig, what: str, encoder: Encoder, head: TrainedHead) -> Tower:
    if not config.tower.fresh:
        return make_tower(encoder, what, config.lora, head.weight, head.bias)
    if what != "full":
        raise UsageError(
            f"tower.fresh starts the image tower from random weights, which --what {what} does not train: --what full"
        )
    return fresh_tower(config.model, head.weight, head.bias)


def _copy_merged(tower: Tower) -> Any:
    """Merge a copy of the tower, because the LoRA adapter is still to be saved from the original."""
    import copy

    return merged(copy.deepcopy(tower.visual))
