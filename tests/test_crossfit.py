"""Every face is judged by a head that has not seen it, and what that is worth on made-up features."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoreason.core.probabilities import softmax
from emoreason.data.schema import Sample
from emoreason.evidence.calibration import Calibration, fit_temperature, nll
from emoreason.train.finetune_config import HeadTraining
from emoreason.train.heads.crossfit import crossfit, folds, part_of
from emoreason.train.heads.label_model import LabelModel
from emoreason.train.heads.training import train_head
from emoreason.train.labeled_faces import LabeledFaces
from emoreason.train.report import ENOUGH, calibrate, protocol
from emoreason.train.splits import Splits, make_splits

SCALE, NOISE = 20.0, 0.35
EAGER = HeadTraining(epochs=60, lr=0.03, weight_decay=0.0)  # grows surer than it has reason to be


def made(label: np.ndarray, unit: np.ndarray | None = None, features: np.ndarray | None = None) -> LabeledFaces:
    """Faces of these labels, and persons if any."""
    n, count = len(label), int(label.max()) + 1
    return LabeledFaces(
        labels=tuple("abcdefgh"[:count]), samples=tuple(Sample(str(i), b"", "a") for i in range(n)),
        ids=tuple(map(str, range(n))), features=np.zeros((n, 4), np.float32) if features is None else features,
        targets=np.eye(count, dtype=np.float32)[label], label=label, group=np.arange(n) if unit is None else unit,
        split=(None,) * n, keys=tuple(map(str, range(n))), subject="", left_out={}, near_copies=0,
    )  # fmt: skip


def drawn(n: int, seed: int) -> LabeledFaces:
    """Three labels that overlap, n faces of each."""
    rng = np.random.default_rng(seed)
    label = np.arange(3 * n) % 3
    rows = np.random.default_rng(9).normal(size=(3, 32))[label] / 5 + rng.normal(0, NOISE, (3 * n, 32))
    return made(label, None, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))


def words() -> np.ndarray:
    rows = np.random.default_rng(5).normal(size=(3, 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(8, 80), st.integers(2, 40))
def test_no_face_is_judged_by_a_head_that_saw_it_or_its_person(seed, labels, n, persons):
    rng = np.random.default_rng(seed)
    label = np.concatenate([np.arange(labels), rng.integers(0, labels, n)])
    faces = made(label, rng.integers(0, persons, len(label)))
    rows = np.sort(rng.permutation(len(label))[: len(label) - 3])
    pairs = folds(faces, rows, seed)
    judged = np.concatenate([part for _, part in pairs]) if pairs else np.zeros(0, int)
    assert len(set(judged.tolist())) == len(judged) and set(judged.tolist()) <= set(rows.tolist())
    for learning, part in pairs:
        assert not set(faces.group[learning].tolist()) & set(faces.group[part].tolist())
        assert set(learning.tolist()) | set(part.tolist()) == set(rows.tolist())
        assert set(label[learning].tolist()) == set(label[rows].tolist())


def test_every_face_is_judged_once_and_every_fold_has_every_label():
    pairs = folds(made(np.arange(60) % 3), np.arange(60), 7)
    assert len(pairs) == 10 and sorted(np.concatenate([part for _, part in pairs]).tolist()) == list(range(60))
    assert all(sorted((part % 3).tolist()) == [0, 0, 1, 1, 2, 2] for _, part in pairs)


def test_what_is_said_of_a_person_does_not_hang_on_that_person():
    faces = drawn(12, 0)
    faces = replace(faces, group=np.arange(36) // 2)
    parts = make_splits(faces, 0.2, 0.1, 7)
    mine = np.concatenate([parts.train, parts.holdout])
    face = int(parts.train[0])
    person = np.flatnonzero(faces.group == faces.group[face])
    soft = faces.targets.copy()
    soft[person] = 0.6 * soft[person] + 0.4 / 3  # the same label, another teaching
    found = [
        crossfit(words(), SCALE, f, parts, replace(EAGER, epochs=2), 7) for f in (faces, replace(faces, targets=soft))
    ]
    (one, first), (other, second) = found
    assert set(first.rows.tolist()) == set(mine.tolist()) and one.epoch == other.epoch > 0
    same = (first.logits == second.logits).all(axis=1)
    assert same[np.isin(first.rows, person)].all() and not same.all()
    assert (one.weight != other.weight).any()


@pytest.fixture(scope="module")
def runs() -> list[tuple[LabeledFaces, Splits, LabelModel]]:
    found = []
    for seed in range(4):
        faces = drawn(25, seed)
        parts = make_splits(faces, 0.2, 0.1, 7)
        head, judged = crossfit(words(), SCALE, faces, parts, EAGER, 7)
        found.append(
            (faces, parts, LabelModel("head", head.weight, head.bias, faces.features, head.epoch, head.log, {}, judged))
        )
    return found


def test_cross_fitted_probabilities_are_truer(runs):
    """Against a head whose epoch a few held-out faces chose: as it is, and with a temperature of those few."""
    others, gained = drawn(1000, 99), []
    for faces, parts, learned in runs:
        spec = calibrate(learned, faces, parts, faces.targets[parts.train].mean(axis=0))
        calibration = Calibration.from_spec(spec)
        after = calibration.probabilities(others.features @ learned.weight.T + learned.bias, faces.labels, "accurate")
        alone = train_head(words(), SCALE, part_of(faces, parts.train), part_of(faces, parts.holdout), EAGER, 7)
        plain = softmax(alone.logits(others.features))
        held = fit_temperature(alone.logits(faces.features[parts.holdout]), faces.label[parts.holdout])
        few = softmax(alone.logits(others.features), held)
        gained.append([nll(p, others.label) - nll(after, others.label) for p in (plain, few)])
        assert calibration.covers(faces.labels)
    assert (np.mean(gained, axis=0) > 0).all(), gained


def test_the_temperature_of_heads_that_are_too_sure_makes_them_less_so():
    """Without a choice of the epoch: heads trained to their end, and the one that is kept."""
    others, before, after = drawn(1000, 99), [], []
    for seed in range(4):
        faces = drawn(25, seed)
        parts = make_splits(faces, 0.2, 0.1, 7)
        rows = np.concatenate([parts.train, parts.holdout])
        said = np.zeros((len(faces), 3))
        for learning, judged in folds(faces, rows, 7):
            said[judged] = train_head(words(), SCALE, part_of(faces, learning), None, EAGER, 7).logits(
                faces.features[judged]
            )
        kept = train_head(words(), SCALE, part_of(faces, parts.train), None, EAGER, 7)
        assert kept.epoch == EAGER.epochs
        logits = kept.logits(others.features)
        before.append(nll(softmax(logits), others.label))
        after.append(nll(softmax(logits, fit_temperature(said[rows], faces.label[rows])), others.label))
    assert np.mean(after) < 0.8 * np.mean(before), (before, after)


def test_the_log_and_the_card_say_how(runs):
    faces, parts, learned = runs[0]
    curve = [line["held_out"] for line in learned.log]
    assert len(curve) == EAGER.epochs + 1 and learned.kept == int(np.argmin(curve))
    assert [("train" in line) for line in learned.log] == [0 < e <= learned.kept for e in range(len(curve))]
    told = protocol(learned, faces, parts, True)
    assert "10 other heads" in told and "60 answers" in told and "not on this head itself" in told
    spec = calibrate(learned, faces, parts, faces.targets.mean(axis=0))
    assert spec["fitted_on"] == "60 faces with one label, each judged by one of 10 heads, which had not seen it"
    plain = replace(learned, crossfitted=None)
    assert calibrate(plain, faces, parts, faces.targets.mean(axis=0))["labels"] == []
    assert "too few to calibrate on" in protocol(plain, faces, parts, False) and len(parts.holdout) < ENOUGH


def test_where_one_person_has_all_faces_of_a_label_nothing_is_crossed():
    faces = made(np.arange(20) % 2, np.arange(20) % 2)
    parts = Splits(np.arange(16), np.arange(16, 18), np.arange(18, 20), "a share of the faces", 0, {})
    assert crossfit(words()[:2], SCALE, faces, parts, EAGER, 7) is None
