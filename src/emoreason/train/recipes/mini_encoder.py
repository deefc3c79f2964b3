"""Trains the mini encoder: faces against prompts, captions and action units, with soft targets from the ten votes."""

import copy
import dataclasses
import hashlib
import json
import platform
import time
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
from emoreason.train.augment import augment, mix
from emoreason.train.checkpoint import read_checkpoint, write_checkpoint
from emoreason.train.heads.losses import soft_cross_entropy
from emoreason.train.recipes import mini_captions as text
from emoreason.train.recipes.config import Config
from emoreason.train.recipes.mini_bundle import make_bundle
from emoreason.train.recipes.mini_faces import EMOTIONS, FerplusFaces, read_faces, split
from emoreason.train.recipes.mini_network import (
    EncoderWithHeads,
    embed_faces,
    load_weights,
    normalise,
    save_weights,
    unit_loss,
)

SCORE_EVERY = 3  # epochs


def train_encoder(config: Config) -> Path:
    """Train the encoder and write its model folder. Returns the folder.

    It has its own loop instead of train/loop.py, because the shipped weights come from exactly this sequence of random
    numbers, and because mixed batches, averaged weights and captions do not fit a loop of sums over rows. It shares the
    checkpoint functions."""
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    rng, np_rng = torch.Generator().manual_seed(config.seed), np.random.default_rng(config.seed)

    validation = read_faces(Path(config.data.validation))
    everything = read_faces(Path(config.data.train), Path(config.data.landmarks))
    copies = copies_in(read(config.data.train), read(config.data.validation))  # exact and near copies
    train, holdout, dropped = split(everything, copies, config.data.holdout)
    if config.limit:
        train = train.take(np.arange(config.limit))
    data_hash = hashlib.sha256("".join(sorted(train.digests)).encode()).hexdigest()
    print(f"train {len(train)} faces, holdout {len(holdout)}, dropped {dropped}, data {data_hash[:12]}", flush=True)

    compute = device.choose("cpu")
    bf16 = compute.dtype == "bfloat16"
    print(f"computing on {compute.device} in {compute.dtype}: {compute.reason}", flush=True)
    clip, tokenizer = create_clip(config.model)
    encode = lambda texts: text.embed(texts, clip.encode_text, tokenizer, bf16)  # noqa: E731
    training_text = yaml.safe_load(resource(config.text).read_text())
    bank = text.prompt_bank(training_text, encode)
    unseen = _unseen(bank, training_text, encode)
    caption_sets = [encode(text.captions(train, training_text, np_rng)) for _ in range(2)]

    clip.visual.requires_grad_(True)  # the text tower stays frozen
    model = EncoderWithHeads(clip.visual).to(memory_format=torch.channels_last)
    if config.train.start:
        load_weights(model, Path(config.train.start))
    average = copy.deepcopy(model).requires_grad_(False)
    teacher, teacher_prototypes = _load_teacher(config, model), bank.means()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.train.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.train.lr, fused=True)
    steps = len(train) // config.train.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        config.train.lr,
        total_steps=config.train.epochs * steps,
        pct_start=config.train.warmup,
        final_div_factor=1000,
    )
    (out / "config.yaml").write_text(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))
    (out / "run.json").write_text(
        json.dumps(
            {
                "data_sha256": data_hash,
                "train": len(train),
                "holdout": len(holdout),
                "dropped": dropped,
                "bf16": bf16,
                "torch": torch.__version__,
                "python": platform.python_version(),
                "processor": platform.machine(),
            },
            indent=2,
        )
    )

    pixels = torch.from_numpy(train.pixels)
    distribution, units = torch.from_numpy(train.distribution), torch.from_numpy(train.units)
    state_parts = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
    first, started = _resume(out, state_parts, rng), time.time()
    for epoch in range(first, config.train.epochs):
        model.train()
        order = torch.randperm(len(train), generator=rng)[: steps * config.train.batch_size].view(steps, -1)
        losses: list[float] = []
        for rows in order:
            faces, target, unit = pixels[rows].unsqueeze(1).float() / 255, distribution[rows], units[rows]
            faces = augment(faces, config.augment, rng)
            mixed = float(torch.rand((), generator=rng)) < config.train.mix
            if mixed:
                faces, (target, unit) = mix(faces, [target, unit], config.train.mix_alpha, rng)
            faces = normalise(faces).to(memory_format=torch.channels_last)
            if teacher is not None:
                with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    teacher_logits = teacher.logit_scale.exp() * teacher(faces)[0] @ teacher_prototypes.T
                target = target + config.train.teacher_weight * (teacher_logits.float().softmax(1).clone() - target)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                embedding, unit_logits, helper_logits = model(faces)
            scale = model.logit_scale.exp().clamp(max=100)
            logits = scale * embedding @ bank.prototypes(config.train.text_noise, rng).T
            loss = soft_cross_entropy(logits, target).mean()
            loss = loss + config.train.head_weight * soft_cross_entropy(helper_logits, target).mean()
            loss = loss + config.train.unit_weight * unit_loss(unit_logits, unit)
            if not mixed and config.train.caption_weight:
                captions = caption_sets[int(torch.randint(len(caption_sets), (1,), generator=rng))][rows]
                pairs, wanted = scale * embedding @ captions.T, text.caption_targets(target, unit)
                both_ways = soft_cross_entropy(pairs, wanted).mean() + soft_cross_entropy(pairs.T, wanted).mean()
                loss = loss + config.train.caption_weight * both_ways / 2
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss became {loss.item()} in epoch {epoch}: try a smaller train.lr")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.train.clip_norm)
            optimizer.step()
            schedule.step()
            step = epoch * steps + len(losses)
            decay = min(config.train.ema, (2 + step) / (11 + step))  # short at first, while weights change fast
            with torch.no_grad():
                for mean, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                    mean.lerp_(now, 1 - decay) if mean.is_floating_point() else mean.copy_(now)
            losses.append(loss.item())
        line = {
            "epoch": epoch + 1,
            "loss": float(np.mean(losses)),
            "lr": schedule.get_last_lr()[0],
            "seconds": time.time() - started,
        }
        if (epoch + 1) % SCORE_EVERY == 0 or epoch + 1 == config.train.epochs:
            line |= _score(average, validation, bank.means(), unseen, bf16)
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        _checkpoint(out, epoch + 1, state_parts, rng)
    save_weights(average, out / "weights.safetensors")
    make_bundle(out, config, holdout, prior=train.distribution.mean(axis=0))
    return out


