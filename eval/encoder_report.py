"""Prints the tables of a model card that `emoreason eval` does not have: unseen words, action units against votes.

    python eval/encoder_report.py --model mini --data ferplus/validation.parquet [--landmarks landmarks/validation.npz]

It is for validation data only: a `--data` with "test" in its name is refused, as nothing may be chosen on a test set.
With landmarks, it also shows the geometric intensities that trained the action-unit head.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import yaml
from sklearn.metrics import roc_auc_score

import emoreason
from emoreason.core.probabilities import correct_prior, softmax
from emoreason.core.resources import resource
from emoreason.data.protocols import VOTES, ferplus_target
from emoreason.knowledge.emotions import label_set
from emoreason.knowledge.facs import ACTION_UNITS
from emoreason.models.encoder import Features
from emoreason.reasoner import Reasoner
from emoreason.train.recipes.mini_faces import read_faces

EMOTIONS = label_set("ferplus8").labels
CLEAR = 0.6  # share of the emotion votes from which a face counts as an example of the emotion


def encode(reasoner: Reasoner, pixels: np.ndarray) -> Features:
    """(n, 48, 48) grey -> features, in batches."""
    encoder = reasoner.reader.zeroshot.encoder
    colour = np.repeat(pixels[..., None], 3, axis=3)
    return Features.concatenate(
        [encoder.encode_pixels(colour[start : start + 128]) for start in range(0, len(colour), 128)]
    )


def scores(logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Accuracy and UAR in percent over the faces with a target (class number, -1 for none)."""
    counted = targets >= 0
    answers, truth = logits[counted].argmax(axis=1), targets[counted]
    recalls = [(answers[truth == c] == c).mean() for c in np.unique(truth)]
    return {
        "n": int(counted.sum()),
        "accuracy": round(100 * float((answers == truth).mean()), 2),
        "uar": round(100 * float(np.mean(recalls)), 2),
    }


def unseen_words(reasoner: Reasoner, features: Features, targets: np.ndarray) -> list[dict]:
    """Canonical names against held-out words, over the same labels with the same templates.

    The fixed seven words have none for contempt, so the comparison is over seven labels. The second set holds further
    words."""
    held_out = yaml.safe_load(resource("prompts/training.yaml").read_text())["held_out"]
    words = list(held_out)
    fixed, others = words[:7], words[7:]
    seven = [held_out[word] for word in fixed]
    rows = []
    for name, labels, emotions in (
        ("canonical names, their prompts", seven, seven),
        ("the seven held-out words", fixed, seven),
        ("canonical names of the second set", [held_out[w] for w in others], [held_out[w] for w in others]),
        ("the second held-out set", others, [held_out[w] for w in others]),
    ):
        to_row = {EMOTIONS.index(emotion): row for row, emotion in enumerate(emotions)}
        truth = np.array([to_row.get(int(t), -1) for t in targets])
        logits = reasoner.reader.zeroshot.logits(features, tuple(labels))
        rows.append({"labels": name, "words": ", ".join(labels), **scores(logits, truth)})
    return rows


def unit_table(units: np.ndarray, codes: tuple[str, ...], shares: np.ndarray) -> list[dict]:
    """How well the intensity of each unit separates the faces of each emotion from all others (AUC)."""
    rows = []
    for column, code in enumerate(codes):
        value, known = units[:, column], ~np.isnan(units[:, column])
        neutral = shares[known, 0] > CLEAR
        row = {
            "unit": f"AU{code} {ACTION_UNITS[code].name.lower()}",
            "above 0.2 in neutral": round(float((value[known][neutral] > 0.2).mean()), 3),
        }
        row |= {
            e: round(float(roc_auc_score(shares[known, i] > CLEAR, value[known])), 2) for i, e in enumerate(EMOTIONS)
        }
        rows.append(row)
    return rows


def prior_curve(reasoner: Reasoner, logits: np.ndarray, targets: np.ndarray) -> list[dict]:
    prior = np.array([reasoner.reader.calibration.prior[e] for e in EMOTIONS])
    return [{"strength": s, **scores(correct_prior(logits, prior, s), targets)} for s in (0.0, 0.25, 0.5, 0.75, 1.0)]


def temperature_and_votes(reasoner: Reasoner, logits: np.ndarray, shares: np.ndarray) -> list[dict]:
    """KL(votes || p) at several temperatures. A confidence that fits the winner is sharper than the votes."""
    known = shares.sum(axis=1) > 0
    rows = []
    for temperature in (reasoner.reader.calibration.points["accurate"].temperature, 0.8, 1.0, 1.2):
        p, q = softmax(logits[known], temperature), shares[known]
        kl = (q * (np.log(np.maximum(q, 1e-12)) - np.log(np.maximum(p, 1e-12)))).sum(axis=1)
        rows.append({"temperature": round(float(temperature), 3), "mean KL to the votes": round(float(kl.mean()), 4)})
    return rows


def markdown(rows: list[dict]) -> str:
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(row[k]) for k in head) + " |" for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path)
    parser.add_argument(
        "--train", type=Path, help="train.parquet; its neutral faces are the reference for the landmarks"
    )
    parser.add_argument("--train-landmarks", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="write the numbers as JSON too")
    options = parser.parse_args()
    if "test" in options.data.name:
        sys.exit(f"{options.data} looks like a test set; this report is for validation data, as choices are made on it")

    reasoner = emoreason.load(options.model)
    faces = read_faces(options.data)
    winners = [ferplus_target(dict(zip(VOTES, map(float, votes), strict=True)), "majority") for votes in faces.votes]
    targets = np.array([EMOTIONS.index(w) if w else -1 for w in winners])
    features = encode(reasoner, faces.pixels)
    logits = reasoner.reader.zeroshot.logits(features, EMOTIONS)
    usable = faces.distribution.sum(axis=1) > 0
    tables = {
        "Unseen words (majority protocol)": unseen_words(reasoner, features, targets),
        "Prior correction (majority protocol)": prior_curve(reasoner, logits, targets),
        "Temperature": temperature_and_votes(reasoner, logits, faces.distribution),
        "Action units: the head (AUC per emotion)": unit_table(
            features.units[usable], reasoner.reader.zeroshot.encoder.unit_codes, faces.distribution[usable]
        ),
    }
    if options.landmarks:
        from emoreason.train.recipes import mini_geometry as geometry
        from emoreason.train.recipes.mini_faces import neutral_yardstick

        train = read_faces(options.train)
        yardstick = neutral_yardstick(train.names, train.votes, options.train_landmarks)
        points = np.load(options.landmarks)["points"].astype(np.float64)
        units = geometry.intensities(points, yardstick)
        codes = tuple(unit.code for unit in geometry.UNITS)
        tables["Action units: the geometry that taught it (AUC per emotion)"] = unit_table(
            units[usable], codes, faces.distribution[usable]
        )
        measured = usable & ~np.isnan(units[:, 0])
        tables["Head against geometry"] = [
            {
                "unit": f"AU{c}",
                "correlation": round(float(np.corrcoef(features.units[measured, i], units[measured, i])[0, 1]), 2),
            }
            for i, c in enumerate(codes)
        ]
    for title, rows in tables.items():
        print(f"\n## {title}\n\n{markdown(rows)}")
    if options.output:
        options.output.write_text(json.dumps(tables, indent=2) + "\n")


if __name__ == "__main__":
    main()
