"""The mini's second training: the teacher's landmarks, blendshapes and pose beside the labels, on worse pictures.

It continues from an encoder of `mini_encoder.py`. The teacher saw each clean face; the student sees the same face made
small, dark, blurred, compressed, turned or partly covered, and must give the same answers. Labels come from the votes,
and on faces without votes from the encoder it started from. Some pictures are no faces at all.
"""

import copy
import dataclasses
import hashlib
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from emoreason.core import device
from emoreason.core.resources import resource
from emoreason.data import read
from emoreason.data.check import copies_in
from emoreason.models.encoder import create_clip
from emoreason.models.face_head import BLENDSHAPES, DEGREES, FaceHead, FaceMeasures
from emoreason.train.augment import apply, draw
from emoreason.train.checkpoint import read_checkpoint, write_checkpoint
from emoreason.train.heads.losses import soft_cross_entropy
from emoreason.train.recipes import mini_captions as text
from emoreason.train.recipes.corruptions import corrupt, cover
from emoreason.train.recipes.face_targets import (
    FaceTargets,
    Landmarks,
    blendshape_ranges,
    mirrored_blendshapes,
    mirrored_points,
)
from emoreason.train.recipes.mini_encoder import majority_scores
from emoreason.train.recipes.mini_eyes_config import EyesConfig, EyesTraining
from emoreason.train.recipes.mini_faces import EMOTIONS, FerplusFaces, read_faces, split
from emoreason.train.recipes.mini_network import EncoderWithHeads, embed_faces, load_weights, normalise
from emoreason.train.recipes.nonfaces import draw_nonfaces
from emoreason.train.recipes.wild_faces import read_wild
from emoreason.train.settings import AugmentConfig

EYES = (33, 133, 362, 263, 159, 145, 386, 374)  # points around the eyes
MOUTH = (61, 291, 0, 17, 37, 267, 84, 314)
MOUTH_SHAPES = [i for i, name in enumerate(BLENDSHAPES) if name.startswith(("mouth", "jaw"))]
EYE_SHAPES = [i for i, name in enumerate(BLENDSHAPES) if name.startswith(("brow", "eye", "cheekSquint"))]
SCORE_EVERY = 2  # epochs


class Eyes(nn.Module):
    """The encoder with the face head."""

    def __init__(self, encoder: EncoderWithHeads, points: np.ndarray):
        super().__init__()
        self.encoder = encoder
        self.face = FaceHead(encoder.visual.trunk.num_features)
        mean, basis = _modes(points, len(self.face.basis))
        self.face.mean.copy_(torch.from_numpy(mean))
        self.face.basis.copy_(torch.from_numpy(basis))

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor, FaceMeasures]:
        """(B, 1, 48, 48) -> embedding (B, D) of unit length, helper logits (B, 8), measures."""
        visual = self.encoder.visual
        grid = visual.trunk.forward_features(faces)
        pooled = grid.mean(dim=(2, 3))
        embedding = F.normalize(visual.head(pooled).float(), dim=1)
        helper = self.encoder.helper(F.dropout(pooled, 0.2, self.training)).float()
        return embedding, helper, self.face(grid)


