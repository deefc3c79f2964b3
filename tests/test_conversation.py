"""The server's side of a browser tab, without a browser: what is asked becomes messages, places and evidence."""

import logging
import re
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from emoreason.apps.ui.answer import answer
from emoreason.apps.ui.conversation import STORED_SIDE, PageConversation, Settings
from emoreason.apps.ui.messages import message_refs, messages
from emoreason.core.types import Picture
from emoreason.engine import Engine
from emoreason.explain.explanation import Style
from emoreason.knowledge.emotions import label_set

SETTINGS = Settings("mini")


@pytest.fixture(scope="module")
def model(mini_with_words):
    return mini_with_words


@pytest.fixture(scope="module")
def engine(model):
    made = Engine(lambda: model, "mini")
    made.wait_ready(60)
    yield made
    made.close()


@pytest.fixture
def two(astronaut) -> Path:
    return astronaut.with_name("two.jpg")


def unwrapped(markdown: str) -> str:
    return unescape(re.sub(r"</?span[^>]*>", "", markdown))


def ask(conversation: PageConversation, engine: Engine, text: str = "", *pictures: Path, settings: Settings = SETTINGS):
    exchange = conversation.begin(text, pictures, tuple(path.name for path in pictures), settings)
    for _ in answer(conversation, engine, exchange):
        pass
    return exchange


def test_the_page_is_the_measured_model(engine, model, astronaut):
    conversation = PageConversation()
    exchange = ask(conversation, engine, "", astronaut)
    face, same = exchange.analyses[0].faces[0], model.analyze(astronaut).faces[0]
    assert face.to_dict() == same.to_dict()
    assert [place.kind for place in message_refs(conversation)] == ["pictures", "text", "details"]
    _, text, details = (unwrapped(message["content"]) for message in messages(conversation))
    assert text == same.explanation.short
    sections = same.explanation.sections
    assert details.split("\n\n")[1::2] == [sections.observations, sections.interpretation, sections.conclusion]


def test_messages_and_places_go_together(engine, astronaut, two):
    conversation = PageConversation()
    ask(conversation, engine, "", astronaut)
    ask(conversation, engine, "Why not fear?")
    ask(conversation, engine, "And these?", two)
    shown, where = messages(conversation), message_refs(conversation)
    assert len(shown) == len(where)
    assert [place.exchange for place in where] == sorted(place.exchange for place in where)
    assert [place.face for place in where if place.kind == "text"] == [1, 2, 3]
    assert [m["role"] for m, p in zip(shown, where, strict=True) if p.kind in ("pictures", "question")] == ["user"] * 4
    assert all(m["metadata"]["status"] == "done" for m in shown if "metadata" in m)
    assert [place.face for place in where if place.kind == "details"] == [1, 2, 3]
    details = next(m for m, place in zip(shown, where, strict=True) if place.kind == "details" and place.face == 3)
    assert "3" in details["metadata"]["title"]
    assert conversation.exchanges[1].about == (1,)


def test_what_is_written_grows_and_is_then_kept(engine, astronaut):
    conversation = PageConversation()
    exchange = conversation.begin("", (astronaut,), ("a.jpg",), SETTINGS)
    grown, before = [], []
    for _ in answer(conversation, engine, exchange):
        shown = [m["content"] for m, place in zip(messages(conversation), message_refs(conversation), strict=True)
                 if place.kind == "text"]  # fmt: skip
        grown += [unwrapped(text) for text in shown]
        before.append(bool(exchange.writing) and any("metadata" in message for message in messages(conversation)))
    final = grown[-1]
    assert len(set(grown)) > 1 and all(final.startswith(text) for text in grown)
    assert not any(before), "the steps are folded below a text that is whole"
    assert not exchange.writing and not exchange.running


def test_going_back_forgets_what_came_after(engine, astronaut, two):
    conversation = PageConversation()
    ask(conversation, engine, "", astronaut)
    ask(conversation, engine, "", two)
    assert len(conversation.faces()) == 3
    taken = conversation.rewind(1)
    assert taken.names == ("two.jpg",) and len(conversation.faces()) == 1 and len(conversation.memory.faces) == 1
    again = ask(conversation, engine, taken.text, *taken.uploads)
    assert again.first == 2, "numbers go on where they were"


