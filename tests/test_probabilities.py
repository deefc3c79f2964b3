"""How a probability is written."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoreason.core.probabilities import percent


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0, "under 1%"),
        (0.005, "under 1%"),
        (0.006, "1%"),
        (0.62, "62%"),
        (0.994, "99%"),
        (0.995, "over 99%"),
        (1, "over 99%"),
    ],
)
def test_whole_percents_and_never_a_certainty(p, text):
    assert percent(p) == text


@given(st.floats(0, 1))
def test_what_is_written_is_within_half_a_percent(p):
    number = int(re.search(r"\d+", percent(p))[0])
    assert percent(p) not in ("0%", "100%") and abs(100 * p - number) <= (1 if "er " in percent(p) else 0.5 + 1e-9)
