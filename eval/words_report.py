"""Measures labels given as words that the lexicon holds out: eight words a set, one for each emotion, drawn by seed.

    python eval/words_report.py --data ferplus/validation.parquet [--model mini] -o eval/results/mini/words.json

Three ways: the words' own entries, their neighbours alone (as for a word that the lexicon lacks), and for comparison
the canonical names. UAR under the majority protocol, all at the `balanced` point, because a set of words has no prior.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np

import emoreason
from emoreason.evidence.meanings import label_scores
from emoreason.knowledge.emotions import CIRCUMPLEX
from emoreason.knowledge.words import EMOTIONS, lexicon
from emoreason.models.encoder import Features
from emoreason.train.recipes.mini_faces import read_faces

DRAWS = 50


def recalls(answers: np.ndarray, target: np.ndarray) -> float:
    """UAR in percent."""
    return 100 * float(np.mean([(answers[target == c] == c).mean() for c in np.unique(target)]))


def draw_sets(seed: int = 0) -> list[list[str]]:
    rng = random.Random(seed)
    by_emotion: dict[str, list[str]] = {}
    for word in lexicon().values():
        if word.held_out:
            by_emotion.setdefault(word.emotion, []).append(word.name)
    return [[rng.choice(sorted(by_emotion[emotion])) for emotion in EMOTIONS] for _ in range(DRAWS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    faces = read_faces(options.data)
    counted = faces.majority >= 0
    target, pixels = faces.majority[counted], np.repeat(faces.pixels[counted][..., None], 3, axis=3)
    reasoner = emoreason.load(options.model, explainer="none", point="balanced")
    reader = reasoner.reader
    encoder, meanings = reader.zeroshot.encoder, reader.meanings
    assert meanings is not None
    features = Features.concatenate([encoder.encode_pixels(pixels[i : i + 128]) for i in range(0, len(pixels), 128)])
    emotions = reader.distribution(features, EMOTIONS).probabilities
    points = emotions @ np.array([CIRCUMPLEX[emotion] for emotion in EMOTIONS])
    units = reader.units(features)
    held = frozenset(word.name for word in lexicon().values() if word.held_out)
    vectors = {}

    def neighbour(word: str):
        if word not in vectors:
            vectors[word] = encoder.encode_texts([word])[0]
        return meanings.from_neighbours(word, vectors[word], held, nearest_only=True)

    figures: dict[str, list[float]] = {"own entry": [], "neighbours alone": []}
    sets = draw_sets()
    for words in sets:
        own = [meaning for meaning in meanings.of(words) if meaning is not None]
        near = [neighbour(word) for word in words]
        for name, chosen in (("own entry", own), ("neighbours alone", near)):
            figures[name].append(recalls(label_scores(chosen, emotions, units, points).argmax(axis=1), target))
    canonical = recalls(emotions.argmax(axis=1), target)
    report = {"revision": reasoner.revision, "n": len(target), "draws": DRAWS, "canonical": round(canonical, 2)}
    for name, values in figures.items():
        report[name] = {"mean": round(float(np.mean(values)), 2), "worst": round(min(values), 2),
                        "below_in_the_mean": round(canonical - float(np.mean(values)), 2),
                        "below_at_worst": round(canonical - min(values), 2),
                        "worst_set": sets[int(np.argmin(values))]}  # fmt: skip
    print(json.dumps(report, indent=1))
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
