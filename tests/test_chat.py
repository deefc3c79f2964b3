"""Conversations: pictures are explained, questions are answered about the face that is meant."""

import pytest
from PIL import Image

from emoreason.analysis import Analysis, FaceAnalysis
from emoreason.chat import (
    IN_VIEW,
    NO_FACE,
    NO_PICTURE,
    AnswerStarted,
    Memory,
    chat,
    converse,
    placed,
    remember,
    reply,
    split_message,
)
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.types import Evidence, Picture
from emoreason.explain.check.answers import check_answer
from emoreason.explain.check.statements import View
from emoreason.explain.explanation import Answer, Piece, consume
from emoreason.explain.sheet import Placed, Sheet
from emoreason.faces.detect import whole_picture


@pytest.fixture(scope="module")
def model(mini_with_words):
    return mini_with_words


@pytest.fixture(scope="module")
def shown(astronaut):
    return {"role": "user", "content": [{"type": "image", "image": str(astronaut)}]}


@pytest.fixture(scope="module")
def first(model, shown):
    return model.chat([shown])


def asked(model, shown, first, *turns):
    messages = [shown, {"role": "assistant", "content": first}]
    for i, text in enumerate(turns):
        messages.append({"role": "assistant" if i % 2 else "user", "content": text})
    return model.chat(messages)


def test_a_picture_is_answered_by_its_checked_explanation(model, shown, first, astronaut):
    explained = model.analyze(astronaut).faces[0].explanation
    assert explained.short == first, "the chat is the measured model"
    assert explained.checks.ok and explained.checks.stated == "happiness"
    assert model.chat([shown]) == first, "the same picture, the same words"
    assert "".join(model.chat([shown], stream=True)) == first


@pytest.mark.parametrize(
    "question",
    ["Why not fear?", "I think she is angry, right?", "What does AU 12 mean?", "How sure are you?", "Is she lying?",
     "What is her name?"],
)  # fmt: skip
def test_questions_are_answered_inside_the_evidence(model, shown, first, astronaut, question):
    answer = asked(model, shown, first, question)
    sheet = Sheet.of(model.analyze(astronaut, explain=False).faces[0].evidence)
    assert answer != first and not check_answer(answer, question, View([Placed(sheet)]))
    assert answer == asked(model, shown, first, question), "the same question, the same words"


def test_the_conversation_that_is_sent_again_is_the_one_that_goes_on(model, shown, first):
    """The API gets all messages every time, the page remembers: both are one model."""
    memory = Memory()
    assert "".join(reply(model, memory, shown)) == first
    remembered = "".join(reply(model, memory, {"role": "user", "content": "Why not fear?"}))
    assert remembered == asked(model, shown, first, "Why not fear?")


def test_history_goes_on(model, shown, first):
    one = asked(model, shown, first, "Why not fear?")
    assert asked(model, shown, first, "Why not fear?", one, "And how sure are you?")


def test_two_faces_are_told_apart(model, astronaut, tmp_path):
    face = Image.open(astronaut)
    pair = Image.new("RGB", (2 * face.width, face.height))
    pair.paste(face, (0, 0))
    pair.paste(face, (face.width, 0))
    pair.save(tmp_path / "pair.png")
    shown = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": str(tmp_path / "pair.png")}}]}
    text = model.chat([shown])
    assert text.startswith("Face 1") and "Face 2" in text
    messages = [shown, {"role": "assistant", "content": text}, {"role": "user", "content": "Compare the two faces."}]
    assert model.chat(messages)


