"""Label sets, synonyms, projections, circumplex."""

from __future__ import annotations

import doctest
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.knowledge.emotions import (
    CIRCUMPLEX,
    GROUPS,
    LABEL_SETS,
    SYNONYMS,
    canonical,
    emotion_words,
    from_index,
    label_set,
    nearest,
    project,
    projection,
    valence_arousal,
)

FERPLUS = LABEL_SETS["ferplus8"].labels
LABELS_PAGE = Path(__file__).parent.parent / "docs" / "labels.md"

# The orders as the files of the datasets have them, written out here once more by hand: a change must be meant.
NATIVE = {
    "ferplus8": "neutral happiness surprise sadness anger disgust fear contempt",
    "fer2013_7": "anger disgust fear happiness sadness surprise neutral",
    "expw7": "anger disgust fear happiness sadness surprise neutral",
    "rafdb7": "surprise fear disgust happiness sadness anger neutral",
    "affectnet7": "neutral happiness sadness surprise fear disgust anger",
    "affectnet8": "neutral happiness sadness surprise fear disgust anger contempt",
    "sfew7": "anger disgust fear happiness neutral sadness surprise",
    "caers7": "anger disgust fear happiness neutral sadness surprise",
    "ckplus7": "anger contempt disgust fear happiness sadness surprise",
    "ckplus8": "neutral anger contempt disgust fear happiness sadness surprise",
    "dfew7": "happiness sadness neutral anger surprise disgust fear",
    "ferv39k7": "happiness sadness neutral anger surprise disgust fear",
    "mafw11": "anger disgust fear happiness neutral sadness surprise contempt anxiety helplessness disappointment",
    "mafw11_dferclip": "happiness sadness neutral anger surprise disgust fear "
    "contempt anxiety helplessness disappointment",
    "ekman6": "anger disgust fear happiness sadness surprise",
    "ekman7": "anger contempt disgust fear happiness sadness surprise",
    "micro3": "negative positive surprise",
    "casme2_5": "happiness disgust repression surprise other",
    "polarity3": "negative neutral positive",
}


def test_orders_are_the_native_ones():
    assert {name: " ".join(entry.labels) for name, entry in LABEL_SETS.items()} == NATIVE
    assert {name for name, entry in LABEL_SETS.items() if entry.base == 1} == {"rafdb7", "ckplus7", "dfew7"}


@pytest.mark.parametrize("entry", LABEL_SETS.values(), ids=list(LABEL_SETS))
def test_every_set_holds_distinct_canonical_names_and_says_where_it_is_from(entry):
    assert len(set(entry.labels)) == len(entry.labels)
    assert [canonical(label) for label in entry.labels] == list(entry.labels)
    assert len(entry.note) > 20


@pytest.mark.parametrize(
    ("set_name", "index", "expected"),
    [
        ("rafdb7", 1, "surprise"),
        ("rafdb7", "7", "neutral"),
        ("dfew7", 7, "fear"),
        ("ferv39k7", 0, "happiness"),
        ("affectnet8", 7, "contempt"),
        ("fer2013_7", "3", "happiness"),
        ("ckplus7", "5.0000000e+00", "happiness"),
        ("ckplus8", 0, "neutral"),
    ],
)
def test_from_index(set_name, index, expected):
    assert from_index(set_name, index) == expected


def test_from_index_with_another_base():
    assert from_index("rafdb7", 0, base=0) == "surprise"
    assert from_index("dfew7", 6, base=0) == "fear"
    assert from_index("fer2013_7", 1, base=1) == "anger"


@pytest.mark.parametrize("index", [-1, 0, 8, 1.5, "", "happy", None, math.nan, math.inf])
def test_from_index_refuses_what_is_no_index(index):
    with pytest.raises(EmoreasonError, match="1 to 7"):
        from_index("rafdb7", index)


def test_label_set_is_tolerant_and_suggests():
    assert label_set(" RAFDB7 ").name == "rafdb7"
    assert label_set("FER2013-7").name == "fer2013_7"
    with pytest.raises(EmoreasonError, match="did you mean ferplus8"):
        label_set("ferplus")
    with pytest.raises(EmoreasonError, match=r"known sets: .*micro3"):
        label_set("zzzz")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("happy", "happiness"), ("Happiness", "happiness"), ("JOY", "happiness"), ("sad", "sadness"),
        ("Angry", "anger"), ("surprised", "surprise"), ("Suprise", "surprise"), ("fearful", "fear"),
        ("disgusted", "disgust"), ("neutrality", "neutral"), ("contemptuous", "contempt"), ("others", "other"),
        ("worried", "anxiety"), ("no-expression", "neutral"), ("No_Expression ", "neutral"),
        ("let  down", "disappointment"), ("03_Fearful", "fear"), ("6: Neutral", "neutral"),
        ("", None), ("7", None), ("not happy", None), ("spoon", None), ("none", None), ("unknown", None),
    ],
)  # fmt: skip
def test_canonical(word, expected):
    assert canonical(word) == expected


