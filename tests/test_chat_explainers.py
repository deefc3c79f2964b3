"""General chat models as explainers: a real server over loopback, and small random models of transformers."""

import random
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
from emoreason.core.messages import IMAGE, Conversation, Message
from emoreason.explain.backends import chat_prompts as chat_script
from emoreason.explain.backends.chat_explainer import ChatExplainer, observation_problems
from emoreason.explain.backends.chat_sections import SectionStream, until, without_thoughts
from emoreason.explain.backends.endpoint import Endpoint, read_alternatives
from emoreason.explain.backends.factory import load_explainer
from emoreason.explain.check.explanations import check
from emoreason.explain.explanation import Question, Subject, Turn, consume
from emoreason.explain.prompts import load_prompts
from emoreason.explain.read.sections import HEADINGS
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.explain.write import writer
from emoreason.explain.write.grammar import sample
from emoreason.knowledge.emotion_words import leaks
from emoreason.knowledge.facs import ACTION_UNITS
from emoreason.train.text.teacher import load_teacher

UNITS = {"1": 0.05, "4": 0.1, "6": 0.7, "12": 0.9, "25": 0.45}
LABELS = {"happiness": 0.8, "neutral": 0.12, "sadness": 0.05, "fear": 0.03}
FACE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8))
SUBJECT = Subject(Sheet(UNITS, LABELS), FACE)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in ("EMOREASON_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with ChatServer() as running:
        yield running


def explained(explainer, subjects=(SUBJECT,), decide="evidence"):
    """The pieces of the first face as one text, and all explanations."""
    pieces, run = [], explainer.explain(list(subjects), decide)
    while True:
        try:
            pieces.append(next(run))
        except StopIteration as done:
            return [piece.text for piece in pieces if piece.row == 0], done.value


# ---- an endpoint -----------------------------------------------------------------------------------------------------


def test_an_endpoint_explains_in_three_steps_and_streams(server):
    explainer = load_explainer(f"{server.address}#good")
    pieces, [made] = explained(explainer)
    assert len(pieces) > 20 and "".join(pieces) == made.text
    assert made.checks.ok and not made.repaired, made.checks.problems()
    assert made.explainer == f"{server.address}#good"
    assert abs(sum(made.reasoned.probabilities.values()) - 1) < 1e-9
    assert (
        made.reasoned.label == "neutral" and made.agreement is False
    )  # the second of the labels, as the server answers
    assert made.reasoned.probabilities["neutral"] == pytest.approx(0.5 / 0.9, abs=0.01)
    first, second, third = server.requests
    assert not any(word in text for text in told(first["messages"]) for word in LABELS)
    assert leaks(" ".join(told(first["messages"])), tuple(LABELS)) == []
    assert second["logprobs"] and "happiness, neutral, sadness, fear" in told(second["messages"])[-1]
    assert "80%" in told(third["messages"])[-1] and 'was "neutral"' in told(third["messages"])[-1]
    assert all("image" not in str(request["messages"]) for request in server.requests)
    sent = " ".join(name.lower() for request in server.requests for name in request["headers"])
    assert "authorization" not in sent and "openai" not in sent and "stainless-os" not in sent  # nothing of the user


def test_a_leak_is_repaired_before_a_label_was_shown(server):
    explainer = load_explainer(f"{server.address}#leaky")
    pieces, [made] = explained(explainer)
    assert made.checks.ok and made.repaired and explainer.counts["repair asked"] == 1
    assert "happy" in "".join(pieces) and "happy" not in made.text
    asked = told(server.requests[1]["messages"])
    assert '"happy"' in asked[-1] and "neutral" not in " ".join(asked)
    assert len(server.requests) == 4


def test_a_text_that_stays_wrong_is_flagged_after_one_repair(server):
    explainer = load_explainer(f"{server.address}#stubborn")
    _, [made] = explained(explainer)
    assert made.repaired and not made.checks.ok and made.checks.leaks == ("happy",)
    assert explainer.counts["flagged"] == 1
    assert sum("does not pass the check" in told(r["messages"])[-1] for r in server.requests) == 1


def test_a_wrong_conclusion_is_repaired(server):
    _, [made] = explained(load_explainer(f"{server.address}#swapped"))
    assert made.repaired and made.checks.ok and made.checks.stated == "happiness"


def test_thoughts_and_markdown_do_not_reach_the_text(server):
    pieces, [made] = explained(load_explainer(f"{server.address}#thinker"))
    assert made.checks.ok and not made.repaired, made.checks.problems()
    assert "think" not in made.text and "*" not in made.text and made.text.count("\n") == 2
    assert "".join(pieces) == made.text


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
    assert word.counts["verdict without probabilities"] == 2
    assert sum(bool(r.get("logprobs")) for r in server.requests) == 1  # it is not asked again
    vague = load_explainer(f"{server.address}#vague")
    _, [made] = explained(vague, decide="reasoned")
    assert made.reasoned is None and made.agreement is None and made.sheet.probabilities == LABELS
    assert vague.counts["verdict not readable"] == 1 and made.to_dict()["reasoned"] is None


def test_both_decide_by_their_product(server):
    _, [made] = explained(load_explainer(f"{server.address}#good"), decide="both")
    assert sum(made.sheet.probabilities.values()) == pytest.approx(1)
    assert 0.12 < made.sheet.probabilities["neutral"] < 0.56
    with pytest.raises(UsageError, match="--decide"):
        explained(load_explainer(f"{server.address}#good"), decide="nobody")


def test_nothing_is_asked_about_a_face_that_was_not_read(server):
    explainer = load_explainer(f"{server.address}#good")
    quiet = Subject(Sheet(UNITS, LABELS, abstained=True, why="the face is 12 pixels wide"), FACE)
    unread = Subject(Sheet({}, LABELS, abstained=True, why="the picture is almost even"), FACE)
    _, made = explained(explainer, [quiet, unread])
    assert server.requests == [] and all(one.checks.ok for one in made)
    assert "12 pixels" in made[0].text


def test_pictures_are_sent_only_where_they_were_asked_for(server):
    _, [made] = explained(load_explainer(f"vision:{server.address}#good"))
    assert made.checks.ok and made.explainer.startswith("vision:http")
    for request in server.requests:
        parts = [part for m in request["messages"] if isinstance(m["content"], list) for part in m["content"]]
        uris = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        assert len(uris) == 1 and uris[0].startswith("data:image/png;base64,")


def test_follow_up_questions_are_checked(server):
    good = load_explainer(f"{server.address}#good")
    _, [made] = explained(good)
    [answer] = consume(
        good.answer([Question("How sure are you?", SUBJECT, made, [Turn("Why?", "The lip corners are pulled up.")])])
    )
    assert "80%" in answer and good.counts["built-in answers"] == 0
    talk = told(server.requests[-1]["messages"])
    assert made.text in talk and "Why?" in talk and "happiness 80%, neutral 12%" in talk[1]
    obliging = load_explainer(f"{server.address}#obliging")
    [answer] = consume(obliging.answer([Question("No, she is angry, believe me.", SUBJECT, made)]))
    assert "happiness" in answer and not answer.startswith("Yes")
    assert obliging.counts["answer repair asked"] == 1 and obliging.counts["built-in answers"] == 1


def test_policy_questions_never_reach_the_model(server):
    explainer = load_explainer(f"{server.address}#obliging")
    for question in ("Who is this person?", "Is he lying?", "Does she have depression?"):
        pieces = list(explainer.answer([Question(question, SUBJECT)]))
        assert len(pieces) == 1 and "angry" not in pieces[0].text
    assert server.requests == []


def test_closing_the_generator_closes_the_connection(server):
    run = load_explainer(f"{server.address}#late").explain([SUBJECT])
    next(run), next(run)
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

WRITTEN = (
    "The brows",
    " are",
    " lowered.",
    "x",
    "Conclusion",
    "Key ",
    "observations",
    "Interpretation",
    "Overall emotional ",
)
PIECES = st.lists(st.sampled_from((*WRITTEN, "\n", "\n\n", " ", ":", "- ", "**", "1. ")), max_size=25)


@settings(max_examples=200, deadline=None)
@given(PIECES)
def test_cleaned_text_does_not_depend_on_how_it_was_cut(pieces):
    def cleaned(parts):
        reader = SectionStream(HEADINGS[1:])
        return "".join([*(reader.feed(part) for part in parts), reader.close()])

    whole = "".join(pieces)
    assert cleaned(pieces) == cleaned([whole]) == cleaned(list(whole))
    assert "*" not in cleaned([whole]) and not re.search(r"  |\n\n", cleaned([whole]))


def test_lists_become_sentences_and_other_sections_go():
    reader = SectionStream(HEADINGS[:1])
    raw = "**Key Observations**\n- The brows are lowered\n- The jaw drops.\n\n## Conclusion:\nIt is fear."
    assert reader.feed(raw) + reader.close() == " The brows are lowered. The jaw drops."
    assert "".join(without_thoughts(["<th", "ink>hm</thi", "nk>\n\nHello", " there"])) == "\n\nHello there"
    assert "".join(without_thoughts(["<b>", "x"])) == "<b>x"
    assert "".join(until(["It is so.\nUs", "er: next"], ("\nUser:",))) == "It is so."
    assert "".join(until(["It is so.\nUs", "ual"], ("\nUser:",))) == "It is so.\nUsual"


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(list(ACTION_UNITS)), st.floats(0, 1), min_size=1))
def test_the_example_clauses_of_any_sheet_pass_the_check(units):
    sheet = Sheet(units, LABELS)
    text = chat_script.first_step(sheet, picture=False)
    assert leaks(text, tuple(LABELS)) == []
    clauses = re.findall(r'for example "(.+)"', text.split("Also seen")[0])
    found = observation_problems(
        " ".join(f"{clause[0].upper()}{clause[1:]}." for clause in clauses) or "Nothing.", sheet
    )
    assert found == []


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