def test_without_a_face_or_a_picture_it_says_so(model):
    empty = {"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (200, 200), "grey")}]}
    assert NO_FACE in model.chat([empty])
    assert model.chat([{"role": "user", "content": "hello"}]) == NO_PICTURE


def test_mistakes_are_told(model, mini, shown):
    with pytest.raises(UsageError, match="last message"):
        model.chat([{"role": "assistant", "content": "x"}])
    with pytest.raises(EmoreasonError, match="text, image and image_url"):
        model.chat([{"role": "user", "content": [{"type": "sound"}]}])
    with pytest.raises(UsageError, match="--explainer"):
        list(chat(mini, [shown]))
    assert split_message({"role": "user", "content": "a"}) == ("a", [])


# ---- which faces, without a language model ---------------------------------------------------------------------------


class Parrot:
    """Answers with the numbers of the faces that a question is about."""

    name, has_words = "parrot", True

    def __init__(self):
        self.questions = []

    def faces(self, picture, detect=True):
        return [whole_picture(picture)] * (picture.image.width // 100)

    def analyze_faces(self, pictures, labels=None):
        return [picture_of(len(faces)) for _, faces in pictures]

    def explain(self, analyses, decide="evidence", style=None):
        yield Piece(0, "It shows happiness.")
        return list(analyses)

    def answer(self, questions, style=None):
        self.questions += questions
        numbers = [questions[0].faces[i].number for i in questions[0].about]
        text = "There is no such face." if questions[0].missing else f"About {numbers}."
        yield Piece(0, text)
        return [Answer(text)]


def picture_of(n: int) -> Analysis:
    """A picture with so many faces."""
    picture = Picture("x", Image.new("RGB", (24, 24)))
    evidence = Evidence({"neutral": 0.6, "fear": 0.4}, "neutral", 0.6, True, {"12": 0.5})
    return Analysis(picture, "m", "r", "p", (FaceAnalysis(whole_picture(picture), evidence),) * n)


def remembered(*faces: int) -> Memory:
    """The memory after a message with pictures that have so many faces."""
    memory = Memory()
    remember(memory, [picture_of(n) for n in faces])
    return memory


@pytest.mark.parametrize(
    ("faces", "places"),
    [
        ((1,), [""]),
        ((2,), ["left", "right"]),
        ((3,), ["left", "middle", "right"]),
        ((4,), ["left", "number 2 from the left", "number 3 from the left", "right"]),
        ((1, 1), ["picture 1", "picture 2"]),
        ((1, 0, 2), ["picture 1", "picture 2, left", "picture 2, right"]),
    ],
)
def test_faces_are_placed_in_their_pictures(faces, places):
    memory = remembered(*faces)
    found = placed(memory, range(len(memory.faces)))
    assert [face.place for face in found] == places
    assert [face.number for face in found] == list(range(1, len(places) + 1))


def test_pictures_are_numbered_through_the_conversation():
    memory = remembered(1)
    remember(memory, [picture_of(0)])
    assert (memory.pictures, memory.focus) == ([1], 0)
    remember(memory, [picture_of(2), picture_of(1)])
    assert (memory.pictures, memory.focus) == ([1, 2, 2, 3], 1)
    copy = memory.copy()
    remember(copy, [picture_of(1)])
    assert len(memory.faces) == len(memory.pictures) == 4 and memory.focus == 1


def test_a_crowd_keeps_its_places_where_only_some_are_in_view():
    memory = remembered(IN_VIEW + 2)
    found = placed(memory, range(2, IN_VIEW + 2))
    assert [face.number for face in found] == list(range(3, IN_VIEW + 3))
    assert found[0].place == "number 3 from the left" and found[-1].place == "right"


def test_the_conversation_stays_with_the_face_that_was_asked_about():
    model, memory = Parrot(), remembered(3)

    def ask(text):
        events = list(converse(model, memory, {"role": "user", "content": text}))
        return next(event.about for event in events if isinstance(event, AnswerStarted))

    assert ask("What does it show?") == (1,)
    assert ask("What about face 2?") == (2,) and memory.focus == 1
    assert ask("How sure are you?") == (2,)
    assert ask("Compare the left and the right one.") == (1, 3) and memory.focus == 1
    assert ask("Do they both smile?") == (1, 3)
    assert [turn.about for turn in memory.turns] == [(0,), (1,), (1,), (0, 2), (0, 2)]
    assert [turn.about for turn in model.questions[-1].history] == [(1,), (1,), (0, 2)]
    assert len(model.questions[-1].crops) == len(model.questions[-1].faces) == 3
    ask("face 9?")
    assert model.questions[-1].missing and memory.focus == 1


def test_every_face_of_a_crowd_can_be_asked_about():
    """The model reads about a few faces at a time; the one that is named is among them."""
    model, memory = Parrot(), remembered(IN_VIEW + 2)
    for number in range(1, IN_VIEW + 3):
        consume(converse(model, memory, {"role": "user", "content": f"What does face {number} show?"}))
        question = model.questions[-1]
        assert not question.missing and len(question.faces) == IN_VIEW
        assert [question.faces[i].number for i in question.about] == [number] and memory.focus == number - 1
    consume(converse(model, memory, {"role": "user", "content": f"face {IN_VIEW + 3}?"}))
    assert model.questions[-1].missing


def test_the_faces_that_were_asked_about_are_known_from_the_messages_alone():
    model = Parrot()
    messages = [{"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (300, 99))}]},
                {"role": "assistant", "content": "Face 1\nA.\n\nFace 2\nB.\n\nFace 3\nC."},
                {"role": "user", "content": "What about face 2?"}, {"role": "assistant", "content": "It is calm."},
                {"role": "user", "content": "How sure are you?"}]  # fmt: skip
    assert "".join(chat(model, messages)) == "About [2]."
    (question,) = model.questions
    assert [(turn.answer, turn.about) for turn in question.history] == [("It is calm.", (1,))]
    assert question.explanation.text == "B."


def test_the_note_on_a_picture_without_a_face_is_no_explanation():
    model = Parrot()
    pictures = [{"type": "image", "image": Image.new("RGB", (side, side))} for side in (99, 100)]
    messages = [{"role": "user", "content": pictures},
                {"role": "assistant", "content": f"{NO_FACE}\n\nIt shows fear."},
                {"role": "user", "content": "Why?"}]  # fmt: skip
    consume(chat(model, messages))
    assert model.questions[0].explanation.text == "It shows fear."
