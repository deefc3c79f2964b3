"""Which faces a question or a sentence names."""

import pytest

from emoreason.explain.read.faces import asked_faces, named_faces
from emoreason.explain.sheet import Placed, Sheet

PLACES = {
    "one": [""],
    "two": ["left", "right"],
    "three": ["left", "middle", "right"],
    "two pictures": ["picture 1", "picture 2"],
    "three pictures": ["picture 1", "picture 2", "picture 3"],
}


def placed(scene: str) -> list[Placed]:
    sheet = Sheet({}, {"anger": 0.5, "fear": 0.3, "neutral": 0.2})
    return [Placed(sheet, i, place) for i, place in enumerate(PLACES[scene], 1)]


# Scene, index of the face in focus, question, indices of the faces that it is about.
ASKED = [
    # places
    ("two", 0, "waht does teh rihgt one show", [1]),
    ("two", 1, "and the oen on the lfet?", [0]),
    ("three", 0, "the prson in the midlde pls", [1]),
    ("three", 0, "The right-hand individual, please.", [2]),
    ("two", 1, "hey lefty, why so glum", [0]),
    ("three", 2, "How is the man in the center?", [1]),
    ("three", 0, "the woman standing between the two men", [1]),
    ("two", 1, "Is the left mouth open?", [0]),
    ("two", 0, "what is on the face at the bottom?", [0]),
    # numbers
    ("two", 1, "fcae 1", [0]),
    ("three", 0, "nubmer 2 tho", [1]),
    ("three", 0, "2?", [1]),
    ("three", 0, "no. 3, please", [2]),
    ("three", 2, "difference between 1 and 2", [0, 1]),
    ("three", 0, "Compare faces 2 and 3.", [1, 2]),
    ("two pictures", 0, "what is shown in the second photograph", [1]),
    ("three pictures", 1, "the last picture", [2]),
    ("three pictures", 2, "the first two pictures", [0, 1]),
    # the others
    ("two", 0, "adn the ohter one", [1]),
    ("three", 0, "the two others", [1, 2]),
    ("three", 1, "and the rest?", [0, 2]),
    ("two", 1, "Describe the remaining face.", [0]),
    ("two", 0, "who is the kid behind her, what does he show", [1]),
    ("two", 0, "what about the person next to the left one", [1]),
    ("two pictures", 0, "and the other pic?", [1]),
    # all
    ("three", 1, "wich one is angriest", [0, 1, 2]),
    ("two", 1, "evrybody angry?", [0, 1]),
    ("three", 1, "go face by face", [0, 1, 2]),
    ("three", 1, "Take them one by one, starting with the right one", [0, 1, 2]),
    ("two", 0, "mood?", [0, 1]),
    ("two", 0, "all happy?", [0, 1]),
    ("two", 0, "saddest?", [0, 1]),
    ("two", 0, "Gloomier?", [0, 1]),
    ("three", 0, "most cheerful?", [0, 1, 2]),
    ("two", 1, "least sure about?", [0, 1]),
    ("two", 1, "differences?", [0, 1]),
    ("two", 0, "How does the right one differ?", [0, 1]),
    ("three", 0, "all 3 vs each other", [0, 1, 2]),
    # the face in focus
    ("two", 1, "right, and how sure are you?", [1]),
    ("two", 1, "the brows are up, right?", [1]),
    ("two", 1, "Any other emotion?", [1]),
    ("two", 1, "what is the difference between fear and anger?", [1]),
    ("two", 0, "which one thing decided it", [0]),
    ("two", 0, "Could it be both?", [0]),
    ("two", 0, "rate the anger from 1 to 10", [0]),
    ("two", 0, "is the left corner higher", [0]),
    ("two", 0, "longer?", [0]),
]


@pytest.mark.parametrize("scene, focus, question, about", ASKED, ids=[case[2] for case in ASKED])
def test_asked(scene, focus, question, about):
    assert asked_faces(question, placed(scene), focus) == (tuple(about), False)


MISSING = [
    ("one", "and the guy behind her?"),
    ("one", "and his wife?"),
    ("one", "the kid in the back"),
    ("one", "face 3?"),
    ("one", "what about the person on the right"),
    ("one", "And the other man?"),
    ("one", "does the second person smile?"),
    ("one", "the lady on the far left, what does she show"),
    ("two", "the middle one"),
    ("two", "what does face 3 show"),
    ("two pictures", "and the third picture"),
]


@pytest.mark.parametrize("scene, question", MISSING)
def test_a_face_that_is_not_there(scene, question):
    assert asked_faces(question, placed(scene), 0) == ((0,), True)


NOT_MISSING = [
    "which side is stronger", "left brow", "is one half doing more than the other", "the left corner",
    "more on the left?", "am I right", "is there anything left to say", "another emotion?", "second most likely",
    "moving on to another image", "what takes second place", "how would others see this face", "left or right stronger",
    "one brow is lower than the other", "which face is at rest", "the rest of the face", "who are you", "face 1?",
    "say it in other words", "is the head turned to the right",
]  # fmt: skip


@pytest.mark.parametrize("question", NOT_MISSING)
def test_one_face_and_no_other_is_meant(question):
    assert asked_faces(question, placed("one"), 0) == ((0,), False)


SENTENCES = [
    ("two", "The left face looks angry (93 %).", [0]),
    ("two", "Left: neutral. Right: sad.", [0, 1]),
    ("three", "Left, neutral, 80 %. Middle, sad, 70 %. Right, anger, 60 %.", [0, 1, 2]),
    ("two pictures", "Picture 1 reads as fear, picture 2 as anger.", [0, 1]),
    ("two", "Face 2, on the right, has the lips apart, more on the left.", [1]),
    ("three", "The left one smiles, the other two do not.", [0, 1, 2]),
    ("three", "Left and middle are calm, fear only on the right.", [0, 1, 2]),
    ("two pictures", "The first is surprised, the second is calm.", [0, 1]),
    ("two", "The other face, left, is calm.", [0]),
    ("two", "One corner is tucked in, more so on the person's right.", []),
    ("two", "The left mouth corner is up.", []),
    ("two", "The head is turned 23° to the right.", []),
    ("two", "Her left lid is tighter.", []),
    ("two", "No. Two movements are clear, and the rest is at rest.", []),
    ("two", "Surprise is second with 2 %.", []),
]


@pytest.mark.parametrize("scene, sentence, names", SENTENCES, ids=[case[1] for case in SENTENCES])
def test_named(scene, sentence, names):
    assert sorted(named_faces(sentence, placed(scene), -1)) == names


def test_they_are_the_faces_of_the_question_before():
    assert asked_faces("and do they smile?", placed("three"), 0, before=(0, 2)) == ((0, 2), False)