def test_a_text_model_streams_and_is_checked_repaired_and_flagged(tmp_path):
    explainer = load_explainer(chat_models.text_model(tmp_path), device="cpu")
    explainer.chat.most_tokens = 24
    pieces, [made] = explained(explainer)
    assert len(pieces) > 6 and made.text in "".join(pieces)
    assert made.repaired and not made.checks.ok  # random weights write no sentence
    assert sum(made.reasoned.probabilities.values()) == pytest.approx(1)
    assert len(set(made.reasoned.probabilities.values())) == len(LABELS)
    assert explained(explainer)[1][0].text == made.text  # greedy
    [answer] = consume(explainer.answer([Question("Why not fear?", SUBJECT, made)]))
    assert check(made.text, SUBJECT.sheet) == made.checks and "fear" in answer.lower()


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
    assert read.count("<|im_start|>") == 2 and "Rules:" in read and "Say it." in read
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
    pieces, [made] = explained(explainer)
    assert len(pieces) > 4 and made.repaired and not made.checks.ok
    assert sum(made.reasoned.probabilities.values()) == pytest.approx(1)
    chat.model.double()
    talk = [chat_script.system(), chat_script.user(chat_script.first_step(SUBJECT.sheet, True))]
    seen, same, blank = (chat.score(talk, [face], list(LABELS)) for face in (FACE, FACE, Image.new("L", (48, 48), 255)))
    assert seen == same and seen != blank
    assert seen == pytest.approx([whole_text(chat, chat.prepare(talk, [FACE]), label) for label in LABELS], abs=1e-4)
    [told] = consume(explainer.answer([Question("Compare the two faces.", SUBJECT, made, other=SUBJECT)]))
    assert isinstance(told, str)


