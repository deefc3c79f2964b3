"""What probabilities are worth where a user has few faces: the head as held-out faces choose it, and cross-fitted.

    python eval/few_faces.py ferplus/ -o eval/results/finetune/few-faces.json

Draws of FER+ teach, other faces judge, all labels alike often: known, train teaches and validation judges (the mini's
encoder was trained on train); new, both are of validation; turned, as known but upside down (by 180 degrees);
misleading, as new, for labels whose words say something else.
"""

import argparse
import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from emoreason import load
from emoreason.core.probabilities import softmax
from emoreason.data.schema import Sample
from emoreason.evaluate.metrics import equal_width_bins
from emoreason.evidence.calibration import Calibration, nll
from emoreason.evidence.openset import OpenSet
from emoreason.evidence.zeroshot import ZeroShot
from emoreason.train.finetune_config import HeadTraining
from emoreason.train.heads.crossfit import crossfit, part_of
from emoreason.train.heads.learned import Learned
from emoreason.train.heads.training import train_head
from emoreason.train.labeled_faces import LabeledFaces
from emoreason.train.recipes.mini_faces import EMOTIONS, read_faces
from emoreason.train.report import calibrate
from emoreason.train.splits import Splits, share_of

MISLEADING = {"boredom,interest,confusion,tiredness": (0, 1, 2, 3)}
SETS = MISLEADING | {  # the words -> the labels of FER+ that they stand for
    "neutral,happiness,surprise,sadness": (0, 1, 2, 3),
    "fear,anger,disgust,sadness": (6, 4, 5, 3),
    ",".join(EMOTIONS): tuple(range(8)),
}
EACH, MOST, JUDGES = (5, 10, 20, 50), {"train": 60, "validation": 300}, 400
Seen = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> features (n, D) and class numbers (n,)


def seen(zeroshot: ZeroShot, folder: Path, turned: bool) -> Seen:
    """Up to MOST faces of each label with a majority; none of train that stands in validation."""
    found: Seen = {}
    step = -1 if turned else 1
    known: set[str] = set()
    for split in ("validation", "train"):
        faces = read_faces(folder / f"{split}.parquet")
        free = np.array([digest not in known for digest in faces.digests])
        known |= set(faces.digests)
        order = np.random.default_rng(0).permutation(len(faces))
        rows = np.concatenate([order[(faces.majority[order] == k) & free[order]][: MOST[split]] for k in range(8)])
        pixels = np.repeat(faces.pixels[rows][:, ::step, ::step, None], 3, axis=3)
        parts = [zeroshot.encoder.encode_pixels(pixels[i : i + 128]).embedding for i in range(0, len(rows), 128)]
        found[split] = np.concatenate(parts), faces.majority[rows]
    return found


def drawn(features: np.ndarray, label: np.ndarray, words: tuple[str, ...]) -> LabeledFaces:
    n = len(label)
    return LabeledFaces(
        labels=words, samples=(Sample("", b"", ""),) * n, ids=tuple(map(str, range(n))), features=features,
        targets=np.eye(len(words), dtype=np.float32)[label], label=label, unit=np.arange(n), split=(None,) * n,
        keys=tuple(map(str, range(n))), subject="", left_out={}, alike=0,
    )  # fmt: skip


