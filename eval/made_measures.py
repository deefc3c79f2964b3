"""Heads for action units, valence and arousal on FER+ faces with made numbers: do they learn what the columns say?

    python eval/made_measures.py ferplus/ [--faces 6000]

FER+ has no such ratings. The action units are what the mini's own head says, valence and arousal the place of the votes
on the circumplex, each with noise of 0.1. So the figures show that the training works and not how good emoreason
measures action units; the base model, which made the units, is the ceiling here and not a rival.
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
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("ferplus", type=Path)
    arguments.add_argument("--faces", type=int, default=6000, help="of train, before those without an emotion go")
    given = arguments.parse_args()
    mini = emoreason.load("mini", device_name="cpu", explainer="none")
    encoder = mini.reader.zeroshot.encoder
    parts = {name: list(voted(given.ferplus, name, n)) for name, n in (("train", given.faces), ("validation", None))}
    everyone = parts["train"] + parts["validation"]
    seen = encoder.encode_faces([open_picture(sample.image).image for sample, _ in everyone])
    assert seen.units is not None
    random, own = np.random.default_rng(0), dict(zip(encoder.unit_codes, seen.units.T, strict=True))
    noisy = {code: np.clip(values + random.normal(0, NOISE, len(values)), 0, 1) for code, values in own.items()}
    points = np.array([valence_arousal(shares) for _, shares in everyone])
    points = np.clip(points + random.normal(0, NOISE, points.shape), -1, 1)
    samples = [
        replace(sample, image=b"", units={code: float(values[i]) for code, values in noisy.items()},
                valence=float(points[i, 0]), arousal=float(points[i, 1]))
        for i, (sample, _) in enumerate(everyone)
    ]  # fmt: skip
    order, labels = random.permutation(len(parts["train"])), mini.default_labels
    answers, _ = mini.reader.distribution(Features(seen.embedding, None), labels)
    with TemporaryDirectory() as folder:
        found = fit_measures(
            samples, seen.embedding,
            (order[:-HOLDOUT], order[-HOLDOUT:], np.arange(len(order), len(everyone))), Path(folder), 0,
            distributions=[dict(zip(labels, map(float, row), strict=True)) for row in answers], base_units=own,
        )  # fmt: skip
    assert found is not None
    print(table(found))


def voted(folder: Path, split: str, limit: int | None) -> Iterator[tuple[Sample, dict[str, float]]]:
    for sample in islice(read(folder, split=split), limit):
        shares = ferplus_target(sample.votes, "probability") if sample.votes else None
        if isinstance(shares, dict):
            yield sample, shares


if __name__ == "__main__":
    main()
