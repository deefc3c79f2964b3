"""Conversations: pictures are explained, questions are answered about the face that is meant."""

import pytest
from PIL import Image

from emoreason.chat import NO_FACE, NO_PICTURE, Memory, chat, faces_asked_about, split_message
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.explain.check.explanations import check
from emoreason.explain.read.sections import parse
from emoreason.explain.sheet import Sheet


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
    face = model.analyze(astronaut, explain=False).faces[0]
    assert check(first, Sheet.of(face.evidence)).ok
    assert "happiness" in parse(first).conclusion
    assert model.chat([shown]) == first, "the same picture, the same words"
    assert "".join(model.chat([shown], stream=True)) == first
    explained = model.analyze(astronaut).faces[0].explanation
    assert explained.text == first, "the chat is the measured model"


@pytest.mark.parametrize(
    ("question", "holds", "never"),
    [
        ("Why not fear?", "fear", None),
        ("I think she is angry, right?", "happiness", None),
        ("What does AU 12 mean?", "lip corner", None),
        ("How sure are you?", "99%", None),
        ("Is she lying?", None, "99%"),
        ("What is her name?", None, "happiness"),
    ],
)
def test_questions_are_answered_inside_the_evidence(model, shown, first, question, holds, never):
    answer = asked(model, shown, first, question)
    assert holds is None or holds.lower() in answer.lower()
    assert never is None or never not in answer


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("why not fear?", (2, None)),
        ("what about face 1", (0, None)),
        ("the left one", (0, None)),
        ("and the last face?", (3, None)),
        ("compare face 1 and face 3", (0, 2)),
        ("what is the difference between the two", (2, 3)),
        ("face 9", (2, None)),
    ],
)
def test_which_face_is_meant(text, expected):
    assert faces_asked_about(text, Memory(faces=[None] * 4, latest=2)) == expected
