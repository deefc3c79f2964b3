"""From a head on frozen features to a tower that was tuned with it, and what its encoder then sees."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
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
from emoreason.train.heads.learned import Learned
from emoreason.train.heads.training import Trained
from emoreason.train.labeled_faces import LabeledFaces
from emoreason.train.loop import Fitted, fit
from emoreason.train.processes import is_spread
from emoreason.train.splits import Splits
from emoreason.train.tower.lora import Tower, fresh_tower, make_tower, merged, save_adapter
from emoreason.train.tower.steps import Crops, TowerTask

WHATS = ("auto", "head", "lora", "full")
MANY_FACES = 2000  # training faces from which LoRA is worth a GPU's time
IN_MEMORY = 2 << 30  # bytes of crops; more lie in a temporary file


def chosen(what: str, compute: Compute, faces: int) -> tuple[str, str]:
    """head, lora or full, and why."""
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
            f"{faces} faces are few: below {MANY_FACES} the encoder stays frozen (--what lora trains it all the same)",
        )
    return "lora", f"a GPU and {faces} faces"


def tune_tower(
    config: FinetuneConfig,
    what: str,
    compute: Compute,
    faces: LabeledFaces,
    parts: Splits,
    head: Trained,
    detector: Detector | None,
    out: Path,
    accelerator: Any,
    notify: Callable[[str], None],
    progress: Callable[[int], None] = lambda n: None,
) -> tuple[Learned, Encoder, Tower]:
    """`head` is where the tower's head starts. -> what was learned, the tuned encoder, the tower as it is saved."""
    encoder = load_encoder(config.model, compute)  # one of its own: training changes it
    rows = np.concatenate([parts.train, parts.holdout, parts.report])
    pixels = pixels_of(config.data.source, config.data.format, [faces.ids[row] for row in rows], encoder, detector)
    place = {int(row): i for i, row in enumerate(rows)}

    def crops(chosen_rows: np.ndarray) -> Crops:
        mine = [place[int(row)] for row in chosen_rows]
        return Crops(pixels[mine], faces.targets[chosen_rows])

    train, holdout = crops(parts.train), crops(parts.holdout)
    if config.data.unlabeled:
        known = {faces.keys[row] for row in (*parts.holdout, *parts.report)}
        train = with_unlabeled(train, config.data.unlabeled, encoder, detector, known)
        notify(f"{len(train) - len(parts.train)} faces without labels from {config.data.unlabeled}")
    if config.tower.fresh and accelerator.num_processes > 1:
        raise UsageError("tower.fresh is for one process: its batch norms would see the faces of one process each")
    torch.manual_seed(config.seed)  # LoRA's first numbers, and those of a tower that starts from nothing
    train = replace(train, units=units_of(encoder, train.pixels))  # before training changes the encoder
    tower = _tower(config, what, encoder, head)
    work = TowerTask(tower.to(compute.device), train, holdout, config, encoder.normalise)
    if config.tower.checkpointing:
        encoder.visual.set_grad_checkpointing(True)
    steps = config.tower.epochs * work.pass_steps
    trained = sum(p.numel() for p in work.parameters() if p.requires_grad)
    several = f", {accelerator.num_processes} processes" if accelerator.num_processes > 1 else ""
    notify(f"{what}: {trained:,} numbers to train, {steps} steps of {work.batch} faces{several}")
    fitted = fit(work, steps, work.pass_steps, config.loop, out, accelerator, config.seed, notify, progress)
    if is_spread(accelerator):  # the pieces of `work` cannot be put together
        encoder = load_encoder(config.model, compute)
        work = TowerTask(
            _tower(config, what, encoder, head).to(compute.device), train, holdout, config, encoder.normalise
        )
    work.load_learned(fitted.learned)
    return finish(what, work.tower, encoder, pixels, rows, faces, fitted)


