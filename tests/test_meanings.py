"""The lexicon, and how labels that are no emotion names are answered by what they mean."""

import numpy as np
import pytest

from emoreason.core.errors import UsageError
from emoreason.evidence.meanings import Meaning, label_scores
from emoreason.evidence.zeroshot import check_labels
from emoreason.knowledge.emotions import label_set
from emoreason.knowledge.facs import ACTION_UNITS
from emoreason.knowledge.words import EMOTIONS, find_word, lexicon

STRANGE = ["enojado", "glücklich", "счастливый", "怒り", "😀", "asdfgh", "photosynthesis", "42", "colère", "tax return"]
ENGLISH = ["happyish", "very angry", "slightly worried", "over-excited", "a bit scared"]


def test_the_lexicon_is_large_and_sound():
    words = lexicon()
    assert len(words) >= 1500 and sum(word.held_out for word in words.values()) == 300
    for word in words.values():
        assert sum(word.shares) == pytest.approx(1, abs=0.011), word.name
        assert -1 <= word.valence <= 1 and -1 <= word.arousal <= 1 and set(word.units) <= set(ACTION_UNITS), word.name
        assert word.validated or not word.held_out, word.name
    assert label_set("ferplus8").labels == EMOTIONS
    by_emotion = {e: sum(w.held_out and w.emotion == e for w in words.values()) for e in EMOTIONS}
    assert min(by_emotion.values()) >= 30, by_emotion
    assert not find_word("bored").validated and find_word("Over-the_Moon").emotion == "happiness"
    assert find_word("enojado") is None


def test_strange_words_are_refused_and_english_ones_are_not(mini):
    meanings = mini.reader.meanings
    assert [label for label, found in zip(STRANGE, meanings.of(STRANGE), strict=True) if found] == []
    for label, found in zip(ENGLISH, meanings.of(ENGLISH), strict=True):
        assert found is not None and found.neighbours and sum(found.shares) == pytest.approx(1, abs=1e-6), label


def test_a_laughing_face_is_not_enojado(mini, astronaut):
    face = mini.analyze(astronaut, labels=["enojado", "triste", "feliz"], explain=False).faces[0]
    assert face.status == "abstained" and "enojado" in face.evidence.why and face.probabilities["enojado"] < 0.5
    face = mini.analyze(astronaut, labels=["gleeful", "heartbroken", "livid"], explain=False).faces[0]
    assert face.status == "ok" and face.label == "gleeful" and not face.evidence.calibrated


def test_states_and_neighbours_are_noted(mini, astronaut):
    face = mini.analyze(astronaut, labels=["bored", "engaged", "happyish"], explain=False).faces[0]
    notes = " ".join(face.evidence.notes)
    assert "not validated: no data checks bored, engaged" in notes and "happyish is not in the lexicon" in notes
    assert (
        face.to_dict()["notes"]
        and "not validated" in mini.analyze(astronaut, labels=["bored", "engaged"], explain=False).rows()[0]["notes"]
    )


def test_capitals_do_not_make_a_label_different():
    with pytest.raises(UsageError, match="capitals"):
        check_labels(["Happy", "happy"])


def test_the_emotions_decide_and_units_tell_alike_words_apart():
    def meaning(label, emotion, units, valence, arousal):
        return Meaning(label, np.eye(8)[EMOTIONS.index(emotion)], valence, arousal, frozenset(units), True)

    words = [
        meaning("joyful", "happiness", ["6", "12", "25"], 0.86, 0.6),
        meaning("content", "happiness", ["12"], 0.7, -0.2),
        meaning("livid", "anger", ["4", "7"], -0.7, 0.8),
    ]
    emotions = np.zeros((2, 8))
    emotions[:, EMOTIONS.index("happiness")], emotions[:, EMOTIONS.index("anger")] = 0.9, 0.1
    units = {"6": np.array([0.8, 0.0]), "12": np.array([0.9, 0.3]), "25": np.array([0.9, 0.0]), "4": np.zeros(2)}
    scores = label_scores(words, emotions, units, np.array([[0.8, 0.5], [0.6, 0.0]]))
    assert scores.sum(axis=1) == pytest.approx(1)
    assert scores[0].argmax() == 0 and scores[1].argmax() == 1 and (scores[:, 2] < 0.2).all()
    alone = label_scores([words[0], words[2]], emotions, units, np.array([[0.8, 0.5], [0.6, 0.0]]))
    assert alone[:, 0] == pytest.approx(0.9, abs=0.02)  # nothing to tell apart: the emotions alone
