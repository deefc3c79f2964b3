"""Every metric against scikit-learn or against a loop that does the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from emoreason.evaluate import metrics

K = 4


@st.composite
def hard(draw, min_size=1, missing=True):
    """Targets as indices and answers, some of them missing."""
    n = draw(st.integers(min_size, 60))
    indices = st.lists(st.integers(0, K - 1), min_size=n, max_size=n)
    answers = st.lists(st.integers(-1 if missing else 0, K - 1), min_size=n, max_size=n)
    return np.array(draw(indices)), np.array(draw(answers))


@st.composite
def soft(draw):
    """Two arrays of distributions over K labels."""
    n = draw(st.integers(1, 20))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    votes = random.multinomial(10, random.dirichlet(np.ones(K), n)[0], size=n) / 10
    return votes, random.dirichlet(np.full(K, 0.5), n)


@st.composite
def judged(draw):
    """Confidences with ties, and whether each answer was right."""
    n = draw(st.integers(1, 60))
    confidence = draw(st.lists(st.sampled_from(np.linspace(0, 1, 31).tolist()), min_size=n, max_size=n))
    correct = draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n))
    return np.array(confidence), np.array(correct)


def one_hot(indices: np.ndarray) -> np.ndarray:
    return np.eye(K)[indices]


@given(hard())
def test_headline_and_class_figures_equal_scikit_learn(data):
    truth, answers = data
    present = sorted(set(truth.tolist()))
    matrix = metrics.confusion(one_hot(truth), answers)
    accuracy, uar, macro_f1 = metrics.headline(matrix)
    kwargs = {"labels": present, "average": "macro", "zero_division": 0}
    assert accuracy == pytest.approx(sk.accuracy_score(truth, answers))
    assert uar == pytest.approx(sk.recall_score(truth, answers, **kwargs))
    assert macro_f1 == pytest.approx(sk.f1_score(truth, answers, **kwargs))
    assert np.array_equal(matrix[:, :K], sk.confusion_matrix(truth, answers, labels=[*range(K), -1])[:K, :K])

    scores = metrics.class_scores(matrix)
    wanted = sk.precision_recall_fscore_support(truth, answers, labels=range(K), zero_division=np.nan)
    assert np.allclose(scores["precision"], wanted[0], equal_nan=True)
    assert np.allclose(scores["recall"], wanted[1], equal_nan=True)
    assert np.array_equal(scores["support"], wanted[3])


@given(hard())
def test_order_of_rows_has_no_say(data):
    truth, answers = data
    order = np.random.default_rng(0).permutation(len(truth))
    first = metrics.bootstrap(one_hot(truth), answers, draws=20, seed=3)
    again = metrics.bootstrap(one_hot(truth[order]), answers[order], draws=20, seed=3)
    assert np.array_equal(first, again)


@given(hard())
def test_a_perfect_predictor_is_perfect_with_certainty(data):
    truth, _ = data
    assert np.allclose(metrics.headline(metrics.confusion(one_hot(truth), truth)), 1)
    assert np.allclose(metrics.bootstrap(one_hot(truth), truth, draws=5), 1)


@given(soft())
def test_expected_accuracy_is_the_mean_share_of_the_answer(data):
    votes, p = data
    answers = p.argmax(1)
    accuracy, uar, _ = metrics.headline(metrics.confusion(votes, answers))
    assert accuracy == pytest.approx(np.mean([v[a] for v, a in zip(votes, answers, strict=True)]))
    recalls = [votes[answers == k, k].sum() / votes[:, k].sum() for k in range(K) if votes[:, k].sum() > 0]
    assert uar == pytest.approx(np.mean(recalls))


def test_the_bootstrap_is_the_one_that_draws_row_by_row():
    random = np.random.default_rng(0)
    truth = random.choice(K, 400, p=[0.6, 0.25, 0.1, 0.05])
    answers = np.where(random.random(400) < 0.7, truth, random.integers(-1, K, 400))
    drawn = []
    for _ in range(1000):
        rows = np.concatenate([random.choice(np.flatnonzero(truth == k), (truth == k).sum()) for k in range(K)])
        drawn.append(metrics.headline(metrics.confusion(one_hot(truth[rows]), answers[rows])))
    wanted = np.percentile(drawn, (2.5, 50, 97.5), axis=0)
    found = np.percentile(metrics.bootstrap(one_hot(truth), answers, draws=4000), (2.5, 50, 97.5), axis=0)
    assert np.abs(found - wanted).max() < 0.012


@pytest.mark.parametrize("recall", [0.6, 0.8, 0.95])
@pytest.mark.parametrize("each", [4, 10])
def test_the_interval_of_few_faces_holds_the_truth(recall, each):
    """Of 200 reports on 12 or 30 faces; where all answers are right, resampling alone says 100 % for certain."""
    random = np.random.default_rng(0)
    truth, held = np.repeat(np.arange(3), each), []
    for _ in range(200):
        answers = np.where(random.random(len(truth)) < recall, truth, (truth + random.integers(1, 3, len(truth))) % 3)
        low, high = metrics.bounds(one_hot(truth)[:, :3], answers, 500)
        value = metrics.headline(metrics.confusion(one_hot(truth)[:, :3], answers))
        assert (low <= value).all() and (value <= high).all() and (low < high).all()
        held.append(low[1] <= recall <= high[1])
    assert np.mean(held) >= 0.93


def test_many_faces_have_the_plain_bootstrap():
    truth = np.tile(np.arange(K), 50)
    answers = np.where(np.arange(len(truth)) % 5 == 0, 0, truth)
    plain = np.percentile(metrics.bootstrap(one_hot(truth), answers, 200), (2.5, 97.5), axis=0)
    assert np.array_equal(metrics.bounds(one_hot(truth), answers, 200), plain)


def test_the_bootstrap_repeats_with_its_seed_and_only_with_it():
    truth = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    answers = np.array([0, 1, 0, 1, 1, -1, 2, 0, 2])
    first, second, other = (metrics.bootstrap(one_hot(truth), answers, 50, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


@given(judged())
def test_ece_equals_a_loop_over_the_bins(data):
    confidence, correct = data
    total = 0.0
    for i in range(15):
        low, high = np.linspace(0, 1, 16)[i : i + 2]
        inside = (confidence > low) & (confidence <= high) | ((confidence == 0) & (i == 0))
        if inside.any():
            total += inside.sum() * abs(confidence[inside].mean() - correct[inside].mean())
    bins = metrics.equal_width_bins(confidence, correct)
    assert bins.n.sum() == len(confidence)
    assert bins.ece() == pytest.approx(total / len(confidence), abs=1e-12)


@given(judged())
def test_adaptive_bins_are_even_and_blind_to_order(data):
    confidence, correct = data
    order = np.random.default_rng(1).permutation(len(confidence))
    bins = metrics.equal_mass_bins(confidence, correct)
    assert bins.n.max() - bins.n.min() <= 1
    assert bins.ece() == pytest.approx(metrics.equal_mass_bins(confidence[order], correct[order]).ece())


@given(judged())
def test_the_risk_curve_is_the_mean_over_the_orders_of_a_tie(data):
    confidence, correct = data
    curve = metrics.risk_curve(confidence, correct)
    order = np.random.default_rng(2).permutation(len(confidence))
    assert np.allclose(curve, metrics.risk_curve(confidence[order], correct[order]))
    assert curve[-1] == pytest.approx(1 - correct.mean())
    best, worst = ((sign * correct, -confidence) for sign in (-1, 1))
    curves = [1 - np.cumsum(correct[np.lexsort(keys)]) / np.arange(1, len(correct) + 1) for keys in (best, worst)]
    assert (curves[0] <= curve + 1e-9).all() and (curve <= curves[1] + 1e-9).all()


def test_the_risk_curve_by_hand():
    curve = metrics.risk_curve(np.array([0.2, 0.9, 0.9, 0.5]), np.array([0.0, 1.0, 0.0, 1.0]))
    assert curve == pytest.approx([1 / 2, 1 / 2, 1 / 3, 1 / 2])
    assert metrics.risk_at(curve, 0.75) == pytest.approx(1 / 3)
    assert metrics.risk_at(curve, 0.01) == pytest.approx(1 / 2)


@given(judged())
def test_auroc_equals_scikit_learn(data):
    confidence, correct = data
    if len(set(correct.tolist())) < 2:
        assert np.isnan(metrics.auroc(confidence, correct))
    else:
        assert metrics.auroc(confidence, correct) == pytest.approx(sk.roc_auc_score(correct, confidence))


@settings(max_examples=50)
@given(soft())
def test_distances_between_distributions(data):
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import entropy

    votes, p = data
    p = np.maximum(p, 1e-6) / np.maximum(p, 1e-6).sum(1, keepdims=True)
    assert metrics.kl(votes, p) == pytest.approx(entropy(votes, p, axis=1).mean())
    assert metrics.js(votes, p) == pytest.approx((jensenshannon(votes, p, axis=1) ** 2).mean(), abs=1e-9)
    assert metrics.cross_entropy(votes, p) == pytest.approx(metrics.kl(votes, p) + entropy(votes, axis=1).mean())
    assert metrics.kl(votes, votes) == pytest.approx(0) and metrics.js(votes, votes) == pytest.approx(0)
    assert metrics.brier(p, votes) == pytest.approx(((p - votes) ** 2).sum() / len(p))


def test_log_likelihood_equals_scikit_learn_and_zero_is_finite():
    p = np.array([[0.7, 0.2, 0.1, 0.0], [0.1, 0.1, 0.1, 0.7]])
    assert metrics.cross_entropy(one_hot(np.array([0, 3])), p) == pytest.approx(sk.log_loss([0, 3], p, labels=range(K)))
    assert metrics.cross_entropy(one_hot(np.array([3, 3])), p) < 17


def test_top2_hit():
    votes = np.array([[6, 3, 1, 0], [6, 3, 1, 0], [5, 5, 0, 0], [10, 0, 0, 0], [4, 3, 3, 0], [9, 1, 0, 0]]) / 10
    #                 second        third         tie           no votes      tied second   no answer
    assert metrics.top2_hit(votes, np.array([1, 2, 1, 1, 2, -1])) == pytest.approx(3 / 6)
