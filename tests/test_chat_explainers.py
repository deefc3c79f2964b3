"""General chat models as explainers: a real server over loopback, and small random models of transformers."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import chat_models
from chat_server import ChatServer, told
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.explain.backends import chat_prompts as chat_script
from emoreason.explain.backends.chat_explainer import ChatExplainer
from emoreason.explain.backends.chat_sections import loops, one_line, until, without_thoughts
from emoreason.explain.backends.endpoint import Endpoint, read_alternatives
from emoreason.explain.backends.factory import load_explainer
from emoreason.explain.backends.parts import CANDIDATES, RETRY_TEMPERATURE, UNREAD
from emoreason.explain.check.answers import check_answer
from emoreason.explain.explanation import Question, Style, Subject, Turn, consume
from emoreason.explain.sheet import Placed, Sheet
from emoreason.knowledge.emotion_words import leaks
from emoreason.knowledge.facs import PLAIN_NAMES

UNITS = {"1": 0.05, "4": 0.1, "6": 0.7, "12": 0.9, "25": 0.45}
LABELS = {"happiness": 0.8, "neutral": 0.12, "sadness": 0.05, "fear": 0.03}
FACE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8))
SUBJECT = Subject(Sheet(UNITS, LABELS), FACE)
UNREADABLE = Sheet({}, LABELS, abstained=True, why="the face is 12 pixels wide")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in ("EMOREASON_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with ChatServer() as running:
        yield running


def explained(explainer, subjects=(SUBJECT,), decide="evidence"):
    """The pieces of the first face, without the empty ones, and all explanations."""
    pieces, run = [], explainer.explain(list(subjects), decide)
    while True:
        try:
            pieces.append(next(run))
        except StopIteration as done:
            return [piece.text for piece in pieces if piece.row == 0 and piece.text], done.value


def ask(text, explanation=None, history=()):
    return Question(text, [Placed(SUBJECT.sheet)], 0, (0,), [FACE], explanation, history)


def answered(explainer, question):
    [answer] = consume(explainer.answer([question]))
    return answer


# ---- an endpoint -----------------------------------------------------------------------------------------------------


def test_an_endpoint_explains_in_steps(server):
    explainer = load_explainer(f"{server.address}#good")
    pieces, [made] = explained(explainer)
    seen, weighing, reading = (made.sections.observations, made.sections.interpretation, made.sections.conclusion)
    assert pieces == [f"{reading} {seen}", f" {weighing}"] and "".join(pieces) == made.short
    assert made.checks.ok and made.checks.route == "model", made.checks.problems()
    assert made.explainer == f"{server.address}#good"
    assert abs(sum(made.reasoned.probabilities.values()) - 1) < 1e-9
    assert made.reasoned.label == "neutral" and made.agreement is False  # the second label, as the server answers
    assert made.reasoned.probabilities["neutral"] == pytest.approx(0.5 / 0.9, abs=0.01)
    first, second, third, fourth = server.requests
    assert not any(word in text for text in told(first["messages"]) for word in LABELS)
    assert leaks(" ".join(told(first["messages"])), tuple(LABELS)) == []
    assert second["logprobs"] and "happiness, neutral, sadness, fear" in told(second["messages"])[-1]
    assert "happiness 80%, neutral 12%" in told(third["messages"])[-1]
    assert told(fourth["messages"])[-2] == reading and seen in told(fourth["messages"])
    assert all("image" not in str(request["messages"]) for request in server.requests)
    sent = " ".join(name.lower() for request in server.requests for name in request["headers"])
    assert "authorization" not in sent and "openai" not in sent and "stainless-os" not in sent  # nothing of the user


def test_a_text_that_fails_is_written_again_before_a_label_was_shown(server):
    pieces, [made] = explained(load_explainer(f"{server.address}#leaky"))
    assert made.checks.ok and made.checks.route == "retried" and "happy" not in "".join(pieces)
    first, again, verdict, *_ = server.requests
    assert first["temperature"] == 0 and again["temperature"] == RETRY_TEMPERATURE and again["seed"] == 1
    assert not any("happy" in text or "neutral" in text for text in told(again["messages"]))  # no list of findings
    assert "happy" not in " ".join(told(verdict["messages"])) and len(server.requests) == 5


@pytest.mark.parametrize("model", ["stubborn", "looping"])
def test_the_built_in_text_steps_in(server, model):
    pieces, [made] = explained(load_explainer(f"{server.address}#{model}"))
    assert made.checks.ok and made.checks.route == "written" and "happy" not in made.sections.observations
    asked = [request for request in server.requests if "Write what is seen" in told(request["messages"])[-1]]
    assert len(asked) == CANDIDATES and "".join(pieces) == made.short


def test_a_wrong_reading_is_written_again(server):
    _, [made] = explained(load_explainer(f"{server.address}#swapped"))
    assert made.checks.ok and made.checks.route == "retried" and made.checks.stated == "happiness"


def test_thoughts_and_markdown_do_not_reach_the_text(server):
    pieces, [made] = explained(load_explainer(f"{server.address}#thinker"))
    assert made.checks.ok and made.checks.route == "model", made.checks.problems()
    assert "think" not in made.text and "*" not in made.text and made.text.count("\n") == 2
    assert "".join(pieces) == made.short and made.short.startswith("This looks like happiness. The ")


def test_a_server_that_does_not_stream_is_read_whole(server):
    _, [made] = explained(load_explainer(server.address, model="whole"))
    assert made.checks.ok


def test_a_word_is_a_verdict_and_a_vague_answer_is_none(server):
    word = load_explainer(f"{server.address}#word")
    _, [made] = explained(word, decide="reasoned")
    assert made.reasoned.probabilities == {"happiness": 0, "neutral": 1, "sadness": 0, "fear": 0}
    assert made.sheet.label == "neutral" and not made.sheet.calibrated
    _, [both] = explained(word, decide="both")
    assert both.sheet.probabilities == LABELS  # a word has no probabilities to multiply
    assert sum(bool(r.get("logprobs")) for r in server.requests) == 1  # it is not asked again
    _, [made] = explained(load_explainer(f"{server.address}#vague"), decide="reasoned")
    assert made.reasoned is None and made.agreement is None and made.sheet.probabilities == LABELS
    assert made.to_dict()["reasoned"] is None


def test_both_decide_by_their_product(server):
    _, [made] = explained(load_explainer(f"{server.address}#good"), decide="both")
    assert sum(made.sheet.probabilities.values()) == pytest.approx(1)
    assert 0.12 < made.sheet.probabilities["neutral"] < 0.56
    with pytest.raises(UsageError, match="--decide"):
        explained(load_explainer(f"{server.address}#good"), decide="nobody")


def test_a_face_without_a_label_is_described_and_one_without_measurements_is_not(server):
    explainer = load_explainer(f"{server.address}#good")
    _, [unread] = explained(
        explainer, [Subject(Sheet({}, LABELS, abstained=True, why="the face is 12 pixels wide"), FACE)]
    )
    assert server.requests == [] and unread.checks.ok and unread.checks.route == "written"
    assert "12 pixels" in unread.short and UNREAD not in unread.short
    even = {"happiness": 0.45, "neutral": 0.44, "sadness": 0.11}
    _, [open_] = explained(explainer, [Subject(Sheet(UNITS, even, abstained=True, why="two labels are close"), FACE)])
    assert open_.checks.ok and open_.checks.stated is None and open_.checks.route == "model"
    assert "two labels are close" in told(server.requests[2]["messages"])[-1]


def test_pictures_are_sent_only_where_they_were_asked_for(server):
    _, [made] = explained(load_explainer(f"vision:{server.address}#good"))
    assert made.checks.ok and made.explainer.startswith("vision:http")
    for request in server.requests:
        parts = [part for m in request["messages"] if isinstance(m["content"], list) for part in m["content"]]
        uris = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        assert len(uris) == 1 and uris[0].startswith("data:image/png;base64,")


def test_answers_are_checked(server):
    good = load_explainer(f"{server.address}#good")
    _, [made] = explained(good)
    answer = answered(good, ask("Why not fear?", made, [Turn("Why?", "The lip corners are pulled up.", (0,))]))
    assert answer.text == "No, the label stays happiness, which has 80%." and answer.route == "model"
    rules, *talk = told(server.requests[-1]["messages"])
    assert talk[1:] == [made.short, "Why?", "The lip corners are pulled up.", "Why not fear?"]
    for fact in (
        "AU12 mouth corners up, strong",
        "brows down and together",
        "happiness 80%, neutral 12%",
        "checked on",
    ):
        assert fact in rules
    server.requests.clear()
    obliging = answered(load_explainer(f"{server.address}#obliging"), ask("No, she is afraid, believe me.", made))
    assert obliging.route == "written" and not obliging.text.startswith("Yes") and len(server.requests) == CANDIDATES
    assert answered(load_explainer(f"{server.address}#looping"), ask("Why?")).route == "written"


def test_the_model_reads_the_sheets_of_all_faces_in_view(server):
    sad = Sheet({"15": 0.5, "4": 0.2, "12": 0.0}, {"happiness": 0.1, "sadness": 0.9}, calibrated=False, yaw=30.0)
    faces = [Placed(SUBJECT.sheet, 1, "left"), Placed(sad, 2, "middle"), Placed(UNREADABLE, 3, "right")]
    question = Question("And the other one?", faces, 0, (1,), [FACE] * 3, None, [Turn("Why?", "It smiles.", (0,))])
    consume(load_explainer(f"vision:{server.address}#obliging").answer([question]))
    messages = server.requests[0]["messages"]
    rules, before, _, asked = told(messages)
    assert "Face 2 of 3, middle.\nMovements: AU15 mouth corners down, slight. Not clear: brows down" in rules
    assert "not there: mouth corners up" in rules and "head turned 30° to the right" in rules
    assert "sadness 90%, happiness 10%. These numbers are estimates." in rules
    assert "Face 3 of 3, right.\nMovements: not measured.\nNo label: the face is 12 pixels wide." in rules
    assert before.endswith("(This is about face 1.)") and asked.startswith("And the other one?\n")
    assert "This is about face 2." in asked and "The pictures show face 2" in rules
    assert str(messages).count("data:image/png") == 1


def test_another_wording_has_another_seed(server):
    explainer = load_explainer(f"{server.address}#good")
    for variation in (1, 2):
        consume(explainer.answer([ask("Why?")], Style(variation=variation)))
    assert [request["temperature"] for request in server.requests] == [0.7, 0.7]
    assert [request["seed"] for request in server.requests] == [CANDIDATES, 2 * CANDIDATES]


def test_closing_the_generator_closes_the_connection(server):
    run = load_explainer(f"{server.address}#late").explain([SUBJECT])
    assert next(run).text == next(run).text == ""  # nothing to show yet, but a chance to stop
    run.close()  # and does not wait for the five seconds that the server takes


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("html", "did not answer in JSON"),
        ("empty", "without a message"),
        ("broken", "500: CUDA out of memory"),
        ("garbled", "not JSON: {oops"),
        ("failing", "worker died"),
        ("cut", "broke off"),
        ("mute", "sent nothing for 0.5 seconds"),
        ("late", "sent nothing for 0.5 seconds"),
        ("gpt-9", "has no model 'gpt-9'; it has good, leaky"),
    ],
)
def test_a_server_that_fails_is_explained(server, model, message):
    chat = Endpoint(server.address, model, timeout=0.5)
    with pytest.raises(EmoreasonError, match=re.escape(message)):
        explained(ChatExplainer(chat, model))


def test_a_busy_server_is_waited_for_and_a_picky_one_obeyed(server):
    _, [made] = explained(load_explainer(f"{server.address}#busy"))
    assert made.checks.ok and server.busy == 0
    _, [made] = explained(load_explainer(f"{server.address}#picky"))
    assert made.checks.ok
    assert "max_completion_tokens" in server.requests[-1] and "temperature" not in server.requests[-1]


def test_keys_and_addresses(monkeypatch, server):
    with ChatServer(("only",), key="secret") as locked:
        with pytest.raises(EmoreasonError, match="requires an API key .401.*EMOREASON_API_KEY"):
            explained(load_explainer(locked.address))  # one model: it need not be named
        monkeypatch.setenv("EMOREASON_API_KEY", "wrong")
        with pytest.raises(EmoreasonError, match="refused"):
            explained(load_explainer(locked.address))
        monkeypatch.setenv("EMOREASON_API_KEY", "secret")
        assert explained(load_explainer(locked.address))[1][0].explainer.endswith("#only")
    monkeypatch.delenv("EMOREASON_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "for OpenAI only")
    assert Endpoint("https://llm.example/v1", "m").key is None
    assert Endpoint("https://api.openai.com/v1", "m").key == "for OpenAI only"
    assert Endpoint("http://localhost:11434", "m").address == "http://localhost:11434/v1"
    assert Endpoint("http://localhost:11434", "m").local and not Endpoint("http://10.0.0.1/v1", "m").local
    with pytest.raises(UsageError, match="which model"):
        Endpoint(server.address)
    with pytest.raises(EmoreasonError, match=r"cannot be reached.*running"):
        explained(load_explainer("http://127.0.0.1:9/v1#m"))
    with pytest.raises(EmoreasonError, match="points to http://elsewhere.example"):
        explained(load_explainer(server.address.replace("/v1", "/moved") + "#good"))
    with pytest.raises(UsageError, match="EMOREASON_API_KEY"):
        load_explainer("http://me:key@127.0.0.1/v1#m")


def test_a_proxy_does_not_get_what_stays_on_this_machine(monkeypatch, server):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert explained(load_explainer(f"{server.address}#good"))[1][0].checks.ok


@pytest.mark.parametrize("name", ["nonsense", "./nowhere", "text:", "vision:", "http:///v1#m"])
def test_an_unknown_explainer_is_told_the_forms(name):
    with pytest.raises(UsageError, match=r"vision:MODEL|http://HOST"):
        load_explainer(name)


def test_no_explainer_and_a_missing_model():
    assert load_explainer("none") is None
    with pytest.raises(EmoreasonError, match="could not be loaded"):
        load_explainer("text:/nowhere/at/all")
    with pytest.raises(UsageError, match="server's business"):
        load_explainer("http://127.0.0.1:9/v1#m", quantize="int8")


def test_a_picture_is_explained_from_end_to_end(server, astronaut):
    import emoreason

    model = emoreason.load("mini", device_name="cpu", explainer=f"{server.address}#good")
    face = model.analyze(astronaut).to_dict()["faces"][0]
    assert face["explanation"]["explainer"] == f"{server.address}#good"
    assert face["explanation"]["checks"]["ok"], face["explanation"]["checks"]["problems"]
    assert face["explanation"]["agreement"] is (face["explanation"]["reasoned"]["label"] == face["label"])


# ---- the text while it arrives ---------------------------------------------------------------------------------------

WRITTEN = ("The brows", " are", " lowered.", "x", "Conclusion", "Key ", "observations", "**Reading:**", "# So")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from((*WRITTEN, "\n", "\n\n", " ", ":", "- ", "**", "1. ", '"')), max_size=25))
def test_a_cleaned_text_is_one_plain_line(pieces):
    text = one_line("".join(pieces))
    assert not re.search(r"[*#\n]|  ", text) and text == text.strip()


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("**Key Observations**\n- The brows are lowered\n- The jaw drops.\n\n## Conclusion:\nIt is fear.",
         "The brows are lowered. The jaw drops."),
        ("Sure! Here is the text:\n\nThe brows are *up*.", "The brows are up."),
        ("1. The jaw drops.\n2. The brows are up.", "The jaw drops. The brows are up."),
        ("Reading: It looks sad.\nWeighing: The chin fits.", "It looks sad."),
        ('"A close-up of a face."', "A close-up of a face."),
        ('It is "neutral".', 'It is "neutral".'),
        ("8. The jaw is far down.", "8. The jaw is far down."),
    ],
)  # fmt: skip
def test_markdown_headings_and_lists_go(raw, clean):
    assert one_line(raw) == clean


def test_thoughts_stop_strings_and_loops():
    assert "".join(without_thoughts(["<th", "ink>hm</thi", "nk>\n\nHello", " there"])) == "\n\nHello there"
    assert "".join(without_thoughts(["<b>", "x"])) == "<b>x"
    assert "".join(until(["It is so.\nUs", "er: next"], ("\nUser:",))) == "It is so."
    assert "".join(until(["It is so.\nUs", "ual"], ("\nUser:",))) == "It is so.\nUsual"
    twice = "The inner corners of the brows are slightly raised, the outer corners of the brows are slightly raised"
    assert not loops(twice) and loops(f"{twice}, the outer corners of the brows are slightly raised")
    assert loops("no no no no no no no no") and loops("?!" * 12) and not loops("")


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(list(PLAIN_NAMES)), st.floats(0, 1), min_size=1))
def test_no_sheet_gives_a_first_prompt_with_an_emotion_word(units):
    assert leaks(chat_script.seen(Sheet(units, LABELS), picture=True), tuple(LABELS)) == []


def test_alternatives_of_tokens_are_read_along_the_answer():
    def token(text, p, **others):
        told = [{"token": t, "logprob": float(np.log(q))} for t, q in {text: p, **others}.items()]
        return {"token": text, "logprob": float(np.log(p)), "top_logprobs": told}

    labels = ("fear", "fearful surprise", "disgust", "anger")
    content = [token(" Fear", 0.6, dis=0.2, ang=0.1, The=0.1), token("ful", 0.75, **{".": 0.25})]
    read = np.exp(read_alternatives(content, labels))
    assert read == pytest.approx([0.15, 0.45, 0.2, 0.1])
    assert read_alternatives([token("I", 0.9, fear=0.1), token(" think", 0.9)], labels) is None
    assert read_alternatives([token("fear", 0.9)], labels) == pytest.approx(np.log([0.9, 1e-6, 1e-6, 1e-6]))


# ---- transformers ----------------------------------------------------------------------------------------------------


def test_the_texts_of_a_text_model_are_checked(tmp_path):
    explainer = load_explainer(chat_models.text_model(tmp_path), device="cpu")
    explainer.chat.most_tokens = 24
    pieces, [made] = explained(explainer)
    assert made.checks.ok and made.checks.route == "written"  # random weights write no sentence
    assert "".join(pieces) == made.short
    assert sum(made.reasoned.probabilities.values()) == pytest.approx(1)
    assert len(set(made.reasoned.probabilities.values())) == len(LABELS)
    assert explained(explainer)[1][0].text == made.text
    question = ask("Why not fear?", made)
    assert check_answer(answered(explainer, question).text, question.text, question.view) == []


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3", "Gemma3Text"])
def test_scores_equal_a_pass_over_each_whole_text(tmp_path, kind):
    chat = load_explainer(chat_models.text_model(tmp_path, kind), device="cpu").chat
    chat.model.double()
    talk = [chat_script.system(), chat_script.user("Which?")]
    labels = ["fear", "fearful surprise", "sadness", "happiness", "neutral"]
    rows = chat.tokenizer(labels)["input_ids"]
    assert rows[1][: len(rows[0])] == rows[0]
    expected = [whole_text(chat, chat.prepare(talk, ()), label) for label in labels]
    expected[0] = np.log(np.exp(expected[0]) - np.exp(expected[1]))  # "fear" that goes on is not "fear"
    assert chat.score(talk, (), labels) == pytest.approx(expected, abs=1e-4)


def whole_text(chat, inputs, label):
    """Log-probability of the label without any cache."""
    row = chat.tokenizer(label, add_special_tokens=False, return_tensors="pt")["input_ids"]
    longer = {name: torch.nn.functional.pad(value, (0, row.shape[1]), value=int(name == "attention_mask"))
              if name in ("attention_mask", "token_type_ids", "mm_token_type_ids") else value
              for name, value in inputs.items()}  # fmt: skip
    with torch.no_grad():
        logits = chat.model(**{**longer, "input_ids": torch.cat([inputs["input_ids"], row], dim=1)}).logits[0]
    return logits[inputs["input_ids"].shape[1] - 1 : -1].float().log_softmax(-1).gather(1, row.T).sum().item()


def test_templates_without_a_system_role_and_no_template_at_all(tmp_path):
    talk = [chat_script.system(), chat_script.user("Say it.")]
    strict = load_explainer(chat_models.text_model(tmp_path / "a", template=chat_models.NO_SYSTEM), device="cpu").chat
    read = strict.tokenizer.decode(strict.prepare(talk, ())["input_ids"][0])
    assert read.count("<|im_start|>") == 2 and "trained eye" in read and "Say it." in read
    bare = load_explainer(chat_models.text_model(tmp_path / "b", "Llama", template=None), device="cpu").chat
    assert bare.tokenizer.decode(bare.prepare(talk, ())["input_ids"][0]).endswith("User: Say it.\n\nAssistant:")
    bare.most_tokens = 8
    assert isinstance("".join(bare.complete(talk)), str)
    assert len(bare.score(talk, (), ["fear", "joy"])) == 2


def test_a_model_that_is_stopped_stops(tmp_path):
    chat = load_explainer(chat_models.text_model(tmp_path), device="cpu").chat
    chat.most_tokens = 4000
    chat.model.generation_config.eos_token_id = None
    words = chat.complete([chat_script.system(), chat_script.user("Go on.")])
    next(words)
    words.close()  # joins its thread: this would take minutes


@pytest.mark.parametrize("kind", ["qwen2_vl", "gemma3", "idefics3"])
def test_an_image_text_model_sees_the_face(tmp_path, kind):
    explainer = load_explainer(getattr(chat_models, kind)(tmp_path), device="cpu")
    chat = explainer.chat
    chat.most_tokens = 16
    _, [made] = explained(explainer)
    assert made.checks.ok and made.checks.route == "written"
    assert sum(made.reasoned.probabilities.values()) == pytest.approx(1)
    chat.model.double()
    talk = [chat_script.system(), chat_script.user(chat_script.seen(SUBJECT.sheet, True))]
    seen, same, blank = (chat.score(talk, [face], list(LABELS)) for face in (FACE, FACE, Image.new("L", (48, 48), 255)))
    assert seen == same and seen != blank
    assert seen == pytest.approx([whole_text(chat, chat.prepare(talk, [FACE]), label) for label in LABELS], abs=1e-4)
    faces = [Placed(SUBJECT.sheet, 1, "left"), Placed(SUBJECT.sheet, 2, "right")]
    assert answered(explainer, Question("Compare the two.", faces, 0, (0, 1), [FACE, FACE], made)).text
