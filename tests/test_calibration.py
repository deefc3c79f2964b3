"""Temperature, operating points and abstention do what they say on answers whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoreason.core.probabilities import softmax
from emoreason.evidence.calibration import Calibration, OperatingPoint, abstention_threshold, fit_temperature, nll

LABELS = ("neutral", "happiness", "anger")


def drawn(temperature: float, n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from softmax(logits / temperature): the temperature that calibrates them is known."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, 3))
    return logits, np.array([rng.choice(3, p=row) for row in softmax(logits, temperature)])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_true_temperature_is_found(temperature):
    logits, labels = drawn(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.08)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 4), st.integers(0, 1000))
def test_the_fitted_temperature_is_never_worse_than_none(temperature, seed):
    logits, labels = drawn(temperature, 200, seed)
    assert nll(softmax(logits, fit_temperature(logits, labels)), labels) <= nll(softmax(logits), labels) + 1e-9


def test_a_few_right_answers_make_no_certainty():
    logits, labels = np.tile([2.0, 0.0, 0.0], (12, 1)), np.zeros(12, int)  # 79 % each, all of them right
    assert 0.3 < fit_temperature(logits, labels) < 1
    assert fit_temperature(np.tile(logits, (500, 1)), np.zeros(6000, int)) < 0.25


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.floats(0.5, 0.99))
def test_answers_above_the_threshold_are_right_often_enough(seed, wanted):
    rng = np.random.default_rng(seed)
    confidence = rng.random(300)
    right = rng.random(300) < confidence
    threshold = abstention_threshold(confidence, right, wanted)
    given_answers = confidence >= threshold
    assert not given_answers.any() or right[given_answers].mean() >= wanted


def test_nothing_right_means_never_answer():
    assert abstention_threshold(np.array([0.5, 0.9]), np.array([False, False]), 0.9) == 1.0


def test_calibration_covers_subsets_of_its_labels_only():
    prior = dict(zip(LABELS, (0.6, 0.3, 0.1), strict=True))
    points = {"accurate": OperatingPoint(0.5), "balanced": OperatingPoint(0.5, 1.0)}
    calibration = Calibration(LABELS, prior, points, 0.4)
    assert calibration.covers(("anger", "neutral")) and not calibration.covers(("anger", "bored"))
    assert not Calibration().covers(("anger", "neutral"))
    logits = np.array([[1.0, 1.0]])
    accurate = calibration.probabilities(logits, ("neutral", "anger"), "accurate")
    balanced = calibration.probabilities(logits, ("neutral", "anger"), "balanced")
    np.testing.assert_allclose(accurate, [[0.5, 0.5]])
    assert balanced[0, 1] > 0.9  # the rare label gains
    foreign = calibration.probabilities(logits, ("neutral", "bored"), "balanced")
    np.testing.assert_allclose(foreign, [[0.5, 0.5]])  # no prior is known for it


def test_a_bundle_spec_round_trips():
    spec = {"labels": list(LABELS), "prior": dict.fromkeys(LABELS, 1 / 3), "abstain_below": 0.3,
            "points": {"accurate": {"temperature": 0.7, "prior_strength": 0.0}}, "fitted_on": "100 faces"}  # fmt: skip
    calibration = Calibration.from_spec(spec)
    assert calibration.points["accurate"].temperature == 0.7 and calibration.abstain_below == 0.3
