"""The official client of OpenAI talks to the server."""

import base64
import json

import httpx
import openai
import pytest
from PIL import Image

import emoreason
from api_server import ASTRONAUT, data_uri, engines, pictured, serving
from emoreason.engine import Engines
from emoreason.explain.check.answers import check_answer
from emoreason.explain.check.statements import View
from emoreason.explain.read.sections import stated_label
from emoreason.explain.sheet import Placed, Sheet


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0, timeout=60)


def asked(client, *messages, **more):
    return client.chat.completions.create(model="mini", messages=list(messages), **more)


@pytest.fixture(scope="module")
def whole(client) -> str:
    """What is said about the example picture."""
    return asked(client, pictured()).choices[0].message.content


def test_models(client):
    (model,) = client.models.list().data
    assert model.id == "mini" and model.owned_by == "emoreason"
    assert client.models.retrieve("mini").revision == engines()["mini"].reasoner.revision
    with pytest.raises(openai.NotFoundError, match="mini"):
        client.models.retrieve("ViT-L-14/openai")


def test_a_picture_is_explained_as_by_the_python_api(client, whole):
    answer = asked(client, pictured())
    expected = engines()["mini"].reasoner.analyze(ASTRONAUT).faces[0].explanation.short
    assert answer.choices[0].message.content == expected == whole
    assert answer.choices[0].finish_reason == "stop" and answer.choices[0].message.role == "assistant"
    assert answer.usage.prompt_tokens == 9  # nine tokens of the picture, no word
    tokens = engines()["mini"].reasoner.explainer.vlm.tokenizer.encode(expected)
    assert answer.usage.completion_tokens == len(tokens)
    assert answer.usage.total_tokens == 9 + len(tokens)


