"""The writer over random evidence: its grammars hold what they may say and nothing else."""

import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from emoreason.emotions import LABEL_SETS
from emoreason.explain import writer
from emoreason.explain.grammar import accepts, sample
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.explain.words import forbidden
from emoreason.facs import ACTION_UNITS

LABELS = (
    *(entry.labels for entry in LABEL_SETS.values()),
    ("bored", "engaged", "confused"),
    ("very tired", "open", "raised"),
)


@st.composite
def sheets(draw) -> Sheet:
    codes = draw(st.lists(st.sampled_from(list(ACTION_UNITS)), unique=True, max_size=12))
    units = {code: draw(st.floats(0, 1)) for code in codes}
    labels = draw(st.sampled_from(LABELS))
    masses = [draw(st.floats(0.001, 1)) for _ in labels]
    return Sheet(
        units, {label: mass / sum(masses) for label, mass in zip(labels, masses, strict=True)}, draw(st.booleans())
    )


@settings(max_examples=60, deadline=None)
@given(sheets(), st.integers(0, 10_000))
def test_what_is_sampled_is_accepted(sheet, seed):
    reasoned = Reasoned(dict(zip(sheet.labels, reversed(list(sheet.probabilities.values())), strict=True)))
    rng = random.Random(seed)
    for node in (
        writer.observations(sheet, rng),
        writer.interpretation(sheet, reasoned, rng),
        writer.conclusion(sheet, reasoned, rng),
    ):
        assert accepts(node, sample(node, rng))


@settings(max_examples=60, deadline=None)
@given(sheets(), st.integers(0, 10_000))
def test_observations_hold_no_emotion_word_and_no_label(sheet, seed):
    rng = random.Random(seed)
    said = sample(writer.observations(sheet, rng), rng).casefold()
    full, stems = forbidden(sheet.labels)
    words = re.findall(r"[^\W\d_]+", said)
    assert not full & set(words), said
    assert not [word for word in words if word.startswith(stems)], said
    assert not [phrase for phrase in full if " " in phrase and f" {phrase} " in f" {' '.join(words)} "], said
