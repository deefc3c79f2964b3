"""Trains heads for action units, valence and arousal on FER+ faces with artificial ratings, to check the training.

    python eval/made_measures.py ferplus/ [--faces 6000]

FER+ has no such ratings. The action units come from the mini's own head, valence and arousal from the position of the
votes on the circumplex, each with noise of 0.1. So the figures show that the training works, not how well emoreason
measures action units. The base model, which made the units, is the upper limit here.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import emoreason
from emoreason.data import Sample, read
from emoreason.data.protocols import ferplus_target
from emoreason.knowledge.emotions import valence_arousal
from emoreason.media.images import open_picture
from emoreason.models.encoder import Features
from emoreason.train.heads.measure_scores import table
from emoreason.train.heads.measures import fit_measures

NOISE, HOLDOUT = 0.1, 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ferplus", type=Path)
    parser.add_argument(
        "--faces", type=int, default=6000, help="number of train faces, before those without an emotion are left out"
    )
    options = parser.parse_args()
    mini = emoreason.load("mini", device_name="cpu", explainer="none")
    encoder = mini.reader.zeroshot.encoder
    parts = {
        name: list(voted(options.ferplus, name, n)) for name, n in (("train", options.faces), ("validation", None))
    }
    faces = parts["train"] + parts["validation"]
    features = encoder.encode_faces([open_picture(sample.image).image for sample, _ in faces])
    assert features.units is not None
    rng, measured = np.random.default_rng(0), dict(zip(encoder.unit_codes, features.units.T, strict=True))
    noisy = {code: np.clip(values + rng.normal(0, NOISE, len(values)), 0, 1) for code, values in measured.items()}
    points = np.array([valence_arousal(shares) for _, shares in faces])
    points = np.clip(points + rng.normal(0, NOISE, points.shape), -1, 1)
    samples = [
        replace(sample, image=b"", units={code: float(values[i]) for code, values in noisy.items()},
                valence=float(points[i, 0]), arousal=float(points[i, 1]))
        for i, (sample, _) in enumerate(faces)
    ]  # fmt: skip
    order, labels = rng.permutation(len(parts["train"])), mini.default_labels
    answers, _ = mini.reader.distribution(Features(features.embedding, None), labels)
    with TemporaryDirectory() as folder:
        report = fit_measures(
            samples, features.embedding,
            (order[:-HOLDOUT], order[-HOLDOUT:], np.arange(len(order), len(faces))), Path(folder), 0,
            distributions=[dict(zip(labels, map(float, row), strict=True)) for row in answers], base_units=measured,
        )  # fmt: skip
    assert report is not None
    print(table(report))


def voted(folder: Path, split: str, limit: int | None) -> Iterator[tuple[Sample, dict[str, float]]]:
    for sample in islice(read(folder, split=split), limit):
        shares = ferplus_target(sample.votes, "probability") if sample.votes else None
        if isinstance(shares, dict):
            yield sample, shares


if __name__ == "__main__":
    main()
