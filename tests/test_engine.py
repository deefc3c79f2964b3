"""One model for many callers: the same answers as alone, batched where they wait together, stopped when asked."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest

import emoreason
from emoreason.chat import AnswerStarted, Explained, FacesMeasured, Memory, Queued, TextStarted, chat, converse
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.engine import Busy, Engine, Engines, Stopped
from emoreason.explain.check.answers import check_answer
from emoreason.explain.check.statements import View
from emoreason.explain.explanation import Piece, Style, consume
from emoreason.explain.sheet import Placed, Sheet


@pytest.fixture(scope="module")
def model(mini_with_words):
    return mini_with_words


@pytest.fixture
def batches():
    return []


@pytest.fixture
def engine(model, batches):
    made = Engine(lambda: model, "mini", on_batch=lambda *batch: batches.append(batch))
    made.wait_ready(60)
    yield made
    made.close()


def wait_until_idle(engine: Engine) -> None:
    until = time.monotonic() + 20
    while engine.running or engine.waiting:
        assert time.monotonic() < until, "the model still runs"
        time.sleep(0.005)


def test_it_answers_as_the_model_alone(engine, model, astronaut):
    assert engine.caller().analyze(astronaut).to_dict() == model.analyze(astronaut).to_dict()


def test_what_waits_together_goes_together_and_says_the_same(engine, batches, astronaut):
    alone = engine.caller().analyze(astronaut).faces[0].explanation.text
    batches.clear()
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: engine.caller().analyze(astronaut).faces[0].explanation.text, range(8)))
    assert texts == [alone] * 8
    assert sum(rows for kind, rows, _ in batches if kind == "explain") == 8
    assert max(rows for kind, rows, _ in batches if kind == "explain") > 1, batches


def test_different_wishes_do_not_mix(engine, astronaut):
    own = ["bored", "engaged"]

    def ask(labels):
        return engine.caller().analyze(astronaut, labels).faces[0]

    with ThreadPoolExecutor(6) as pool:
        faces = list(pool.map(ask, [None, own] * 3))
    assert [tuple(face.probabilities) == tuple(own) for face in faces] == [False, True] * 3


def first_piece(pieces) -> Piece:
    """The first words, after the news of the queue."""
    return next(piece for piece in pieces if isinstance(piece, Piece))


def test_stopping_stops_the_model_before_it_has_said_anything(engine, astronaut):
    """A text is shown only when it passed its checks; until then nothing comes that could be refused."""
    stop = threading.Event()
    caller = engine.caller(stop)
    seen = caller.analyze(astronaut, explain=False)
    said = []

    def ask():
        with suppress(Stopped):
            said.extend(piece for piece in caller.explain([seen]) if isinstance(piece, Piece))

    thread = threading.Thread(target=ask)
    thread.start()
    while not engine.running and thread.is_alive():
        time.sleep(0.001)
    stop.set()
    thread.join(20)
    wait_until_idle(engine)
    assert not said


def test_who_goes_away_leaves_nothing_running(engine, astronaut):
    caller = engine.caller()
    pieces = caller.explain([caller.analyze(astronaut, explain=False)])
    assert first_piece(pieces).text
    pieces.close()
    wait_until_idle(engine)


def test_one_who_stops_does_not_stop_the_other(engine, astronaut):
    seen = engine.caller().analyze(astronaut, explain=False)
    stop, texts = threading.Event(), []
    first, second = engine.caller(stop).explain([seen]), engine.caller().explain([seen])
    other = threading.Thread(target=lambda: texts.append(consume(second)))
    other.start()
    next(first)
    stop.set()
    first.close()
    other.join(20)
    assert texts[0][0].faces[0].explanation.checks.ok


def test_a_mistake_is_its_own_requests(engine, astronaut):
    """A face that breaks the writer must not take those with it that were waiting beside it."""
    seen = engine.caller().analyze(astronaut, explain=False)
    broken = replace(seen, faces=(replace(seen.faces[0], evidence=None),))

    def ask(analysis):
        try:
            return consume(engine.caller().explain([analysis]))
        except AttributeError:
            return "broken"

    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            told = list(pool.map(ask, [seen, broken, seen, seen]))
        assert [answer == "broken" for answer in told] == [False, True, False, False]
    assert engine.caller().analyze(astronaut).faces[0].explanation


def test_too_many_are_turned_away_and_those_who_wait_are_told(model, astronaut):
    engine = Engine(lambda: model, "mini", together=1, max_waiting=2)
    seen = engine.caller().analyze(astronaut, explain=False)
    stop, told = threading.Event(), []

    def ask(n):
        with suppress(Stopped):
            consume(engine.caller(stop).explain([seen] * n))

    def wait():
        told.extend(event for event in engine.caller().explain([seen]) if isinstance(event, Queued))

    def until(condition):
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, (engine.running, engine.waiting)
            time.sleep(0.005)

    running = [threading.Thread(target=ask, args=(6,)) for _ in range(2)]
    waiting = [threading.Thread(target=wait) for _ in range(2)]
    for thread in running:
        thread.start()
    until(lambda: engine.running == 2)  # both places where texts are written are taken
    for thread in waiting:
        thread.start()
    until(lambda: engine.waiting == 2)
    with pytest.raises(Busy):
        next(engine.caller().explain([seen]))
    time.sleep(0.3)  # those who wait are told after a moment
    stop.set()
    for thread in (*running, *waiting):
        thread.join(60)
    assert told and all(event.ahead < 2 for event in told)
    engine.close()


def test_a_model_that_cannot_be_loaded_says_why(astronaut):
    engine = Engine(lambda: emoreason.load("no/such"), "no/such")
    with pytest.raises(EmoreasonError, match="no/such"):
        engine.caller().analyze(astronaut)
    assert engine.state == "failed" and engine.problem
    engine.close()


def test_closing_finishes_what_was_begun(model, astronaut):
    engine = Engine(lambda: model, "mini")
    seen = engine.caller().analyze(astronaut, explain=False)
    done = []
    thread = threading.Thread(target=lambda: done.append(consume(engine.caller().explain([seen]))))
    thread.start()
    while not engine.running and thread.is_alive():
        time.sleep(0.001)
    assert engine.running
    engine.close()
    thread.join(5)
    assert done[0][0].faces[0].explanation
    with pytest.raises(Busy):
        engine.caller().analyze(astronaut)


def test_only_named_models_are_had(model):
    engines = Engines({"mini": lambda: model})
    assert engines["mini"] is engines["mini"] and engines.default == "mini"
    with pytest.raises(UsageError, match="mini"):
        engines["../../etc"]
    engines.close()


def test_a_conversation_step_by_step(engine, model, astronaut):
    message = {
        "role": "user",
        "content": [{"type": "image", "image": str(astronaut)}, {"type": "text", "text": "Why?"}],
    }
    memory = Memory()
    events = list(converse(engine.caller(), memory, message))
    kinds = [type(event) for event in events if not isinstance(event, str | Queued)]
    assert kinds == [FacesMeasured, TextStarted, Explained, AnswerStarted]
    text = "".join(event for event in events if isinstance(event, str))
    assert text == memory.faces[0].explanation.short + memory.turns[0].answer
    assert chat(engine.caller(), [message]) and "".join(chat(model, [message])).replace("\n\n", "") == text


def test_stopped_in_the_middle_the_face_is_still_known(engine, astronaut):
    memory = Memory()
    content = [{"type": "image", "image": str(astronaut)}]
    for event in (events := converse(engine.caller(), memory, {"role": "user", "content": content})):
        if isinstance(event, TextStarted):
            events.close()
            break
    assert len(memory.faces) == 1 and memory.faces[0].explanation is None
    answer = list(converse(engine.caller(), memory, {"role": "user", "content": "Why not fear?"}))
    said = "".join(event for event in answer if isinstance(event, str))
    view = View([Placed(Sheet.of(memory.faces[0].evidence))])
    assert said == memory.turns[0].answer and not check_answer(said, "Why not fear?", view)


def test_said_again_it_is_said_another_way_and_still_true(model, astronaut):
    texts = {n: model.analyze(astronaut, style=Style(variation=n)).faces[0].explanation for n in range(4)}
    assert len({made.text for made in texts.values()}) > 1
    assert all(made.checks.ok for made in texts.values())


def test_brief_is_shorter_and_still_true(model, astronaut):
    full, brief = (model.analyze(astronaut, style=Style(brief=b)).faces[0].explanation for b in (False, True))
    assert len(brief.mentions) <= len(full.mentions) and brief.checks.ok
    assert len({m.action_unit for m in brief.mentions if m.present}) <= 2


def test_earlier_words_are_known_again(model, astronaut):
    """The second picture's text begins with its number, and is understood all the same."""
    shown = {"role": "user", "content": [{"type": "image", "image": str(astronaut)}]}
    first = model.chat([shown])
    second = model.chat([shown, {"role": "assistant", "content": first}, shown])
    assert second.startswith("Face 2\n")
    memory_of = [shown, {"role": "assistant", "content": first}, shown, {"role": "assistant", "content": second}]
    assert model.chat([*memory_of, {"role": "user", "content": "Compare the two faces."}])


