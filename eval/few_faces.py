"""Compares the probabilities of a head trained on few faces: chosen by held-out faces, and cross-fitted.

    python eval/few_faces.py ferplus/ -o eval/results/finetune/few-faces.json

Heads are trained on random faces of FER+ and tested on others, with all labels equally often:

known        trained on train, tested on validation (the mini's encoder was trained on train)
new          both from validation
turned       like known, but upside down
misleading   like new, with label words that mean something else
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
SETS = MISLEADING | {  # words -> the labels of FER+ that they stand for
    "neutral,happiness,surprise,sadness": (0, 1, 2, 3),
    "fear,anger,disgust,sadness": (6, 4, 5, 3),
    ",".join(EMOTIONS): tuple(range(8)),
}
TRAIN_SIZES, MAX_FACES, TEST_FACES = (5, 10, 20, 50), {"train": 60, "validation": 300}, 400  # per label
Features = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> features (n, D) and class numbers (n,)


def encoded(zeroshot: ZeroShot, folder: Path, turned: bool) -> Features:
    """Up to MAX_FACES faces of each majority label, without train faces that are also in validation."""
    features: Features = {}
    step = -1 if turned else 1
    known: set[str] = set()
    for split in ("validation", "train"):
        faces = read_faces(folder / f"{split}.parquet")
        unused = np.array([digest not in known for digest in faces.digests])
        known |= set(faces.digests)
        order = np.random.default_rng(0).permutation(len(faces))
        rows = np.concatenate(
            [order[(faces.majority[order] == k) & unused[order]][: MAX_FACES[split]] for k in range(8)]
        )
        pixels = np.repeat(faces.pixels[rows][:, ::step, ::step, None], 3, axis=3)
        parts = [zeroshot.encoder.encode_pixels(pixels[i : i + 128]).embedding for i in range(0, len(rows), 128)]
        features[split] = np.concatenate(parts), faces.majority[rows]
    return features


def labeled_faces(features: np.ndarray, label: np.ndarray, words: tuple[str, ...]) -> LabeledFaces:
    n = len(label)
    return LabeledFaces(
        labels=words, samples=(Sample("", b"", ""),) * n, ids=tuple(map(str, range(n))), features=features,
        targets=np.eye(len(words), dtype=np.float32)[label], label=label, unit=np.arange(n), split=(None,) * n,
        keys=tuple(map(str, range(n))), subject="", left_out={}, alike=0,
    )  # fmt: skip


def run(
    zeroshot: ZeroShot,
    features: Features,
    source: str,
    words: tuple[str, ...],
    classes: tuple[int, ...],
    n: int,
    seed: int,
) -> dict[str, list[float]] | None:
    """{way: accuracy, NLL, ECE, share of known faces beyond the open-set limit}; None if there are too few faces."""
    (x, y), (test_x, test_y) = (
        (f[np.isin(k, classes)], k[np.isin(k, classes)]) for f, k in (features[source], features["validation"])
    )
    y, test_y = (np.array([classes.index(k) for k in part]) for part in (y, test_y))
    order = np.random.default_rng(seed).permutation(len(y))
    rows = np.concatenate([order[y[order] == k][:n] for k in range(len(classes))])
    if source == "validation":
        test_x, test_y = np.delete(test_x, rows, axis=0), np.delete(test_y, rows)
    if len(rows) < n * len(classes) or min(np.bincount(test_y, minlength=len(classes))) < 10:
        return None
    test_rows = np.concatenate([np.resize(np.flatnonzero(test_y == k), TEST_FACES) for k in range(len(classes))])
    test, truth = test_x[test_rows], test_y[test_rows]
    faces = labeled_faces(x[rows], y[rows], words)
    every = np.arange(len(faces))
    holdout = share_of(faces, every, 0.1, seed)
    parts = Splits(np.setdiff1d(every, holdout), holdout, np.zeros(0, int), "", 0, {})
    prototypes, scale = zeroshot.prototypes(words), zeroshot.encoder.logit_scale
    alone = train_head(prototypes, scale, part_of(faces, parts.train), part_of(faces, holdout), HeadTraining(), seed)
    head, crossed = crossfit(prototypes, scale, faces, parts, HeadTraining(), seed)
    held_logits = alone.logits(faces.features[holdout])
    spec = calibrate(Learned("head", head.weight, head.bias, faces.features, head.epoch, [], {}, crossed), faces, parts,
                     faces.targets.mean(axis=0))  # fmt: skip
    ways = {
        "by words": (softmax(scale * test @ prototypes.T), None, None),
        "held out": (softmax(alone.logits(test)), alone, held_logits),
        "held out, temperature": (
            softmax(alone.logits(test), best_temperature(held_logits, faces.label[holdout])), alone, held_logits,
        ),
        "cross-fitted": (
            Calibration.from_spec(spec).probabilities(head.logits(test), words, "accurate"), head, crossed.logits,
        ),
    }  # fmt: skip
    results = {}
    for way, (p, trained, fitted_on) in ways.items():
        right = (p.argmax(axis=1) == truth).astype(float)
        is_unknown = OpenSet.fit(fitted_on).unknown(trained.logits(test)).mean() if trained else np.nan
        ece = equal_width_bins(p.max(axis=1), right).ece()
        results[way] = [float(value) for value in (right.mean(), nll(p, truth), ece, is_unknown)]
    return results


def best_temperature(logits: np.ndarray, target: np.ndarray) -> float:
    """The temperature with the lowest NLL, without regularization."""
    temperatures = np.exp(np.linspace(np.log(0.05), np.log(20), 121))
    return float(temperatures[np.argmin([nll(softmax(logits, t), target) for t in temperatures])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ferplus", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    zeroshot = replace(load("mini", device_name="cpu", explainer="none").reader.zeroshot, projection=None)
    turned, plain = (encoded(zeroshot, options.ferplus, upside_down) for upside_down in (True, False))
    draws = (("new", plain, "validation"), ("turned", turned, "train"), ("known", plain, "train"))
    cases = [(*draw, n, words) for draw, n, words in product(draws, TRAIN_SIZES, SETS)]
    cases += [("misleading", plain, "validation", n, words) for n, words in product((3, 10, 40, 150), MISLEADING)]
    runs: dict[tuple[str, int], list[dict[str, list[float]]]] = {}
    for seed in range(options.seeds):
        for name, features, source, n, words in cases:
            result = run(zeroshot, features, source, tuple(words.split(",")), SETS[words], n, seed)
            if result is not None:
                runs.setdefault((name, n), []).append(result)
                print(seed, name, n, words, result, flush=True)
        options.output.write_text(json.dumps(means(runs), indent=1) + "\n")


def means(runs: dict[tuple[str, int], list[dict[str, list[float]]]]) -> dict[str, dict]:
    """The means over label sets and seeds: accuracy, NLL, ECE, share beyond the open-set limit."""
    report = {}
    for (name, n), results in runs.items():
        rows = {way: np.mean([result[way] for result in results], axis=0) for way in results[0]}
        report[f"{name}, {n} faces a label"] = {"runs": len(results)} | {
            k: np.round(v, 4).tolist() for k, v in rows.items()
        }
    return report


if __name__ == "__main__":
    main()