def run(
    zeroshot: ZeroShot, found: Seen, source: str, words: tuple[str, ...], of: tuple[int, ...], n: int, seed: int
) -> dict[str, list[float]] | None:
    """{way: accuracy, NLL, ECE, share of known faces beyond the open-set limit}; None where there are too few faces."""
    (x, y), (judge_x, judge_y) = (
        (f[np.isin(k, of)], k[np.isin(k, of)]) for f, k in (found[source], found["validation"])
    )
    y, judge_y = (np.array([of.index(k) for k in part]) for part in (y, judge_y))
    order = np.random.default_rng(seed).permutation(len(y))
    rows = np.concatenate([order[y[order] == k][:n] for k in range(len(of))])
    if source == "validation":
        judge_x, judge_y = np.delete(judge_x, rows, axis=0), np.delete(judge_y, rows)
    if len(rows) < n * len(of) or min(np.bincount(judge_y, minlength=len(of))) < 10:
        return None
    judges = np.concatenate([np.resize(np.flatnonzero(judge_y == k), JUDGES) for k in range(len(of))])
    others, truth = judge_x[judges], judge_y[judges]
    faces = drawn(x[rows], y[rows], words)
    everyone = np.arange(len(faces))
    holdout = share_of(faces, everyone, 0.1, seed)
    parts = Splits(np.setdiff1d(everyone, holdout), holdout, np.zeros(0, int), "", 0, {})
    prototypes, scale = zeroshot.prototypes(words), zeroshot.encoder.logit_scale
    alone = train_head(prototypes, scale, part_of(faces, parts.train), part_of(faces, holdout), HeadTraining(), seed)
    head, crossed = crossfit(prototypes, scale, faces, parts, HeadTraining(), seed)
    said = alone.logits(faces.features[holdout])
    spec = calibrate(Learned("head", head.weight, head.bias, faces.features, head.epoch, [], {}, crossed), faces, parts,
                     faces.targets.mean(axis=0))  # fmt: skip
    ways = {
        "by words": (softmax(scale * others @ prototypes.T), None, None),
        "held out": (softmax(alone.logits(others)), alone, said),
        "held out, temperature": (softmax(alone.logits(others), least(said, faces.label[holdout])), alone, said),
        "cross-fitted": (
            Calibration.from_spec(spec).probabilities(head.logits(others), words, "accurate"), head, crossed.logits,
        ),
    }  # fmt: skip
    told = {}
    for way, (p, trained, fitted_on) in ways.items():
        right = (p.argmax(axis=1) == truth).astype(float)
        is_unknown = OpenSet.fit(fitted_on).unknown(trained.logits(others)).mean() if trained else np.nan
        ece = equal_width_bins(p.max(axis=1), right).ece()
        told[way] = [float(value) for value in (right.mean(), nll(p, truth), ece, is_unknown)]
    return told


def least(logits: np.ndarray, target: np.ndarray) -> float:
    """The temperature with the least NLL, held to nothing."""
    every = np.exp(np.linspace(np.log(0.05), np.log(20), 121))
    return float(every[np.argmin([nll(softmax(logits, t), target) for t in every])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ferplus", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    zeroshot = replace(load("mini", device_name="cpu", explainer="none").reader.zeroshot, projection=None)
    turned, plain = (seen(zeroshot, options.ferplus, upside_down) for upside_down in (True, False))
    draws = (("new", plain, "validation"), ("turned", turned, "train"), ("known", plain, "train"))
    cases = [(*draw, n, words) for draw, n, words in product(draws, EACH, SETS)]
    cases += [("misleading", plain, "validation", n, words) for n, words in product((3, 10, 40, 150), MISLEADING)]
    runs: dict[tuple[str, int], list[dict[str, list[float]]]] = {}
    for seed in range(options.seeds):
        for name, found, source, n, words in cases:
            one = run(zeroshot, found, source, tuple(words.split(",")), SETS[words], n, seed)
            if one is not None:
                runs.setdefault((name, n), []).append(one)
                print(seed, name, n, words, one, flush=True)
        options.output.write_text(json.dumps(means(runs), indent=1) + "\n")


def means(runs: dict[tuple[str, int], list[dict[str, list[float]]]]) -> dict[str, dict]:
    """Over label sets and seeds: accuracy, NLL, ECE, share beyond the open-set limit."""
    report = {}
    for (name, n), found in runs.items():
        rows = {way: np.mean([one[way] for one in found], axis=0) for way in found[0]}
        report[f"{name}, {n} faces a label"] = {"runs": len(found)} | {
            k: np.round(v, 4).tolist() for k, v in rows.items()
        }
    return report


if __name__ == "__main__":
    main()