def _modes(points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and principal components of points (n, 478, 2), each component as long as one standard deviation."""
    flat = points.reshape(len(points), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    _, s, vt = np.linalg.svd(flat - mean, full_matrices=False)
    basis = np.zeros((count, flat.shape[1]), np.float32)  # the rest stays zero if there are fewer faces than modes
    basis[: len(s)] = (vt * s[:, None] / len(flat) ** 0.5)[:count]
    return mean.astype(np.float32), basis


@dataclass
class TrainingSet:
    """Tensors of all training faces; those with votes come first."""

    pixels: Tensor  # (n, 48, 48) uint8
    labels: Tensor  # (n, 8) target distribution
    points: Tensor  # (n, 478, 2)
    blendshapes: Tensor  # (n, 52)
    pose: Tensor  # (n, 3), NaN without a face found
    voted: int  # faces with votes


def train_eyes(config: EyesConfig) -> Path:
    """Train and write weights.safetensors, config.yaml, run.json and log.jsonl. Returns the folder."""
    out, settings = Path(config.out), config.train
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    rng, np_rng = torch.Generator().manual_seed(config.seed), np.random.default_rng(config.seed)
    compute = device.choose("cpu")
    bf16 = compute.dtype == "bfloat16"
    print(f"computing on {compute.device} in {compute.dtype}: {compute.reason}", flush=True)

    clip, tokenizer = create_clip(config.model)
    encode = lambda texts: text.embed(texts, clip.encode_text, tokenizer, bf16)  # noqa: E731
    training_text = yaml.safe_load(resource(config.text).read_text())
    bank = text.prompt_bank(training_text, encode)
    clip.visual.requires_grad_(True)  # the text tower stays frozen
    encoder = EncoderWithHeads(clip.visual)
    load_weights(encoder, Path(settings.start))
    faces, data, facts = _read(config, encoder, bank.means(), bf16)
    print(json.dumps(facts), flush=True)
    caption_sets = [encode(text.captions(faces, training_text, np_rng)) for _ in range(2)]
    units = torch.from_numpy(faces.units)

    turned = _turned_points(data.points[: data.voted], config.augment, rng)
    model = Eyes(encoder, turned).to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).requires_grad_(False)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=settings.lr,
        fused=True,
    )
    steps = data.voted // settings.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.epochs * steps, pct_start=settings.warmup, final_div_factor=1000
    )
    (out / "config.yaml").write_text(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))
    about = {"bf16": bf16, "torch": torch.__version__, "python": platform.python_version()}
    (out / "run.json").write_text(json.dumps(facts | about, indent=2))

    partner = torch.from_numpy(mirrored_points(Landmarks.read(Path(config.data.landmarks) / "train.npz")))
    swapped = torch.from_numpy(mirrored_blendshapes())
    pictures = _pictures(config.data.pictures)
    parts: dict[str, Any] = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
    first, started = _resume(out, parts, rng), time.time()
    validation = read_faces(Path(config.data.validation))
    for epoch in range(first, settings.epochs):
        model.train()
        order = torch.randperm(data.voted, generator=rng)[: steps * settings.batch_size].view(steps, -1)
        sums: dict[str, float] = {}
        for step, voted in enumerate(order):
            rows = voted
            if len(data.pixels) > data.voted:
                others = torch.randint(data.voted, len(data.pixels), (settings.wild_size,), generator=rng)
                rows = torch.cat([voted, others])
            shown, targets = _show(data, rows, config, partner, swapped, rng)
            blanks = draw_nonfaces(faces.pixels, pictures, settings.nonface_size, np_rng)
            blanks_ = corrupt(torch.from_numpy(blanks).unsqueeze(1).float() / 255, rng)
            batch = normalise(torch.cat([shown, blanks_])).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                embedding, helper, measured = model(batch)
            scale = model.encoder.logit_scale.exp().clamp(max=100)
            logits = scale * embedding @ bank.prototypes(settings.text_noise, rng).T
            losses = _losses(logits, helper, measured, targets, len(voted), settings)
            pairs = scale * embedding[: len(voted)] @ caption_sets[step % len(caption_sets)][voted].T
            wanted = text.caption_targets(targets["labels"][: len(voted)], units[voted])
            both_ways = soft_cross_entropy(pairs, wanted).mean() + soft_cross_entropy(pairs.T, wanted).mean()
            losses["captions"] = settings.caption_weight * both_ways / 2
            loss = torch.stack(list(losses.values())).sum()
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss became {loss.item()} in epoch {epoch}: try a smaller train.lr")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
            schedule.step()
            _average(average, model, min(settings.ema, (2 + epoch * steps + step) / (11 + epoch * steps + step)))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item()
        line = {"epoch": epoch + 1, "seconds": time.time() - started, "lr": schedule.get_last_lr()[0]}
        line |= {name: value / steps for name, value in sums.items()}
        if (epoch + 1) % SCORE_EVERY == 0 or epoch + 1 == settings.epochs:
            embedding, _ = embed_faces(average.encoder, validation.pixels, bf16)
            line |= majority_scores((embedding @ bank.means().T).numpy(), validation)
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        save_eyes(average, out / "weights.safetensors")
        state = {name: part.state_dict() for name, part in parts.items()}
        state |= {"epoch": epoch + 1, "rng": rng.get_state(), "torch_rng": torch.get_rng_state()}
        write_checkpoint(out / "checkpoint.pt", state)
    return out


def save_eyes(model: Eyes, path: Path) -> None:
    """Save the weights that the bundle keeps: image tower, logit scale and face head."""
    from safetensors.torch import save_file

    state = {k.removeprefix("encoder."): v.contiguous() for k, v in model.state_dict().items()}
    save_file(
        {k: v for k, v in state.items() if not k.startswith(("helper", "units")) and "num_batches" not in k}, path
    )


def _read(
    config: EyesConfig, encoder: EncoderWithHeads, prototypes: Tensor, bf16: bool
) -> tuple[FerplusFaces, TrainingSet, dict]:
    """The faces with votes, all faces as tensors, and facts for run.json."""
    folder = Path(config.data.landmarks)
    everything = read_faces(Path(config.data.train), folder / "train.npz")
    copies = copies_in(read(config.data.train), read(config.data.validation))  # exact and near copies
    faces, holdout, dropped = split(everything, copies, config.data.holdout)
    if config.limit:
        faces = faces.take(np.arange(config.limit))
    landmarks = Landmarks.read(folder / "train.npz")
    ranges = blendshape_ranges(landmarks.blendshapes)
    whole = np.broadcast_to(np.array([0.0, 0.0, 48.0], np.float32), (len(landmarks.names), 3))
    row_of = {name: i for i, name in enumerate(everything.names)}
    targets = landmarks.targets(whole, ranges).take(np.array([row_of[name] for name in faces.names]))
    pixels, all_targets = [faces.pixels], [targets]
    if config.data.wild:
        wild = read_wild(Path(config.data.wild), folder / "wild.npz", ranges)
        pixels, all_targets = [*pixels, wild.pixels], [targets, wild.targets]
    stacked = np.concatenate(pixels)
    embedding, _ = embed_faces(encoder, stacked, bf16)
    answers = (encoder.logit_scale.exp().detach() * embedding @ prototypes.T).float().softmax(dim=1)
    votes, share = torch.from_numpy(faces.distribution), config.train.teacher_share
    labels = torch.cat([(1 - share) * votes + share * answers[: len(faces)], answers[len(faces) :]])
    points, shapes, pose = (
        torch.from_numpy(np.concatenate([getattr(t, field.name) for t in all_targets])).float()
        for field in dataclasses.fields(FaceTargets)
    )
    data = TrainingSet(torch.from_numpy(stacked), labels, points, shapes, pose, len(faces))
    digest = hashlib.sha256("".join(sorted(faces.digests)).encode()).hexdigest()
    facts = {"data_sha256": digest, "train": len(faces), "holdout": len(holdout), "dropped": dropped,
             "wild": len(stacked) - len(faces), "teacher_found": int((~data.pose[:, 0].isnan()).sum())}  # fmt: skip
    return faces, data, facts


def _pictures(folder: str) -> Sequence[np.ndarray]:
    from PIL import Image

    files = sorted(Path(folder).iterdir()) if folder else []
    return [np.asarray(Image.open(file).convert("L")) for file in files]


def _turned_points(points: Tensor, config: AugmentConfig, rng: torch.Generator) -> np.ndarray:
    """Points (m, 478, 2) as the student will see them: moved, turned and mirrored at random."""
    found = points[~points[:, 0, 0].isnan()][:6000]
    return _moved(found, draw(len(found), 48, 48, config, rng).theta).numpy()


def _moved(points: Tensor, theta: Tensor) -> Tensor:
    """Points (n, 478, 2) of the source picture -> those of the picture that `augment.apply` makes with theta."""
    inverse = torch.linalg.inv(theta[:, :, :2])
    return (points - theta[:, None, :, 2]) @ inverse.transpose(1, 2)


def _show(
    data: TrainingSet, rows: Tensor, config: EyesConfig, partner: Tensor, swapped: Tensor, rng: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Faces as the student sees them, and the targets that fit them."""
    n = len(rows)
    draws = draw(n, 48, 48, config.augment, rng)
    far = torch.rand(n, generator=rng) < config.train.turned
    extra = torch.where(far, (torch.rand(n, generator=rng) * 2 - 1) * 0.65, torch.zeros(n))
    turn = torch.stack([torch.stack([extra.cos(), -extra.sin()], 1), torch.stack([extra.sin(), extra.cos()], 1)], 1)
    theta = draws.theta.clone()
    theta[:, :, :2] = turn @ theta[:, :, :2]
    draws = dataclasses.replace(draws, theta=theta)
    shown = apply(data.pixels[rows].unsqueeze(1).float() / 255, draws)

    mirrored = torch.linalg.det(theta[:, :, :2]) < 0
    points = _moved(data.points[rows], theta)
    points = torch.where(mirrored.view(-1, 1, 1), points[:, partner], points)
    shapes = torch.where(mirrored.view(-1, 1), data.blendshapes[rows][:, swapped], data.blendshapes[rows])
    sign = torch.where(mirrored, -1.0, 1.0)
    angle = torch.rad2deg(torch.atan2(theta[:, 0, 1] * -1, theta[:, 1, 1]))
    yaw, pitch, roll = data.pose[rows].unbind(1)
    pose = torch.stack([yaw * sign, pitch, (roll - angle) * sign], dim=1)

    shown = corrupt(shown, rng)
    pixels = (points.nan_to_num() + 1) * 24
    covered, visible = cover(shown, _box(pixels[:, EYES]), _box(pixels[:, MOUTH]), config.train.cover, rng)
    found = ~pose[:, 0].isnan()
    shown = torch.where(found.view(-1, 1, 1, 1), covered, shown)
    visible = visible | ~found.view(-1, 1)
    targets = {"labels": data.labels[rows], "points": points, "blendshapes": shapes, "pose": pose, "visible": visible}
    return shown, targets


def _box(points: Tensor) -> Tensor:
    """(n, k, 2) -> (n, 4) left, top, right, bottom."""
    return torch.cat([points.amin(dim=1), points.amax(dim=1)], dim=1)


def _losses(
    logits: Tensor,
    helper: Tensor,
    measured: FaceMeasures,
    targets: dict[str, Tensor],
    voted: int,
    settings: EyesTraining,
) -> dict[str, Tensor]:
    """The weighted losses by name. The rows after the targets are no faces."""
    n = len(targets["labels"])
    labels = torch.cat([targets["labels"], torch.full((len(logits) - n, len(EMOTIONS)), 1 / len(EMOTIONS))])
    weight = torch.full((len(logits),), settings.wild_weight)
    weight[:voted] = 1.0
    found = ~targets["pose"][:, 0].isnan()
    visible = targets["visible"]
    known = torch.ones(n, len(BLENDSHAPES), dtype=torch.bool)
    known[:, EYE_SHAPES] &= visible[:, :1]
    known[:, MOUTH_SHAPES] &= visible[:, 1:]
    known &= found.view(-1, 1)
    is_face = torch.arange(len(logits)) < n
    seen = torch.zeros(len(logits), 3)
    seen[:n, 0], seen[:n, 1:] = 1.0, visible.float()
    judged = torch.ones_like(seen, dtype=torch.bool)
    judged[n:, 1:] = False
    judged[:n, 1:] &= found.view(-1, 1)
    shapes = F.binary_cross_entropy_with_logits(
        measured.blendshapes[:n][known], targets["blendshapes"][known], reduction="mean"
    )
    assert is_face.sum() == n
    return {
        "labels": (weight * soft_cross_entropy(logits, labels)).sum() / weight.sum(),
        "helper": settings.head_weight * (weight * soft_cross_entropy(helper, labels)).sum() / weight.sum(),
        "points": settings.points_weight * (measured.points[:n][found] - targets["points"][found]).abs().mean(),
        "blendshapes": settings.blendshape_weight * shapes,
        "pose": settings.pose_weight
        * F.smooth_l1_loss(measured.pose[:n][found] / DEGREES, targets["pose"][found] / DEGREES, beta=0.1),
        "seen": settings.seen_weight * F.binary_cross_entropy_with_logits(measured.seen[judged], seen[judged]),
    }


@torch.no_grad()
def _average(average: Eyes, model: Eyes, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _resume(out: Path, parts: dict[str, Any], rng: torch.Generator) -> int:
    """Load the checkpoint, if there is one. Returns the epoch to continue from."""
    if (state := read_checkpoint(out / "checkpoint.pt")) is None:
        return 0
    for name, part in parts.items():
        part.load_state_dict(state[name])
    rng.set_state(state["rng"])
    torch.set_rng_state(state["torch_rng"])
    print(f"going on after epoch {state['epoch']}", flush=True)
    return state["epoch"]
