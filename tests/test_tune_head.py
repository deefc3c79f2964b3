"""The head's training on made-up features."""

import numpy as np
import pytest

from emoreason.train.finetune_config import HeadTraining
from emoreason.train.heads.training import HeadData, train_head

SCALE = 20.0


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def task():
    """Three clusters, and words that point into wrong directions."""
    rng = np.random.default_rng(0)
    centres = unit(rng.normal(size=(3, 16)))
    words = unit(rng.normal(size=(3, 16)))

    def part(n: int) -> HeadData:
        label = np.arange(n) % 3
        return HeadData(unit(centres[label] + rng.normal(0, 0.12, (n, 16))), np.eye(3, dtype=np.float32)[label])

    return words, part(90), part(30), part(300)


def accuracy(logits: np.ndarray, part: HeadData) -> float:
    return float((logits.argmax(axis=1) == part.targets.argmax(axis=1)).mean())


def test_without_training_it_is_the_zero_shot_model(task):
    words, train, holdout, test = task
    head = train_head(words, SCALE, train, holdout, HeadTraining(epochs=0), seed=0)
    assert head.epoch == 0
    np.testing.assert_allclose(head.logits(test.features), SCALE * test.features @ words.T, atol=1e-4)


def test_it_learns_and_the_same_seed_gives_the_same_weights(task):
    words, train, holdout, test = task
    config = HeadTraining(batch_size=32, weight_decay=1.0)  # 16 dimensions: fewer than any encoder has
    one, again, other = (train_head(words, SCALE, train, holdout, config, seed=seed) for seed in (1, 1, 2))
    assert accuracy(one.logits(test.features), test) > 0.9 > accuracy(SCALE * test.features @ words.T, test)
    assert (one.weight == again.weight).all() and (one.bias == again.bias).all()
    assert not (one.weight == other.weight).all()


def test_the_kept_epoch_is_the_best_on_held_out_faces(task):
    words, train, holdout, _ = task
    head = train_head(words, SCALE, train, holdout, HeadTraining(lr=0.05, patience=5), seed=0)
    assert head.log[head.epoch]["held_out"] == min(line["held_out"] for line in head.log)
    assert len(head.log) <= head.epoch + 6


def test_soft_targets_give_soft_answers(task):
    words, train, holdout, test = task
    soft = [HeadData(part.features, 0.6 * part.targets + 0.4 / 3) for part in (train, holdout)]
    p = {}
    for name, (a, b) in {"hard": (train, holdout), "soft": soft}.items():
        logits = train_head(words, SCALE, a, b, HeadTraining(weight_decay=0.0), seed=0).logits(test.features)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        p[name] = float((exponents / exponents.sum(axis=1, keepdims=True)).max(axis=1).mean())
    assert p["hard"] > 0.9 and 0.6 < p["soft"] < 0.85


def test_decay_pulls_back_to_the_words(task):
    words, train, holdout, _ = task
    moved = [
        np.linalg.norm(
            train_head(words, SCALE, train, holdout, HeadTraining(weight_decay=decay, epochs=50), seed=0).weight
            - SCALE * words
        )
        for decay in (0.0, 100.0)
    ]
    assert moved[1] < moved[0]


def test_balance_finds_more_of_the_rare_label():
    rng = np.random.default_rng(1)

    def part(n: int, rare: float) -> HeadData:
        label = (rng.random(n) < rare).astype(int)
        features = rng.normal(0, 1, (n, 8)).astype(np.float32)
        features[:, 0] += 1.5 * label
        return HeadData(features / 8, np.eye(2, dtype=np.float32)[label])

    train, holdout, test = part(3000, 0.05), part(600, 0.05), part(2000, 0.5)
    words, rare = np.zeros((2, 8), np.float32), test.targets[:, 1] > 0
    recall = [
        float(
            (
                train_head(words, SCALE, train, holdout, HeadTraining(balance=b, lr=0.01), seed=0)
                .logits(test.features)
                .argmax(1)
                == 1
            )[rare].mean()
        )
        for b in (0.0, 1.0)
    ]
    assert recall[0] < 0.3 and recall[1] > 0.6