def test_a_stream_is_the_same_text(client, whole):
    chunks = list(asked(client, pictured(), stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    texts = [chunk.choices[0].delta.content for chunk in chunks[:-1]]
    assert "".join(text for text in texts if text) == whole and len([t for t in texts if t]) >= 2
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage.prompt_tokens == 9
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_stream_ends_as_the_protocol_says(server):
    body = {"messages": [pictured()], "stream": True, "max_tokens": 3}
    with server.client() as client:
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    assert all("usage" not in json.loads(event) for event in events[:-1])


def test_a_question_about_the_picture(client, whole):
    said = {"role": "assistant", "content": whole}
    answer = asked(client, pictured(), said, {"role": "user", "content": "Why not fear?"}).choices[0].message.content
    sheet = Sheet.of(engines()["mini"].reasoner.analyze(ASTRONAUT, explain=False).faces[0].evidence)
    assert not check_answer(answer, "Why not fear?", View([Placed(sheet)])) and whole not in answer
    both = asked(client, pictured("Why not fear?")).choices[0].message.content
    assert both == f"{whole}\n\n{answer}"


def test_two_pictures_two_faces(client):
    other = data_uri(Image.open(ASTRONAUT).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    message = pictured()
    message["content"] += pictured(uri=other)["content"]
    answer = asked(client, message)
    assert "Face 1\n" in answer.choices[0].message.content and "Face 2\n" in answer.choices[0].message.content
    assert answer.usage.prompt_tokens == 18


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_are_not_shown(client, whole, stream):
    def text(stop):
        answer = asked(client, pictured(), stop=stop, stream=stream)
        if not stream:
            return answer.choices[0].message.content
        return "".join(chunk.choices[0].delta.content or "" for chunk in answer)

    made = engines()["mini"].reasoner.analyze(ASTRONAUT).faces[0].explanation
    end = len(whole) - len(made.sections.interpretation)  # where the second piece begins, without its space
    for stop in (whole[20:32], whole[end - 8 : end + 8]):  # inside a piece; begins in one and ends in another
        assert text(["not in there", stop]) == whole[: whole.index(stop)]


def test_max_tokens(client, whole):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = asked(client, pictured(), **{name: 12})
        assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 12
        assert whole.startswith(answer.choices[0].message.content)


def test_own_labels_and_other_fields(client):
    more = {"labels": ["bored", "delighted"], "brief": True, "something_else": 1}
    answer = asked(client, pictured(), extra_body=more, user="me", top_p=0.5, presence_penalty=0.1)
    assert stated_label(answer.choices[0].message.content.split(".")[0], more["labels"]) == "delighted"


def test_seeds(client, whole):
    def text(seed):
        return asked(client, pictured(), seed=seed).choices[0].message.content

    first = text(1)
    assert first == text(1) and len({first, whole, text(2)}) > 1


def test_without_a_face_and_without_a_picture(client):
    grey = data_uri(Image.new("RGB", (64, 64), (90, 90, 90)))
    assert "No face" in asked(client, pictured(uri=grey)).choices[0].message.content
    assert "picture" in asked(client, {"role": "user", "content": "Hello"}).choices[0].message.content


GREY = base64.b64encode(b"no picture").decode()


@pytest.mark.parametrize(
    ("messages", "more", "told"),
    [
        ([pictured(uri="/etc/passwd")], {}, r"messages\[0\].content\[0\].image_url: .*data URI"),
        ([pictured(uri="file:///etc/passwd")], {}, "data URI"),
        ([pictured(uri="http://127.0.0.1:1/x.jpg")], {}, "does not fetch"),
        ([pictured(uri=f"data:image/png;base64,{GREY}")], {}, "not a picture that can be read"),
        ([pictured(), {"role": "assistant", "content": "Yes."}], {}, "last message"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], {}, "image_url"),
        ([{"role": "wizard", "content": "x"}], {}, "role|tag|user"),
        ([{"role": "user", "content": "x" * 5000}], {}, "4000"),
        ([pictured()], {"temperature": 3}, "temperature"),
        ([pictured()], {"n": 2}, "n: "),
        ([pictured()], {"max_tokens": 0}, "max_tokens"),
        ([pictured()], {"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ([pictured()], {"extra_body": {"labels": ["one"]}}, "two different words"),
        ([pictured()], {"extra_body": {"label_set": "feelings9"}}, "ferplus8"),
        ([pictured()], {"extra_body": {"decide": "chance"}}, "evidence"),
        ([pictured()] * 40, {}, "at most 32 are allowed"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_mistakes_are_told(client, messages, more, told, stream):
    with pytest.raises(openai.BadRequestError, match=told) as caught:
        asked(client, *messages, stream=stream, **more)
    assert caught.value.body["type"] == "invalid_request_error"
    assert "--" not in caught.value.body["message"]  # options of the command line are of no use to a client


def test_unknown_model(client):
    with pytest.raises(openai.NotFoundError, match="Available: mini"):
        client.chat.completions.create(model="gpt-4o", messages=[pictured()])


def test_api_key():
    with serving(api_key="geheim") as server:
        address = f"{server.address}/v1"
        right = openai.OpenAI(base_url=address, api_key="geheim", max_retries=0)
        assert right.models.list().data[0].id == "mini"
        for key in ("falsch", "geheim2", "gehéim"):
            wrong = httpx.get(f"{address}/models", headers={"Authorization": f"Bearer {key}".encode()})
            assert wrong.status_code == 401 and wrong.json()["error"]["code"] == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError, match="Bearer"):
            openai.OpenAI(base_url=address, api_key="none", max_retries=0).models.list()
        assert httpx.get(f"{server.address}/healthz").status_code == 200  # no key for those who watch the process


def test_a_model_without_words_says_so(mini):
    models = Engines({"numbers": lambda: mini})
    with serving(models) as server:
        client = openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.BadRequestError, match="no language model"):
            client.chat.completions.create(model="numbers", messages=[pictured()])
        with server.client() as plain:
            told = plain.post("/v1/emotions", json={"images": [data_uri()], "explain": True})
            assert told.status_code == 400 and "no language model" in told.text
            answer = plain.post("/v1/emotions", json={"images": [data_uri()]}).json()
            assert answer["data"][0]["faces"][0]["label"] == "happiness"
    models.close(0.1)


def test_a_model_that_cannot_be_loaded_says_why():
    models = Engines({"broken": lambda: emoreason.load("/no/such/folder")})
    with serving(models) as server, server.client() as plain:
        told = plain.post("/v1/emotions", json={"images": [data_uri()]})
        assert told.status_code == 503 and "Retry-After" in told.headers
        assert "could not be loaded" in told.json()["error"]["message"]
        ready = plain.get("/readyz")
        assert ready.status_code == 503 and ready.json()["state"] == "failed" and ready.json()["reason"]
    models.close(0.1)
