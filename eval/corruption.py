"""Compares training methods with plain cross-entropy on corrupted FER+ labels, from the same random weights.

    python eval/corruption.py noise|few|openset --data ferplus [--faces 6000] [--epochs 20] [--seeds 1,2] [--only scn]
    python eval/corruption.py head --data ferplus
    python eval/corruption.py table

noise     20 % of the labels are replaced by a random other label
few       10 % of the faces keep their label, the others are unlabeled
openset   one label is left out of training; how well do scores separate its faces from the others?
head      noise and openset for a head on the mini's frozen features, whose encoder knows all labels

A narrow FaceNet is trained from scratch, as the shipped encoder knows these labels. Augmentation, tower and objectives
are those of `emoreason finetune`. The epoch is chosen by accuracy on held-out training faces with labels corrupted in
the same way. Each run uses validation (majority protocol, copies removed from train) only once.
"""

import argparse
import copy
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import emoreason
from emoreason.data import read
from emoreason.data.duplicates import copies_in
from emoreason.evaluate.metrics import auroc, bounds, confusion, headline
from emoreason.evidence import openset
from emoreason.models.image_tower import FaceNet
from emoreason.train.augment import augment
from emoreason.train.finetune_config import HeadTraining, LossSettings
from emoreason.train.heads.objectives import FaceBatch, TowerOutput, make_objective
from emoreason.train.heads.training import OF_FEATURES, HeadData, train_head
from emoreason.train.recipes.mini_faces import EMOTIONS, read_faces
from emoreason.train.recipes.mini_network import normalise
from emoreason.train.settings import AugmentConfig
from emoreason.train.tower.lora import Tower

RESULTS = Path(__file__).parent / "results" / "corruption"
NOISE, LABELED, HELD_OUT = 0.2, 0.1, 1000
METHODS = {
    "noise": ("ce", "generalised", "symmetric", "scn", "rul", "eac"),
    "few": ("ce", "ada-cm"),
    "openset": ("happiness", "surprise", "sadness", "anger"),  # the label that is left out
}
WEAK = AugmentConfig(rotate=10, scale=0.1, shift=0.04, brightness=0.2, contrast=0.2, blur=0.0, cutout=0.2)
STRONG = AugmentConfig(rotate=20, scale=0.2, shift=0.1, brightness=0.4, contrast=0.5, blur=0.3, cutout=1.0)
LR, DECAY, SCALE, WIDTHS = 0.002, 0.05, 16.0, (32, 64, 128)


@dataclasses.dataclass(frozen=True)
class Size:
    faces: int
    epochs: int
    batch: int


WARMUP = {"scn": 20}  # after five epochs, a tower from scratch is too weak to correct labels
SIZES = {"noise": Size(4000, 40, 32), "few": Size(4000, 16, 64), "openset": Size(6000, 20, 64)}  # a run takes minutes
SIZES["head"] = Size(3000, 300, 256)


@dataclasses.dataclass(frozen=True)
class Set:
    pixels: Tensor  # (n, 1, 24, 24) 0..1; half the side takes a quarter of the time
    label: np.ndarray  # (n,) class numbers, clean

    def take(self, rows: np.ndarray) -> "Set":
        return Set(self.pixels[rows], self.label[rows])


class Narrow(nn.Module):
    """A FaceNet with the attributes of an open_clip image tower."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = FaceNet(widths=WIDTHS, depths=(1, 1, 1), stem=16)
        self.head = nn.Linear(WIDTHS[-1], 64)


def load(data: Path, faces: int, shrink: int = 2) -> tuple[Set, Set, Set]:
    """train, held out, validation; only faces with a majority label."""
    train, validation = read_faces(data / "train.parquet"), read_faces(data / "validation.parquet")
    copies = copies_in(read(str(data / "train.parquet")), read(str(data / "validation.parquet")))
    ours = (train.majority >= 0) & ~np.isin(train.names, list(copies))
    _, first = np.unique(train.digests, return_index=True)
    rows = np.random.default_rng(0).permutation(np.intersect1d(np.flatnonzero(ours), first))
    theirs = np.flatnonzero(validation.majority >= 0)

    def part(of: Any, rows: np.ndarray) -> Set:
        pixels = torch.from_numpy(of.pixels[rows]).float()[:, None] / 255
        return Set(torch.nn.functional.avg_pool2d(pixels, shrink), of.majority[rows])

    return part(train, rows[:faces]), part(train, rows[faces : faces + HELD_OUT]), part(validation, theirs)


def flipped(label: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The labels with exactly this share replaced by a random other label."""
    noisy = label.copy()
    rows = rng.permutation(len(label))[: round(share * len(label))]
    noisy[rows] = (noisy[rows] + rng.integers(1, len(EMOTIONS), len(rows))) % len(EMOTIONS)
    return noisy