def _unseen(bank: text.PromptBank, training_text: dict, encode) -> Tensor:
    """(8, D): prototypes from the first held-out word of each emotion."""
    by_emotion = {e: w for w, e in reversed(training_text["held_out"].items())}
    rows = [encode([t.format(by_emotion[e]) for t in training_text["templates"]]).mean(dim=0) for e in EMOTIONS]
    return F.normalize(torch.stack(rows), dim=1)


def _score(model: EncoderWithHeads, validation: FerplusFaces, seen: Tensor, unseen: Tensor, bf16: bool) -> dict:
    """Validation scores with the prompt ensemble and with the held-out words."""
    embedding, _ = embed_faces(model, validation.pixels, bf16)
    by_name = {"seen": seen, "unseen": unseen}
    return {
        name: majority_scores((embedding @ prototypes.T).numpy(), validation) for name, prototypes in by_name.items()
    }


def majority_scores(logits: np.ndarray, faces: FerplusFaces) -> dict[str, float]:
    """Accuracy and UAR by the majority protocol, for the log only; `emoreason eval` makes the reports."""
    counts = faces.majority >= 0
    target, answer = faces.majority[counts], logits[counts].argmax(axis=1)
    recalls = [float((answer[target == c] == c).mean()) for c in np.unique(target)]
    return {"n": int(counts.sum()), "accuracy": float((answer == target).mean()), "uar": float(np.mean(recalls))}


def _load_teacher(config: Config, model: EncoderWithHeads) -> EncoderWithHeads | None:
    if not config.train.teacher:
        return None
    teacher = copy.deepcopy(model)
    load_weights(teacher, Path(config.train.teacher))
    return teacher.eval().requires_grad_(False)


def _checkpoint(out: Path, epoch: int, parts: dict[str, Any], rng: torch.Generator) -> None:
    """Save everything needed to continue exactly."""
    state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    state |= {"epoch": epoch, "rng": rng.get_state(), "torch_rng": torch.get_rng_state()}
    write_checkpoint(out / "checkpoint.pt", state)


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