def test_a_word_stands_for_one_emotion():
    words = [word for name, synonyms in SYNONYMS.items() for word in (name, *synonyms)]
    assert len(set(words)) == len(words)
    assert all(word == " ".join(word.split()).casefold() for word in words)


@given(st.sampled_from([word for name, words in SYNONYMS.items() for word in (name, *words)]), st.data())
def test_canonical_does_not_care_about_the_spelling(word, data):
    case = data.draw(st.sampled_from([str.upper, str.title, str.lower]))
    gap = data.draw(st.sampled_from([" ", "-", "_", "  "]))
    assert canonical(f" {case(word).replace(' ', gap)} ") == canonical(word)


@given(st.text())
def test_canonical_takes_any_text(word):
    assert canonical(word) is None or canonical(word) in SYNONYMS


def test_nearest():
    assert nearest("hapiness")[0] == "happiness"
    assert nearest("disgusst")[0] == "disgust"
    assert nearest("xylophone") == ()
    assert len(nearest("sad", n=1)) == 1


def test_emotion_words_for_the_leak_check():
    words = emotion_words()
    assert {"happiness", "joyful", "furious", "repulsed"} <= words
    assert "other" not in words and "mouth" not in words


def test_groups_are_disjoint_and_signless_emotions_are_in_none():
    assert not set(GROUPS["positive"]) & set(GROUPS["negative"])
    assert not {"surprise", "neutral", "other"} & (set(GROUPS["positive"]) | set(GROUPS["negative"]))
    assert set(GROUPS["positive"]) | set(GROUPS["negative"]) <= set(SYNONYMS)


# --- projections -----------------------------------------------------------------------------------------------------

masses = st.one_of(st.just(0.0), st.floats(1e-9, 1e6))
distributions = st.dictionaries(st.sampled_from([*SYNONYMS, "Happy", "scared", "thoughtful"]), masses)
targets = st.one_of(
    st.sampled_from([list(entry.labels) for entry in LABEL_SETS.values()]),
    st.lists(st.sampled_from([*SYNONYMS, "joyful", "calm", "spoon"]), min_size=1, unique=True),
)


@given(distributions, targets)
def test_projection_is_a_distribution_in_the_asked_order(distribution, labels):
    result = projection(distribution, labels)
    assert list(result.probabilities) == labels
    assert all(value >= 0 for value in result.probabilities.values())
    total = sum(result.probabilities.values())
    assert total == pytest.approx(1.0) or total == 0.0
    assert 0.0 <= result.kept <= 1.0 + 1e-9
    if any(distribution.values()):
        assert result.kept + sum(result.dropped.values()) == pytest.approx(1.0)
    else:
        assert total == 0.0 and result.kept == 0.0 and result.dropped == {}


@given(distributions, targets)
def test_projection_is_idempotent(distribution, labels):
    once = project(distribution, labels)
    assert project(once, labels) == pytest.approx(once)


@given(distributions, targets)
def test_projection_loses_nothing_but_scale(distribution, labels):
    """Projecting votes and projecting the same votes as probabilities is the same."""
    tenfold = {name: 10 * value for name, value in distribution.items()}
    assert project(tenfold, labels) == pytest.approx(project(distribution, labels))


@given(st.sampled_from(list(LABEL_SETS.values())), st.data())
def test_same_labels_in_another_order_round_trip(entry, data):
    labels = list(entry.labels)
    values = data.draw(st.lists(st.floats(0.01, 1), min_size=len(labels), max_size=len(labels)))
    distribution = {label: value / sum(values) for label, value in zip(labels, values, strict=True)}
    shuffled = data.draw(st.permutations(labels))
    back = project(project(distribution, shuffled), labels)
    assert back == pytest.approx(distribution)
    assert projection(distribution, shuffled).dropped == {}


@pytest.mark.parametrize("first", LABEL_SETS.values(), ids=list(LABEL_SETS))
@pytest.mark.parametrize("second", ["ferplus8", "ekman6", "mafw11"])
def test_sure_answers_survive_a_change_of_set(first, second):
    shared = set(first.labels) & set(LABEL_SETS[second].labels)
    for name in shared:
        one_hot = {label: float(label == name) for label in first.labels}
        assert project(one_hot, LABEL_SETS[second].labels)[name] == 1.0


def test_contempt_is_dropped_and_reported_not_given_to_disgust():
    result = projection({"contempt": 0.25, "disgust": 0.25, "happiness": 0.5}, LABEL_SETS["rafdb7"].labels)
    assert result.dropped == {"contempt": 0.25}
    assert result.kept == 0.75
    assert result.probabilities["disgust"] == pytest.approx(1 / 3)
    assert result.probabilities["happiness"] == pytest.approx(2 / 3)