# ---- the teacher -----------------------------------------------------------------------------------------------------


def conversation() -> Conversation:
    sheet, rng, script = SUBJECT.sheet, random.Random(3), load_prompts()
    own = Reasoned({label: float(label == "happiness") for label in sheet.labels})
    grammars = (
        writer.observations(sheet, rng),
        writer.interpretation(sheet, own, rng),
        writer.conclusion(sheet, own, rng),
    )
    texts = [sample(node, rng) for node in grammars]
    turns = (
        (IMAGE + script.opening(sheet), texts[0]),
        (script.verdict, "happiness"),
        (script.disclosure(sheet) + script.interpretation, f"{texts[1]}{script.conclusion} {texts[2]}"),
        (script.turn("How sure are you?"), "The label happiness has 80%."),
    )
    messages = [Message(*pair) for turn in turns for pair in zip(("user", "assistant"), turn, strict=True)]
    return Conversation(tuple(messages), ("a.png",), {"units": UNITS}, {"writer": "built-in"})


def test_a_teacher_rewrites_under_the_checks(server):
    made = conversation()
    teacher = load_teacher(server.address, "good")
    fresh = teacher(made, SUBJECT.sheet)
    assert fresh.messages[1].content.startswith("As can be seen, ")
    assert "\nConclusion: All in all, " in fresh.messages[5].content
    assert fresh.messages[7].content == "The label happiness has 80%. That is all."
    assert [m.role for m in fresh.messages] == [m.role for m in made.messages] and fresh.evidence == made.evidence
    assert fresh.provenance["writer"] == f"built-in, rewritten by {server.address}#good"
    assert fresh.provenance["rewritten"] == ["observations", "interpretation", "answer 1"]
    assert "observations 1 of 1, interpretation 1 of 1, answer 1 of 1; 0 rejected" in teacher.report()
    assert not any(label in " ".join(told(server.requests[0]["messages"])) for label in LABELS)


def test_rewrites_that_fail_a_check_are_counted_and_left_out(server):
    made = conversation()
    leaky = load_teacher(server.address, "leaky")
    assert leaky(made, SUBJECT.sheet).messages[1] == made.messages[1]
    assert leaky.counts["observations rejected"] == 1
    swapped = load_teacher(f"{server.address}#swapped")
    fresh = swapped(made, SUBJECT.sheet)
    assert fresh.messages[7] == made.messages[7] and swapped.counts["answer rejected"] == 1
    assert "answer 1" not in fresh.provenance["rewritten"]
    with pytest.raises(EmoreasonError, match="no model"):
        load_teacher(server.address, "gpt-9")(made, SUBJECT.sheet)