def finish(
    what: str, tower: Tower, encoder: Encoder, pixels: np.ndarray, rows: np.ndarray, faces: LabeledFaces, fitted: Fitted
) -> tuple[Learned, Encoder, Tower]:
    tuned = encoder.with_tower(_copy_merged(tower), tower.units, encoder.revision)
    features = np.zeros((len(faces), faces.features.shape[1]), np.float32)
    for start in range(0, len(rows), 128):
        features[rows[start : start + 128]] = tuned.encode_pixels(pixels[start : start + 128]).embedding
    weight, bias = (p.detach().float().cpu().numpy() for p in (tower.head_weight, tower.head_bias))
    speed = {"rows_per_second": round(fitted.rows_per_second, 1), "peak_gb": round(fitted.peak_bytes / 1e9, 2)}
    return Learned(what, weight, bias, features, fitted.step, fitted.log, speed), tuned, tower


def save_tower(what: str, tower: Tower, tuned: Encoder, out: Path) -> dict[str, np.ndarray]:
    """adapter/ for LoRA. -> the tensors that belong into weights.safetensors beside the head."""
    tensors: dict[str, np.ndarray] = {}
    if what == "lora":
        save_adapter(tower.visual, out / "adapter")
    else:
        tensors |= {f"visual.{name}": value.float().cpu().numpy() for name, value in tuned.visual.state_dict().items()}
    if tower.units is not None:
        tensors |= {f"units.{name}": value.float().cpu().numpy() for name, value in tower.units.state_dict().items()}
    return tensors


def pixels_of(source: str, format: str, ids: Sequence[str], encoder: Encoder, detector: Detector | None) -> np.ndarray:
    """(n, S, S, 3) uint8 in the order of `ids`. The pictures are read again: only features are kept between runs."""
    from emoreason.data import read

    wanted = {name: i for i, name in enumerate(ids)}
    pixels = room(len(ids), encoder.size)
    for sample, crop in face_pixels((s for s in read(source, format=format) if s.id in wanted), encoder, detector):
        pixels[wanted[sample.id]] = crop
    return pixels


def with_unlabeled(
    train: Crops, source: str, encoder: Encoder, detector: Detector | None, known: Iterable[str]
) -> Crops:
    """No face that is measured on, and none without a face to be found."""
    from PIL import Image

    from emoreason.data import read
    from emoreason.data.duplicates import fingerprint_of

    there = set(known)
    more = [
        crop
        for _, crop in face_pixels(read(source), encoder, detector)
        if fingerprint_of(Image.fromarray(crop)).key not in there
    ]
    if not more:
        raise UsageError(f"data.unlabeled {source}: no face was found there")
    pixels = np.concatenate([train.pixels, np.stack(more)])
    nothing = np.zeros((len(more), train.targets.shape[1]), train.targets.dtype)
    return Crops(pixels, np.concatenate([train.targets, nothing]))


def room(n: int, size: int) -> np.ndarray:
    shape = (n, size, size, 3)
    if np.prod(shape, dtype=np.int64) < IN_MEMORY:
        return np.zeros(shape, np.uint8)
    return np.memmap(tempfile.TemporaryFile(), np.uint8, shape=shape)  # gone when the run ends, however it ends


def units_of(encoder: Encoder, pixels: np.ndarray) -> np.ndarray | None:
    """(n, U) what the base model's own head says: the tuned one is held to it."""
    if encoder.unit_head is None:
        return None
    return np.concatenate([encoder.encode_pixels(pixels[i : i + 128]).units for i in range(0, len(pixels), 128)])


def _tower(config: FinetuneConfig, what: str, encoder: Encoder, head: Trained) -> Tower:
    if not config.tower.fresh:
        return make_tower(encoder, what, config.lora, head.weight, head.bias)
    if what != "full":
        raise UsageError(
            f"tower.fresh starts the image tower from nothing, which --what {what} does not train: --what full"
        )
    return fresh_tower(config.model, head.weight, head.bias)


def _copy_merged(tower: Tower) -> Any:
    """LoRA is saved beside the tower, so that what is merged is a copy."""
    import copy

    return merged(copy.deepcopy(tower.visual))
