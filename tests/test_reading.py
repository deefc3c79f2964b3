"""The reader of explanations: any system's English, negation, amounts, sides, and the emotion words in a text."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from emoreason.explain.read.claims import mentions
from emoreason.explain.read.sections import stated_label
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.explain.write.explanation import write
from emoreason.knowledge.emotion_words import leaks
from emoreason.knowledge.emotions import LABEL_SETS
from emoreason.knowledge.facs import ACTION_UNITS, BANDS, COMBINATIONS

MEASURED = ["1", "2", "4", "5", "7", "12", "15", "24", "25", "26", "27", "43"]
LABELS = LABEL_SETS["ferplus8"].labels
CUES = yaml.safe_load((Path(__file__).parent.parent / "prompts" / "bands.yaml").read_text())
PHRASES = [
    (unit.code, name, text) for unit in ACTION_UNITS.values() for name, texts in unit.phrases.items() for text in texts
]
# "Forcefully" is a cue of strong in prompts/bands.yaml; the phrase stands under marked.
OTHER_BAND = {"the jaw is pulled down forcefully": "strong"}


def read(text: str) -> str:
    """The mentions in short: "12 slight, -4" for one with its band and one denied."""
    found = mentions(text)
    return ", ".join(f"{'' if m.present else '-'}{m.action_unit}{f' {m.band}' if m.band else ''}" for m in found)


# ---- the phrases of facs.py ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "band", "text"), PHRASES)
def test_every_phrase_of_every_unit_is_read_back(code, band, text):
    expected = [(code, OTHER_BAND.get(text, band))]
    for written in (text, f"{text.capitalize()}."):
        assert [(m.action_unit, m.band) for m in mentions(written) if m.present] == expected


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda c: "+".join(c.units))
def test_a_combination_counts_as_each_of_its_units(combination):
    for text in combination.phrases:
        assert sorted({m.action_unit for m in mentions(text) if m.present}) == sorted(combination.units)


@pytest.mark.parametrize("band", CUES)
def test_every_cue_of_a_band_is_read(band):
    assert list(CUES) == [name for name, _ in BANDS]
    for cue in CUES[band]["adverb"]:
        assert read(f"The brows are {cue} drawn together.") == f"4 {band}"
    for cue in CUES[band]["degree"]:
        assert read(f"The upper lids are raised {cue}.") == f"5 {band}"
    for cue in CUES[band]["adjective"]:
        assert read(f"The lift at the inner brows looks {cue}.") == f"1 {band}"
    for cue in CUES[band]["quantity"]:
        assert read(f"I see {cue} lift at the lip corners.") == f"12 {band}"


# ---- other people's English ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The lip corners are raised.", "12"),
        ("eyebrows furrowed", "4"),
        ("The eyebrows are furrowed and the lips are pressed tightly together.", "4, 24 strong"),
        ("eyes wide open, mouth agape", "5 marked, 25, 26"),
        ("The mouth is slightly open, showing the upper teeth.", "25 slight"),
        ("The mouth is open", "25"),
        ("The mouth hangs open", "25, 26"),
        ("The jaw drops noticeably", "26 marked"),
        ("a mouth that is stretched wide open", "27, 25"),
        ("Both brows are raised", "1, 2"),
        ("raised inner brows that are drawn together", "1, 4"),
        ("The outer corners of the eyebrows are lifted", "2"),
        ("The corners of the mouth are turned downward", "15"),
        ("a pronounced smile", "12 marked"),
        ("a frown between narrowed eyes", "4, 7"),
        ("crow's feet around the eyes and lifted cheeks", "6"),
        ("the lids are half closed", "43 marked"),
        ("slight elevation of the chin", "17 slight"),
        ("a subtle lifting at the outer brow", "2 trace"),
        ("elevated cheeks and slight nasal wrinkling", "6, 9 slight"),
        ("The upper lip's slight raising", "10 slight"),
        ("the chin pushes the lower lip up", "17 marked"),
        ("the eyes are narrowed by raised cheeks", "6 marked"),
        ("a wide-eyed look", "5"),
        ("The lips are puckered, which suggests tension.", "18"),
        ("slight lid tension, and the lips show tension", "7 slight, 23"),
        ("deep creases stand between the brows", "4 strong"),
        ("tension around the eyes, and pressure in the lips", "7, 24"),
        ("the lips are clearly parted and the jaw hangs slightly open", "25 marked, 26 slight"),
        ("slightly raised brows and clearly parted lips", "1 slight, 2 slight, 25 marked"),
        ("the eyes are not fully closed", "43 slight"),
        ("The gaze is directed at the camera, and the hair falls over the forehead.", ""),
        ("The photo was taken outdoors.", ""),
        ("", ""),
    ],
)
def test_reads(text, expected):
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AU12 (lip corner puller) is active", "12"),
        ("AU 12 and AU 25 are present, AU4 is not.", "12, 25, -4"),
        ("AU06+12", "6, 12"),
        ("AUs 1, 2 and 4 are visible", "1, 2, 4"),
        ("AU12C and AU 25E", "12 marked, 25 strong"),
        ("Action units 6 and 12", "6, 12"),
        ("AU 4 is absent", "-4"),
        ("no AU 15", "-15"),
        ("AU 99 is not one", ""),
        ("AU 12 (0.82)", "12 marked"),
    ],
)
def test_reads_codes(text, expected):
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The brows are not raised.", "-1, -2"),
        ("The brows aren't lowered", "-4"),
        ("no sign of raised inner brows", "-1"),
        ("The brows are not raised but drawn together.", "-1, -2, 4"),
        ("Neither the brows nor the upper lids are raised, and the lips are parted.", "-1, -2, -5, 25"),
        ("without raised brows, tight lids or parted lips", "-1, -2, -7, -25"),
        ("Without raised brows, the lips are parted.", "-1, -2, 25"),
        ("The lips are parted without a lift of the lip corners", "25, -12"),
        ("an absence of tension in the lips; the jaw has dropped", "-23, 26"),
        ("lack of a smile", "-12"),
        ("There is no sign of raised brows or a dropped jaw.", "-1, -2, -26"),
        ("no lift shows at the brows, and the lips are pressed together", "-1, -2, 24"),
        ("The brows stay level.", "-1, -2, -4"),
        ("The mouth remains at rest, while the lids are tightened.", "-12, -15, 7"),
        ("the lips are closed", "-25"),
        ("The lips are not only parted but the jaw has dropped", "25, 26"),
        ("This needs a raised upper lid too, and none is found.", "-5"),
        ("The eyes are narrower than at rest", "7"),
        ("not the brows: the lids are raised", "5"),
    ],
)
def test_negation_reaches_as_far_as_it_should(text, expected):
    assert read(text) == expected


def test_sides():
    sides = {m.action_unit: m.side for m in mentions("The left brow is lowered and the right lip corner is pulled up.")}
    assert sides == {"4": "left", "12": "right"}
    assert [m.side for m in mentions("Both lids are tightened.")] == [None]
    assert [m.side for m in mentions("The left and right upper lids are raised.")] == [None]
    assert [m.side for m in mentions("The corner of the left eye shows lines.")] == ["left"]
    assert [m.side for m in mentions("Little red is left; the chin is raised.")] == [None]


def test_a_mention_tells_where_it_stands():
    text = "First, the brows are lowered. Then the lips are parted."
    for mention in mentions(text):
        assert text[mention.start : mention.end] == mention.text
        assert mention.region == ACTION_UNITS[mention.action_unit].region
    assert [m.text for m in mentions(text)] == ["brows are lowered", "lips are parted"]


def test_a_unit_counts_once_a_clause_and_again_in_the_next():
    assert read("The brows are lowered, drawn together and furrowed.") == "4"
    assert read("The brows are lowered. The brows are furrowed.") == "4, 4"


# ---- our own writer, which the reader does not know ------------------------------------------------------------------


def random_sheet(seed: int, codes: list[str]) -> tuple[Sheet, Reasoned, random.Random]:
    rng = random.Random(seed)
    units = {code: rng.random() if rng.random() < 0.4 else 0.2 * rng.random() for code in codes}
    weights = [rng.expovariate(1) ** 2 + 1e-9 for _ in LABELS]
    other = [rng.random() ** 3 + 1e-9 for _ in LABELS]
    sheet = Sheet(units, {label: w / sum(weights) for label, w in zip(LABELS, weights, strict=True)})
    return sheet, Reasoned({label: w / sum(other) for label, w in zip(LABELS, other, strict=True)}), rng


@pytest.mark.parametrize("codes", [MEASURED, list(ACTION_UNITS)], ids=["measured", "all"])
def test_what_is_written_is_read(codes):
    wrong = []
    for seed in range(200):
        sheet, reasoned, rng = random_sheet(seed, codes)
        seen = write(sheet, reasoned if seed % 2 else None, rng).seen
        found = mentions(seen)
        named = {m.action_unit for m in found if m.present}
        denied = {m.action_unit for m in found if not m.present}
        if named != {unit.code for unit in sheet.named} or not denied <= set(sheet.absent):
            wrong.append(seen)
        assert leaks(seen, sheet.labels) == []
    assert len(wrong) <= 1, wrong


# ---- any text -------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["the", "left", "brows", "upper", "lids", "lip", "corners", "jaw", "not", "no", "neither", "nor", "without", "and"]
    + ["or", ",", ".", ";", "but", "raised", "lowered", "slightly", "by", "of", "toward", "absent", "none", "İ", "AU"]
    + ["12", "is", "are", "at", "rest", "smile", "deep", "AU4", "0.5", "in", "(", ")", "been", "closed", "open"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=25).map(" ".join) | st.text(max_size=60))
def test_any_text_can_be_read(text):
    for mention in mentions(text):
        assert text[mention.start : mention.end] == mention.text
        assert mention.present or mention.band is None
    assert all(word in text.casefold() for word in leaks(text, LABELS) if text.isascii())


# ---- emotion words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    ["happily", "happier", "happiest", "happiness", "unhappily", "sadness", "sadder", "saddened", "angrier", "anger's"]
    + ["fearful", "fearless", "shocking", "maddening", "surprisingly", "annoying", "raging", "terrifying", "worrying"]
    + ["neutral", "calmly", "contemptuously", "disgusts"],
)
def test_leaks_in_every_form(word):
    assert leaks(f"The lips look {word} here.") == [re.sub(r"'s$", "", word)]


@pytest.mark.parametrize(
    "text",
    ["a saddle", "made of madras", "scarf and scar", "the rest of the face", "a smile", "angel", "paint"],
)
def test_substrings_do_not_leak(text):
    assert leaks(text) == []


def test_the_asked_labels_leak_with_their_forms_and_synonyms():
    assert leaks("an engrossed look, engrossing", ["engrossed"]) == ["engrossed", "engrossing"]
    assert leaks("an engrossed look") == []
    assert leaks("she smiles, smiling", ["smiling"]) == ["smiles", "smiling"]
    assert leaks("a Zoned-out look; zoned in", ["zoned out"]) == ["zoned-out"]
    assert leaks("joyful", ["happiness"]) == ["joyful"]
    assert leaks("each other", ["other"]) == []


def test_leaks_are_said_once_and_in_order():
    assert leaks("Angry, sad, angry.") == ["angry", "sad"]


def test_two_labels_that_are_too_close_are_no_claim():
    said = "I give no answer, because anger and disgust are too close to decide."
    assert stated_label(said, ("anger", "disgust", "fear")) is None