def test_who_comes_at_the_same_moment_is_written_in_one_group(engine, batches, astronaut):
    """Not the first one alone and the others after it: a group costs about the same whatever its size."""
    gate = threading.Barrier(6)

    def ask(_):
        gate.wait()
        return engine.caller().analyze(astronaut)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
    assert len([rows for kind, rows, _ in batches if kind == "explain"]) <= 2, batches


def test_a_folder_does_not_keep_a_chat_waiting(model, astronaut):
    """Two folders are measured and explained without a pause; a chat still gets its words soon, and they get theirs."""
    engine = Engine(lambda: model, "mini")
    seen = engine.caller().analyze(astronaut, explain=False)
    over, stop, folders = threading.Event(), threading.Event(), []

    def folder():
        caller = engine.caller(stop)
        pictures = [(seen.picture, [seen.faces[0].face])] * 16
        with suppress(Stopped):
            while not over.is_set():
                consume(caller.explain(caller.analyze_faces(pictures)))
                folders.append(1)

    threads = [threading.Thread(target=folder) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not engine.running:
        time.sleep(0.01)
    try:
        first_word(engine, astronaut)
        assert not over.is_set()  # it came while the folders went on
        assert len(engine._groups) <= 2 and sum(job.size >= 8 for group in engine._groups for job in group.jobs) <= 1
    finally:
        over.set()
        stop.set()
        for thread in threads:
            thread.join(20)
        engine.close()


def first_word(engine, astronaut) -> None:
    """Wait for the first words about a picture."""
    caller = engine.caller()
    pieces = caller.explain([caller.analyze(astronaut, explain=False)])
    first_piece(pieces)
    pieces.close()


def test_what_counts_batches_may_fail(model, astronaut):
    """Whoever listens to the engine does not end it."""

    def broken(kind, rows, seconds):
        raise OSError("no room for a log line")

    engine = Engine(lambda: model, "mini", on_batch=broken)
    for _ in range(2):
        assert engine.caller().analyze(astronaut).faces[0].explanation
    engine.close()


def test_who_stops_does_not_wait_until_the_model_is_loaded(model, astronaut):
    loads, stop = threading.Event(), threading.Event()

    def slow():
        loads.wait(20)
        return model

    engine = Engine(slow, "mini")
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Stopped):
        engine.caller(stop).analyze(astronaut)
    assert not loads.is_set() and engine.state == "loading"
    loads.set()
    engine.close()