def test_another_manner_says_it_another_way(engine, astronaut):
    texts = set()
    for variation in range(3):
        exchange = ask(
            PageConversation(), engine, "", astronaut, settings=Settings("mini", style=Style(None, variation))
        )
        texts.add(exchange.analyses[0].faces[0].explanation.text)
    assert len(texts) > 1


def test_labels_of_ones_own(engine, astronaut):
    own = ("bored", "engaged", "confused")
    exchange = ask(PageConversation(), engine, "", astronaut, settings=Settings("mini", own))
    assert tuple(exchange.analyses[0].faces[0].probabilities) == own
    known = ask(PageConversation(), engine, "", astronaut, settings=Settings("mini", label_set("ekman6").labels))
    assert "happiness" in known.analyses[0].faces[0].probabilities


def test_stopped_it_says_so_and_the_face_stays(engine, two):
    conversation = PageConversation()
    exchange = conversation.begin("", (two,), ("two.jpg",), SETTINGS)
    for _ in answer(conversation, engine, exchange):
        if exchange.writing:
            conversation.stop.set()
    assert exchange.stopped and not exchange.running and len(conversation.faces()) == 2
    assert "Stopped" in messages(conversation)[-1]["content"]
    assert ask(conversation, engine, "Why not fear?").answer


def test_a_new_message_stops_the_old_one(engine, two, astronaut):
    conversation = PageConversation()
    first = conversation.begin("", (two,), ("two.jpg",), SETTINGS)
    steps = answer(conversation, engine, first)
    while not first.writing:
        next(steps)
    second = ask(conversation, engine, "", astronaut)
    for _ in steps:
        pass
    assert first.stopped and not second.stopped and second.analyses


@pytest.mark.parametrize("content", [b"no picture at all", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_bad_file_is_a_sentence_with_its_own_name(engine, tmp_path, content):
    bad = tmp_path / "7f3a" / "bad.png"
    bad.parent.mkdir()
    bad.write_bytes(content)
    exchange = ask(PageConversation(), engine, "", bad)
    assert exchange.error.startswith("bad.png") or "bad.png" in exchange.error
    assert "7f3a" not in exchange.error, "where it lies is nobody's business"


def test_no_face_and_no_picture_are_told(engine, tmp_path):
    blank = tmp_path / "blank.png"
    Image.new("RGB", (300, 300), "grey").save(blank)
    conversation = PageConversation()
    assert "No face" in ask(conversation, engine, "", blank).answer
    assert "picture" in ask(PageConversation(), engine, "Why?").answer


def test_what_nobody_expected_is_a_sentence_and_a_line_in_the_log(engine, model, astronaut, caplog):
    conversation = PageConversation()
    exchange = conversation.begin("Why?", (), (), SETTINGS)
    conversation.memory.faces = 5  # type: ignore[assignment]
    with caplog.at_level(logging.ERROR):
        list(answer(conversation, engine, exchange))
    assert "went wrong" in exchange.error and "Traceback" not in exchange.error and not exchange.running
    assert any(record.exc_info for record in caplog.records)
    assert ask(PageConversation(), engine, "", astronaut).analyses, "the page goes on"


def test_a_large_picture_is_read_whole_and_kept_small(engine, model, astronaut, tmp_path):
    large = tmp_path / "large.jpg"
    Image.open(astronaut).resize((2600, 2600)).save(large)
    conversation = PageConversation()
    [kept] = ask(conversation, engine, "", large).analyses
    same = model.analyze(large, explain=False)
    assert kept.faces[0].face.box == same.faces[0].face.box and kept.to_dict()["width"] == 2600
    assert max(kept.picture.image.size) == STORED_SIDE and kept.picture.size == (2600, 2600)
    assert conversation.bytes < 20e6


def test_a_small_picture_is_kept_as_it_is():
    picture = Picture("a", Image.new("RGB", (30, 20)))
    assert picture.smaller(100) is picture
    assert picture.smaller(15).size == (30, 20) and picture.smaller(15).image.size == (15, 10)