def test_synonyms_meet_and_add_up():
    assert project({"Happy": 1, "joy": 1, "Angry": 2}, ["happiness", "furious"]) == {"happiness": 0.5, "furious": 0.5}


def test_the_exact_spelling_wins_and_two_synonyms_share():
    assert project({"calm": 1.0}, ["neutral", "calm"]) == {"neutral": 0.0, "calm": 1.0}
    assert project({"neutrality": 1.0}, ["neutral", "calm"]) == {"neutral": 0.5, "calm": 0.5}


def test_micro3_gathers_by_valence_and_drops_neutral():
    votes = {"neutral": 4, "happiness": 2, "surprise": 1, "sadness": 1, "anger": 1, "disgust": 1}
    result = projection(votes, LABEL_SETS["micro3"].labels)
    assert result.probabilities == pytest.approx({"negative": 0.5, "positive": 1 / 3, "surprise": 1 / 6})
    assert result.dropped == {"neutral": 0.4}
    assert project(votes, LABEL_SETS["polarity3"].labels) == pytest.approx(
        {"negative": 1 / 3, "neutral": 4 / 9, "positive": 2 / 9}
    )


def test_a_coarse_label_is_not_split_into_fine_ones():
    assert projection({"negative": 1.0}, FERPLUS).dropped == {"negative": 1.0}


def test_unknown_words_keep_their_place_when_asked_for_verbatim():
    assert project({"thoughtful": 3, "spoon": 1}, ["spoon", "thoughtful"]) == {"spoon": 0.25, "thoughtful": 0.75}


def test_nothing_kept_gives_zeros():
    result = projection({"contempt": 1.0}, ["happiness", "sadness"])
    assert result.probabilities == {"happiness": 0.0, "sadness": 0.0}
    assert result.kept == 0.0 and result.dropped == {"contempt": 1.0}
    assert project({}, ["happiness"]) == {"happiness": 0.0}


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_projection_refuses_what_is_no_probability(value):
    with pytest.raises(EmoreasonError, match="'anger'"):
        project({"anger": value}, FERPLUS)


@pytest.mark.parametrize("labels", [[], ["fear", "fear"]])
def test_projection_refuses_empty_and_repeated_labels(labels):
    with pytest.raises(UsageError, match="at least one label to project on, all of them different"):
        project({"anger": 1.0}, labels)


# --- circumplex ------------------------------------------------------------------------------------------------------


def test_circumplex_covers_the_sets_and_lies_in_the_square():
    assert set(CIRCUMPLEX) <= set(SYNONYMS)
    assert all(-1 <= value <= 1 for point in CIRCUMPLEX.values() for value in point)
    for name in ("ferplus8", "mafw11"):
        assert set(LABEL_SETS[name].labels) <= set(CIRCUMPLEX)
    for name, sign in (("positive", 1), ("negative", -1)):
        assert all(sign * CIRCUMPLEX[emotion][0] > 0 for emotion in GROUPS[name] if emotion in CIRCUMPLEX)


def test_valence_arousal_of_sure_and_mixed_answers():
    assert valence_arousal({"happiness": 1.0}) == CIRCUMPLEX["happiness"]
    assert valence_arousal({"furious": 2.0}) == CIRCUMPLEX["anger"]
    assert valence_arousal({"happiness": 0.5, "neutral": 0.5}) == pytest.approx((0.405, 0.255))


def test_valence_arousal_is_none_when_most_of_the_mass_has_no_point():
    assert valence_arousal({"spoon": 0.6, "happiness": 0.4}) is None
    assert valence_arousal({"spoon": 0.4, "happiness": 0.6}) == pytest.approx(CIRCUMPLEX["happiness"])
    assert valence_arousal({}) is None
    assert valence_arousal({"happiness": 0.0}) is None
    with pytest.raises(EmoreasonError):
        valence_arousal({"happiness": math.nan})


@given(st.dictionaries(st.sampled_from(FERPLUS), st.floats(0, 1), min_size=1))
def test_valence_arousal_stays_in_the_square(distribution):
    point = valence_arousal(distribution)
    assert point is None or all(-1 <= value <= 1 for value in point)


def test_the_examples_of_the_page_are_true():
    failed, tried = doctest.testfile(str(LABELS_PAGE), module_relative=False, encoding="utf-8")
    assert tried > 5 and failed == 0


def test_the_page_lists_every_set_and_the_points():
    text = LABELS_PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in LABEL_SETS)
    for name in FERPLUS:
        valence, arousal = CIRCUMPLEX[name]
        assert f"| {name} | {valence:.2f} | {arousal:.2f} |" in text
