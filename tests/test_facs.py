"""Action units: the phrases must be neutral and unambiguous, the prototypes must hang together with the labels."""

from __future__ import annotations

import math
import re
from itertools import combinations as pairs
from pathlib import Path

import pytest
import yaml

from emoreason.knowledge.emotions import LABEL_SETS, SYNONYMS, emotion_words
from emoreason.knowledge.facs import (
    ACTION_UNITS,
    BANDS,
    COMBINATIONS,
    PROTOTYPES,
    REGIONS,
    band,
    combinations,
    opposites,
    phrase,
)

DESCRIPTORS = Path(__file__).parent.parent / "prompts" / "descriptors.yaml"
BAND_NAMES = [name for name, _ in BANDS]
PHRASES = [
    (unit.code, name, text) for unit in ACTION_UNITS.values() for name, texts in unit.phrases.items() for text in texts
]
NAMES_OF_WHOLE_FACES = (
    "smil",
    "frown",
    "scowl",
    "grimac",
    "sneer",
    "pout",
    "laugh",
    "grin",
    "smirk",
    "emotion",
    "feel",
)


def words_that_leak(text: str) -> list[str]:
    return [word for word in emotion_words() if re.search(rf"\b{re.escape(word)}\b", text.casefold())]


def test_the_units_of_emotion_work_are_all_there():
    assert " ".join(ACTION_UNITS) == "1 2 4 5 6 7 9 10 12 14 15 16 17 18 20 22 23 24 25 26 27 28 43 45"
    assert all(code == unit.code and unit.region in REGIONS for code, unit in ACTION_UNITS.items())
    assert len({unit.name for unit in ACTION_UNITS.values()}) == len(ACTION_UNITS)
    assert all(unit.muscles for unit in ACTION_UNITS.values())


@pytest.mark.parametrize("unit", ACTION_UNITS.values(), ids=list(ACTION_UNITS))
def test_every_band_has_several_phrases(unit):
    assert list(unit.phrases) == BAND_NAMES
    assert all(len(texts) >= 3 for texts in unit.phrases.values())


@pytest.mark.parametrize(("code", "name", "text"), PHRASES)
def test_a_phrase_is_a_neutral_clause(code, name, text):
    assert words_that_leak(text) == []
    assert not any(stem in text for stem in NAMES_OF_WHOLE_FACES)
    assert re.fullmatch(r"[a-z][a-z ,;-]+[a-z]", text), "lower case, no full stop, no digits"
    assert 4 <= len(text.split()) <= 16


def test_the_leak_check_can_find_something():
    assert words_that_leak("a Happy mouth") == ["happy"]
    assert words_that_leak("the mouth is let down") == ["let down"]


def test_a_phrase_tells_its_unit_and_band():
    texts = [text for _, _, text in PHRASES]
    assert len(set(texts)) == len(texts)


def test_bands_rise_and_none_is_below_the_first():
    thresholds = [lower for _, lower in BANDS]
    assert thresholds == sorted(set(thresholds))
    assert band(0.0) is None and band(0.199) is None and band(math.nan) is None
    assert [band(lower) for lower in thresholds] == BAND_NAMES
    assert band(0.82) == "marked" and band(1.0) == "strong"


def test_phrase_picks_by_band_and_choice():
    marked = ACTION_UNITS["12"].phrases["marked"]
    assert phrase("12", 0.82) == marked[0]
    assert phrase("12", 0.82, choice=1) == marked[1]
    assert phrase("12", 0.82, choice=len(marked)) == marked[0]
    assert phrase("12", 0.1) is None


def test_prototypes_name_known_units_emotions_and_sources():
    assert set(PROTOTYPES) == set(LABEL_SETS["ferplus8"].labels) - {"neutral"}
    for emotion, prototypes in PROTOTYPES.items():
        assert len({prototype.source for prototype in prototypes}) >= 2
        for prototype in prototypes:
            units = (*prototype.units, *prototype.optional)
            assert prototype.emotion == emotion and prototype.units and len(prototype.source) > 20
            assert set(units) <= set(ACTION_UNITS) and len(set(units)) == len(units)


def test_opposites_are_mutual_and_never_meet_in_one_face():
    assert opposites("12") == ("15",) and opposites("1") == ()
    for code in ACTION_UNITS:
        assert all(code in opposites(other) for other in opposites(code))
    together = [prototype.units for group in PROTOTYPES.values() for prototype in group]
    together += [combination.units for combination in COMBINATIONS]
    for units in together:
        assert not any(b in opposites(a) for a, b in pairs(units, 2)), units


def test_combinations_take_the_largest_and_share_no_unit():
    assert [entry.units for entry in combinations(["1", "2", "4", "25", "26"])] == [("1", "2", "4"), ("25", "26")]
    assert [entry.units for entry in combinations({"1", "4", "12"})] == [("1", "4")]
    assert combinations([]) == ()
    used = [code for entry in combinations(ACTION_UNITS) for code in entry.units]
    assert len(set(used)) == len(used)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda entry: "+".join(entry.units))
def test_combinations_are_neutral_and_new(combination):
    assert set(combination.units) <= set(ACTION_UNITS)
    for text in combination.phrases:
        assert words_that_leak(text) == [] and not any(stem in text for stem in NAMES_OF_WHOLE_FACES)
        assert text not in {known for _, _, known in PHRASES}


def test_descriptors_describe_and_are_tied_to_units():
    descriptors = yaml.safe_load(DESCRIPTORS.read_text(encoding="utf-8"))
    assert list(descriptors) == list(LABEL_SETS["ferplus8"].labels)
    texts = [entry["text"] for entries in descriptors.values() for entry in entries]
    assert len(set(texts)) == len(texts)
    for emotion, entries in descriptors.items():
        usual = {code for prototype in PROTOTYPES.get(emotion, ()) for code in (*prototype.units, *prototype.optional)}
        assert emotion in SYNONYMS and len(entries) >= 6
        for entry in entries:
            assert set(entry) == {"text", "units"}
            assert words_that_leak(entry["text"]) == [], entry
            assert set(entry["units"]) <= set(ACTION_UNITS), entry
            assert not any(b in opposites(a) for a, b in pairs(entry["units"], 2)), entry
            assert bool(entry["units"]) == (emotion != "neutral"), entry
            assert not usual or usual & set(entry["units"]), f"no unit of a {emotion} prototype in {entry}"
