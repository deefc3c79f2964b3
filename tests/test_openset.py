"""Scores of what looks like none of the trained labels."""

import math

import numpy as np
import pytest

from emoreason.core.errors import EmoreasonError
from emoreason.evaluate.metrics import auroc
from emoreason.evidence.openset import SCORES, OpenSet, class_means, distance, energy, entropy, improbability
from emoreason.train.finetune_config import HeadTraining
from emoreason.train.heads.training import HeadData, train_head
from emoreason.train.recipes.mini_faces import EMOTIONS, read_faces

P = np.array([[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3]])


def test_the_scores_equal_their_formulas():
    logits = np.log(P)
    assert improbability(logits).tolist() == pytest.approx([0.3, 2 / 3])
    expected = [-sum(p * math.log(p) for p in P[0]), math.log(3)]
    assert entropy(logits).tolist() == pytest.approx(expected)
    assert energy(logits + 5.0).tolist() == pytest.approx([-5.0, -5.0])
    assert energy(np.array([[1000.0, 0.0]])).tolist() == [-1000.0]  # no overflow
    embedding, target = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.eye(2)[[0, 0, 1]]
    means = class_means(embedding, target)
    assert means.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert distance(np.array([[0.6, 0.8], [-1.0, 0.0]]), means).tolist() == pytest.approx([0.2, 1.0])


def test_the_limit_keeps_the_share_of_known_faces_that_was_asked_for():
    logits = np.random.default_rng(0).normal(0, 3, (1000, 4))
    for score in SCORES:
        limit = OpenSet.fit(logits, score, keep=0.9)
        assert limit.unknown(logits).mean() == pytest.approx(0.1, abs=0.002)
        again = OpenSet.from_spec(limit.to_spec())
        assert again is not None and (again.unknown(logits) == limit.unknown(logits)).mean() > 0.998


def test_a_model_without_a_limit_and_one_with_a_broken_one():
    assert OpenSet.from_spec(None) is None
    with pytest.raises(EmoreasonError, match="energy"):
        OpenSet.from_spec({"score": "magic", "limit": 1})
    with pytest.raises(EmoreasonError, match="held-out"):
        OpenSet.fit(np.zeros((0, 3)))


def test_a_label_that_was_not_trained_is_told_from_the_others():
    """Five directions, four of them trained. A softmax answers all alike; the scores see the fifth."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 64))

    def faces(labels: range, n: int) -> HeadData:
        label = rng.choice(np.array(labels), n)
        rows = centres[label] + rng.normal(0, 0.7, (n, 64))
        unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return HeadData(unit, np.eye(5, dtype=np.float32)[label][:, :4])

    train, holdout, known, unknown = (
        faces(range(4), 400),
        faces(range(4), 200),
        faces(range(4), 300),
        faces(range(4, 5), 300),
    )
    words = rng.normal(size=(4, 64)).astype(np.float32)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    head = train_head(words, 20.0, train, holdout, HeadTraining(epochs=60, batch_size=64, lr=0.01, weight_decay=0.1), 1)
    logits = head.logits(np.concatenate([known.features, unknown.features]))
    truth = np.repeat([0.0, 1.0], 300)
    found = {name: auroc(score(logits), truth) for name, score in SCORES.items()}
    means = class_means(train.features, train.targets)
    found["distance"] = auroc(distance(np.concatenate([known.features, unknown.features]), means), truth)
    assert min(found.values()) > 0.9, found
    limit = OpenSet.fit(head.logits(holdout.features))
    told = limit.unknown(logits)
    assert told[:300].mean() < 0.12 and told[300:].mean() > 0.7


def test_happiness_is_unknown_to_a_head_that_never_learned_it(mini, ferplus):
    """The mini's features of 700 FER+ faces; the scores against a coin."""
    faces = read_faces(ferplus / "validation.parquet")
    rows = np.random.default_rng(0).permutation(np.flatnonzero(faces.majority >= 0))[:700]
    encoder = mini.reader.zeroshot.encoder
    colour = np.repeat(faces.pixels[rows][..., None], 3, axis=3)
    features = np.concatenate([encoder.encode_pixels(colour[i : i + 175]).embedding for i in range(0, 700, 175)])
    names = tuple(name for name in EMOTIONS if name != "happiness")
    target = np.eye(8, dtype=np.float32)[faces.majority[rows]]
    unknown = target[:, EMOTIONS.index("happiness")] == 1
    known = np.delete(target, EMOTIONS.index("happiness"), axis=1)
    learned = np.flatnonzero(~unknown)[:400]
    part, held = (HeadData(features[r], known[r]) for r in (learned[:300], learned[300:]))
    words = mini.reader.zeroshot.prototypes(names)
    head = train_head(words, encoder.logit_scale, part, held, HeadTraining(), seed=1)
    rest = np.setdiff1d(np.arange(700), learned)
    for name, score in SCORES.items():
        assert auroc(score(head.logits(features[rest])), unknown[rest].astype(float)) > 0.6, name