def infer(tower: Tower, pixels: Tensor) -> TowerOutput:
    tower.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        parts = [tower(normalise(block).contiguous(memory_format=torch.channels_last)) for block in pixels.split(256)]
    tower.train()
    return TowerOutput(None, *(torch.cat([part[i].float() for part in parts]) for i in (1, 2, 3)))


def fit(settings: LossSettings, train: Set, target: Tensor, held: Set, held_label: np.ndarray, size: Size, seed: int):
    """-> tower of the best epoch, tower of the last, log. target: (n, L), with zero rows for unlabeled faces."""
    torch.manual_seed(seed)
    weight = torch.nn.functional.normalize(torch.randn(target.shape[1], 64), dim=1) * SCALE
    tower = Tower(Narrow(), weight.numpy(), np.zeros(target.shape[1], np.float32), None)
    tower = tower.to(memory_format=torch.channels_last)
    objective = make_objective(settings, target, WIDTHS[-1])
    parameters = [*tower.parameters(), *objective.parameters()]
    groups = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": DECAY}]
    groups += [{"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR)
    steps = size.epochs * (len(target) // size.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps, pct_start=0.1)
    rng, log, best = torch.Generator().manual_seed(seed), [], (-1.0, tower)
    for epoch in range(1, size.epochs + 1):
        objective.epoch(epoch)
        total = 0.0
        for rows in torch.randperm(len(target), generator=rng)[: len(target) // size.batch * size.batch].split(
            size.batch
        ):
            pixels = train.pixels[rows]
            faces = normalise(augment(pixels, WEAK, rng))
            batch = FaceBatch(faces, target[rows], rows, lambda pixels=pixels: normalise(augment(pixels, STRONG, rng)))
            with torch.autocast("cpu", torch.bfloat16):
                loss = objective(lambda x: tower(x.contiguous(memory_format=torch.channels_last)), batch).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        accuracy = float((infer(tower, held.pixels).logits.argmax(dim=1).numpy() == held_label).mean())
        log.append(
            {"epoch": epoch, "train": round(total * size.batch / len(target), 4), "held_out": round(accuracy, 4)}
        )
        print(json.dumps(log[-1]), flush=True)
        if accuracy > best[0]:
            best = (accuracy, copy.deepcopy(tower))
    return best[1], tower, log


def figures(tower: Tower, faces: Set) -> dict[str, list[float]]:
    return accuracy_and_uar(infer(tower, faces.pixels).logits.numpy(), faces.label)


def accuracy_and_uar(logits: np.ndarray, label: np.ndarray) -> dict[str, list[float]]:
    """Accuracy and UAR in percent, each with a 95 % bootstrap interval."""
    answers, truth = logits.argmax(axis=1), np.eye(logits.shape[1])[label]
    value = headline(confusion(truth, answers))
    low, high = bounds(truth, answers, 500)
    return {
        name: [round(100 * float(x[i]), 2) for x in (value, low, high)] for i, name in enumerate(("accuracy", "uar"))
    }


def noise(settings: LossSettings, parts: tuple[Set, Set, Set], size: Size, seed: int, share: float) -> dict[str, Any]:
    train, held, validation = parts
    rng = np.random.default_rng(seed)
    target = torch.eye(len(EMOTIONS))[flipped(train.label, share, rng)]
    chosen, last, log = fit(settings, train, target, held, flipped(held.label, share, rng), size, seed)
    return {"chosen": figures(chosen, validation), "last": figures(last, validation), "log": log}


def few(settings: LossSettings, parts: tuple[Set, Set, Set], size: Size, seed: int, share: float) -> dict[str, Any]:
    """With Ada-CM half of each batch is labeled; plain cross-entropy takes the same steps on labeled faces only."""
    train, held, validation = parts
    order = np.random.default_rng(seed).permutation(len(train.label))
    known, hidden = np.split(order, [round(share * len(order))])
    repeated = np.resize(known, len(hidden))
    rows = np.concatenate([repeated, hidden if settings.name == "ada-cm" else repeated])
    target = torch.eye(len(EMOTIONS))[train.label[rows]]
    if settings.name == "ada-cm":
        target[len(repeated) :] = 0.0
    train = train.take(rows)
    chosen, last, log = fit(settings, train, target, held, held.label, size, seed)
    return {"chosen": figures(chosen, validation), "last": figures(last, validation), "log": log}


def open_set(out: str, parts: tuple[Set, Set, Set], size: Size, seed: int) -> dict[str, Any]:
    """AUROC of each score in percent, for faces of the left-out label against all others."""
    left_out = EMOTIONS.index(out)
    known = [part.take(np.flatnonzero(part.label != left_out)) for part in parts]
    train, held, validation = (Set(part.pixels, part.label - (part.label > left_out)) for part in known)
    target = torch.eye(len(EMOTIONS) - 1)[train.label]
    chosen, _, log = fit(LossSettings(), train, target, held, held.label, size, seed)
    means = openset.class_means(infer(chosen, train.pixels).embedding.numpy(), target.numpy())
    outputs, held_outputs = infer(chosen, parts[2].pixels), infer(chosen, held.pixels)
    distances = openset.distance(outputs.embedding.numpy(), means)
    unknown = parts[2].label == left_out
    scores = scored_open_set(outputs.logits.numpy(), held_outputs.logits.numpy(), distances, unknown)
    return {**scores, "known": figures(chosen, validation), "log": log}


def scored_open_set(logits: np.ndarray, held: np.ndarray, distances: np.ndarray, unknown: np.ndarray) -> dict[str, Any]:
    ranked = {name: score(logits) for name, score in openset.SCORES.items()} | {"distance": distances}
    rejected = {name: openset.OpenSet.fit(held, name).unknown(logits) for name in openset.SCORES}
    return {
        "auroc": {name: round(100 * auroc(score, unknown.astype(float)), 1) for name, score in ranked.items()},
        "unknown_found": {name: round(100 * float(hit[unknown].mean()), 1) for name, hit in rejected.items()},
        "known_refused": {name: round(100 * float(hit[~unknown].mean()), 1) for name, hit in rejected.items()},
    }


def heads(parts: tuple[Set, Set, Set], seeds: list[int]) -> Iterator[dict[str, Any]]:
    """The runs of `head`, which do what `emoreason finetune --loss.name …` does on a CPU."""
    zeroshot = emoreason.load("mini", device_name="cpu", explainer="none").reader.zeroshot
    features = [encoded(zeroshot.encoder, part) for part in parts]
    labels = [part.label for part in parts]
    scale, settings = zeroshot.encoder.logit_scale, HeadTraining(batch_size=256)
    words = zeroshot.prototypes(EMOTIONS)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        train, held = (HeadData(features[i], np.eye(len(EMOTIONS))[flipped(labels[i], NOISE, rng)]) for i in (0, 1))
        for name in OF_FEATURES:
            head = train_head(words, scale, train, held, settings, seed, loss=LossSettings(name=name))
            scores = accuracy_and_uar(head.logits(features[2]), labels[2])
            yield {"what": "head", "method": name, "seed": seed, "share": NOISE, "epoch": head.epoch, "chosen": scores}
    for out in METHODS["openset"]:
        left_out = EMOTIONS.index(out)
        known = [label != left_out for label in labels]
        train, held = (
            HeadData(features[i][known[i]], np.delete(np.eye(len(EMOTIONS))[labels[i][known[i]]], left_out, 1))
            for i in (0, 1)
        )
        head = train_head(np.delete(words, left_out, 0), scale, train, held, settings, seeds[0])
        distances = openset.distance(features[2], openset.class_means(train.features, train.targets))
        scores = scored_open_set(head.logits(features[2]), head.logits(held.features), distances, ~known[2])
        yield {"what": "head-openset", "method": out, "seed": seeds[0], "share": 0.0, **scores}


def encoded(encoder: Any, part: Set) -> np.ndarray:
    """(n, D) features of 48x48 faces."""
    grey = (part.pixels[:, 0] * 255).round().byte().numpy()
    colour = np.repeat(grey[..., None], 3, axis=3)
    return np.concatenate([encoder.encode_pixels(colour[i : i + 128]).embedding for i in range(0, len(colour), 128)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*METHODS, "head", "table"))
    parser.add_argument("--data", type=Path, default=Path("ferplus"))
    parser.add_argument("--faces", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--only", default="", help="only these methods, separated by commas")
    parser.add_argument("--share", type=float, help="share of exchanged labels (noise) or of labeled faces (few)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.what != "table":
        torch.set_num_threads(args.threads)
        run(args)
    table(args.out)


def run(args: argparse.Namespace) -> None:
    overrides = {name: value for name in ("faces", "epochs") if (value := getattr(args, name))}
    size = dataclasses.replace(SIZES[args.what], **overrides)
    parts = load(args.data, size.faces, shrink=1 if args.what == "head" else 2)
    share = args.share if args.share is not None else {"noise": NOISE, "few": LABELED}.get(args.what, 0.0)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.what == "head":
        for row in heads(parts, [int(seed) for seed in args.seeds.split(",")]):
            write(args.out, row | dataclasses.asdict(size))
        return
    for seed in map(int, args.seeds.split(",")):
        for method in filter(None, args.only.split(",")) if args.only else METHODS[args.what]:
            started = time.monotonic()
            if args.what == "openset":
                result = open_set(method, parts, size, seed)
            else:
                work = noise if args.what == "noise" else few
                result = work(LossSettings(name=method, warmup=WARMUP.get(method, 5)), parts, size, seed, share)
            row = {
                "what": args.what, "method": method, "seed": seed, "share": share, **dataclasses.asdict(size),
                "seconds": round(time.monotonic() - started), **result,
            }  # fmt: skip
            write(args.out, row)


def write(out: Path, row: dict[str, Any]) -> None:
    name = f"{row['what']}-{row['method']}-{row['share']:g}-{row['seed']}.json"
    (out / name).write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps({key: value for key, value in row.items() if key != "log"}), flush=True)


def table(folder: Path) -> None:
    """Writes the tables of all runs in the folder."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*-*.json"))]
    titles = {
        "noise": "Exchanged labels, from random weights. Chosen: the best epoch on held-out faces, exchanged too",
        "few": "Few labels, from random weights",
        "openset": "One label left out: AUROC of four scores, and the faces beyond the limit at 95 % of held-out faces",
        "head": "Exchanged labels, a head on the mini's frozen features",
        "head-openset": "One label left out, a head on the mini's frozen features (the encoder has seen that label)",
    }
    text = ["# Corruptions of FER+\n\n`python eval/corruption.py noise|few|openset --data ferplus`, then `table`.\n"]
    for what, title in titles.items():
        selected = [run for run in runs if run["what"] == what]
        if selected:
            sizes = sorted(
                {f"{run['faces']} faces, {run['epochs']} epochs, batches of {run['batch']}" for run in selected}
            )
            text.append(f"## {title}\n\n{'; '.join(sizes)}. Validation, majority protocol, percent.\n")
            text.append(
                open_set_table(selected)
                if what.endswith("openset")
                else loss_table(selected, METHODS.get(what, OF_FEATURES))
            )
    (folder / "corruption.md").write_text("\n".join(text))


def loss_table(runs: list[dict[str, Any]], order: tuple[str, ...]) -> str:
    """A line per run. Intervals show the variance over validation faces, seeds that over trainings."""
    which = [name for name in ("chosen", "last") if name in runs[0]]
    columns = [f"{figure}, {name}" for name in which for figure in ("accuracy", "UAR")]
    lines = [f"| method | seed | {' | '.join(columns)} |", "| --- " * (2 + len(columns)) + "|"]
    for run in sorted(runs, key=lambda run: (run["seed"], order.index(run["method"]))):
        cells = [
            "{:.1f} [{:.1f}, {:.1f}]".format(*run[name][figure]) for name in which for figure in ("accuracy", "uar")
        ]
        lines.append(f"| {run['method']} | {run['seed']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def open_set_table(runs: list[dict[str, Any]]) -> str:
    names = list(runs[0]["auroc"])
    lines = [f"| left out | seed | {' | '.join(names)} | found / wrongly refused by energy |"]
    lines.append("| --- " * (len(names) + 3) + "|")
    for run in sorted(runs, key=lambda run: run["seed"]):
        cells = " | ".join(f"{run['auroc'][name]:.1f}" for name in names)
        rates = f"{run['unknown_found']['energy']:.1f} / {run['known_refused']['energy']:.1f}"
        lines.append(f"| {run['method']} | {run['seed']} | {cells} | {rates} |")
    means = " | ".join(f"{np.mean([run['auroc'][name] for run in runs]):.1f}" for name in names)
    found, refused = (np.mean([run[which]["energy"] for run in runs]) for which in ("unknown_found", "known_refused"))
    return "\n".join([*lines, f"| mean | | {means} | {found:.1f} / {refused:.1f} |"]) + "\n"


if __name__ == "__main__":
    main()
