"""FER+ targets: the rules, and the counts that they give on the real votes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoreason.core.errors import UsageError
from emoreason.data import read
from emoreason.data.protocols import EMOTIONS, PROTOCOLS, VOTES, ferplus_target

# Ten people, each choosing one of the ten columns.
ten_votes = st.lists(st.sampled_from(VOTES), min_size=10, max_size=10).map(
    lambda chosen: {name: float(Counter(chosen)[name]) for name in VOTES}
)


def votes(**counts: float) -> dict[str, float]:
    return {name: float(counts.get(name, 0)) for name in VOTES}


def test_single_votes_do_not_count_for_the_majority():
    split = votes(happiness=5, neutral=2, sadness=1, anger=1, fear=1)
    assert ferplus_target(split, "majority") == "happiness"  # 5 of 7
    assert ferplus_target(split, "strict") is None  # 5 of 10
    assert ferplus_target(split, "argmax8") == "happiness"


def test_half_is_not_more_than_half():
    assert ferplus_target(votes(happiness=5, neutral=5), "majority") is None
    assert ferplus_target(votes(happiness=5, neutral=5), "argmax8") == "neutral"  # the first of the columns


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("winner", ["unknown", "not_a_face"])
def test_faces_that_are_unknown_or_none_are_left_out(protocol: str, winner: str):
    assert ferplus_target(votes(**{winner: 6, "happiness": 4}), protocol) is None


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_votes_no_target(protocol: str):
    assert ferplus_target({}, protocol) is None


def test_an_unknown_protocol_says_which_there_are():
    with pytest.raises(UsageError, match="majority, argmax8, strict, probability"):
        ferplus_target({}, "median")


@given(ten_votes)
def test_the_majority_has_more_than_half_of_what_is_left(counts: dict[str, float]):
    winner = ferplus_target(counts, "majority")
    kept = {name: count for name, count in counts.items() if count > 1}
    if winner is None:
        assert not any(2 * kept.get(name, 0) > sum(kept.values()) for name in EMOTIONS)
    else:
        assert 2 * kept[winner] > sum(kept.values())


@given(ten_votes)
def test_the_protocols_are_nested(counts: dict[str, float]):
    strict, majority, argmax = (ferplus_target(counts, p) for p in ("strict", "majority", "argmax8"))
    assert strict in (None, majority)
    assert majority in (None, argmax)


@given(ten_votes)
def test_the_probability_is_a_distribution_over_the_eight(counts: dict[str, float]):
    target = ferplus_target(counts, "probability")
    assert (target is None) == (ferplus_target(counts, "argmax8") is None)
    if isinstance(target, dict):
        assert tuple(target) == EMOTIONS
        assert sum(target.values()) == pytest.approx(1)
        assert max(target.values()) == target[str(ferplus_target(counts, "argmax8"))]


def test_the_published_counts_of_validation(ferplus: Path):
    counted = [s.votes or {} for s in read(ferplus, split="validation")]
    n = {p: sum(ferplus_target(v, p) is not None for v in counted) for p in PROTOCOLS}
    assert n == {"majority": 3191, "argmax8": 3555, "strict": 2866, "probability": 3555}
