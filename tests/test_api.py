"""Emotions, limits, and what those see who run the server."""

import dataclasses
import json
import random
import re
import struct
import threading
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from PIL import Image, ImageOps
from prometheus_client.parser import text_string_to_metric_families

from api_server import ASTRONAUT, data_uri, engines, serving, wait_for
from emoreason.apps.api import responses as told
from emoreason.apps.api.stop_sequences import StopSequences
from emoreason.engine import Engines
from emoreason.knowledge.emotions import label_set


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with server.client() as opened:
        yield opened


def emotions(client, *images, **more):
    answer = client.post("/v1/emotions", json={"images": list(images), **more})
    assert answer.status_code == 200, answer.text
    told.Emotions.model_validate(answer.json(), strict=True)
    return answer.json()["data"]


def refusal(answer, status: int) -> str:
    """The sentence of a failure, which has OpenAI's shape whatever failed."""
    assert answer.status_code == status, answer.text
    told.Error.model_validate(answer.json(), strict=True)
    return answer.json()["error"]["message"]


# ---- emotions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {"explain": False}),
        ({"explain": True}, {}),
        ({"explain": True, "decide": "both"}, {"decide": "both"}),
        ({"labels": ["bored", "delighted"]}, {"labels": ["bored", "delighted"], "explain": False}),
        ({"label_set": "RAFDB7"}, {"labels": label_set("rafdb7").labels, "explain": False}),
        ({"detect": False}, {"detect": False, "explain": False}),
    ],
    ids=str,
)
def test_the_answer_is_the_python_api_s(client, fields, options):
    (entry,) = emotions(client, data_uri(), **fields)
    analysis = engines()["mini"].reasoner.analyze(data_uri(), **options)
    assert entry == json.loads(analysis.to_json())


def test_the_types_name_every_field(client):
    """Nothing is answered that /docs does not know."""

    def strictly(model):
        return type(model.__name__, (model,), {"model_config": {"extra": "forbid"}})

    (entry,) = emotions(client, data_uri(), explain=True, decide="both")
    strictly(told.AnalysisResponse).model_validate(entry)
    (face,) = entry["faces"]
    strictly(told.FaceResponse).model_validate(face)
    strictly(told.ExplanationResponse).model_validate(face["explanation"])
    strictly(told.Observation).model_validate(face["explanation"]["observations"][0])


def test_many_pictures_and_bad_ones(client):
    mirrored = data_uri(ImageOps.mirror(Image.open(ASTRONAUT)))
    grey = data_uri(Image.new("RGB", (64, 64)))
    data = emotions(client, {"data": data_uri(), "name": "a <b>.jpg"}, "/etc/passwd", grey, "data:image/png;base64,xx",
                    mirrored)  # fmt: skip
    assert [entry.get("error") is None for entry in data] == [True, False, True, False, True]
    assert data[0]["source"] == "a <b>.jpg" and data[1]["source"] == "/etc/passwd"
    assert data[2]["faces"] == []
    assert data[0]["faces"][0]["label"] == data[4]["faces"][0]["label"] == "happiness"


def test_files_of_a_form(client):
    named = [("images", ("face.jpg", ASTRONAUT.read_bytes())), ("images", ("bad.jpg", b"no picture"))]
    answer = client.post("/v1/emotions/files", files=named, data={"labels": "bored, delighted"})
    good, bad = answer.json()["data"]
    assert good["source"] == "face.jpg" and set(good["faces"][0]["probabilities"]) == {"bored", "delighted"}
    assert bad["source"] == "bad.jpg" and "not a picture" in bad["error"]
    several = client.post("/v1/emotions/files", files=named[:1], data={"labels": ["bored", "delighted"]}).json()
    assert several["data"] == [good]
    assert "labels" in refusal(client.post("/v1/emotions/files", files=named, data={"labels": "one"}), 400)
    assert "images" in refusal(client.post("/v1/emotions/files", data={"explain": "true"}), 400)


@pytest.mark.parametrize(
    ("body", "told_"),
    [
        ({"images": []}, "images"),
        ({"images": [{}]}, r"images[0].data"),
        ({}, "images: Field required"),
        ({"images": ["x"], "labels": ["a", "b"], "label_set": "rafdb7"}, "either labels or label_set"),
        ({"images": ["x"], "labels": ["a", " a"]}, "two different words"),
        ({"images": ["x"], "decide": "both"}, '"explain": true'),
        ({"images": ["x"] * 33}, "33 pictures"),
        ([], "JSON object"),
    ],
)
def test_mistakes_are_told(client, body, told_):
    assert told_ in refusal(client.post("/v1/emotions", json=body), 400)


def test_a_body_that_is_no_json(client):
    as_json = {"Content-Type": "application/json"}
    assert "character 1" in refusal(client.post("/v1/emotions", content=b"{", headers=as_json), 400)
    assert "UTF-8" in refusal(client.post("/v1/emotions", content=b'{"\xff', headers=as_json), 400)
    assert "Content-Type" in refusal(client.post("/v1/emotions", content=b"{}"), 400)
    assert refusal(client.get("/v1/nothing"), 404) and refusal(client.delete("/v1/models"), 405)


# ---- limits ----------------------------------------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    """A PNG that says that it is so large; its pixels are zeros, a thousandth of that when packed."""

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")


def test_pixel_bombs_are_refused(client):
    files = [("images", (f"{side}.png", png(side, side))) for side in (30_000, 8_000)]
    assert sum(len(content) for _, (_, content) in files) < 2**20
    huge, large = client.post("/v1/emotions/files", files=files).json()["data"]
    assert "900000000 pixels" in huge["error"] and "64 million pixels, the limit is 50 million" in large["error"]


def test_pixels_of_one_request_are_limited_together():
    picture = data_uri(Image.new("L", (400, 500)), "PNG")
    with serving(max_pixels=200_000) as server, server.client() as client:
        data = emotions(client, *[picture] * 12)
        errors = [entry["error"] for entry in data if "error" in entry]
        assert 2 <= len(data) - len(errors) < 12 and "too many pixels" in errors[0]


def test_request_sizes(server):
    with serving(max_request_mb=1) as small, small.client() as client:
        large = json.dumps({"images": ["x" * 2**20]}).encode()
        as_json = {"Content-Type": "application/json"}
        assert "1 MiB" in refusal(client.post("/v1/emotions", content=large, headers=as_json), 413)
        parts = (large[at : at + 65536] for at in range(0, len(large), 65536))
        assert "1 MiB" in refusal(client.post("/v1/emotions", content=parts, headers=as_json), 413)  # no Content-Length
        form = [("images", ("x.jpg", b"x" * 2**20))]
        assert "1 MiB" in refusal(client.post("/v1/emotions/files", files=form), 413)
        assert emotions(client, data_uri())[0]["faces"]
        wait_for(lambda: small.service.open == 0)


def test_addresses(client, monkeypatch):
    """Refused; where they are allowed, private hosts are refused; and public ones are read."""

    class Pictures(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(ASTRONAUT.read_bytes())

        def log_message(self, *_):
            pass

    files = HTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=files.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{files.server_port}/photo.jpg"
    assert "does not fetch" in emotions(client, address)[0]["error"]
    with serving(allow_urls=True) as server, server.client() as allowed:
        assert "private address" in emotions(allowed, address)[0]["error"]
        assert "data URI" in emotions(allowed, "ftp://example.com/photo.jpg")[0]["error"]
        monkeypatch.setattr("ipaddress.IPv4Address.is_global", True)
        (entry,) = emotions(allowed, address)
        assert entry["source"] == address and entry["faces"][0]["label"] == "happiness"
    files.shutdown()
    files.server_close()


def test_the_key_is_asked_for_at_every_address_of_v1():
    for root_path in ("", "/faces"):
        with serving(api_key="geheim", root_path=root_path) as server, server.client() as client:
            schema = client.get("/openapi.json").json()
            asked = [(path, method) for path, methods in schema["paths"].items() for method in methods]
            for path, method in asked:
                for prefix in {"", root_path}:
                    answer = client.request(method, prefix + path.replace("{name}", "mini"))
                    assert (answer.status_code == 401) == path.startswith("/v1/"), (prefix, path, answer.text)


# ---- operation -------------------------------------------------------------------------------------------------------


def test_health(client, server):
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").json() == {"ready": True, "state": "ready", "reason": None}
    server.service.draining = True
    try:
        assert client.get("/readyz").status_code == 503 and client.get("/readyz").json()["state"] == "draining"
        answer = client.post("/v1/emotions", json={"images": [data_uri()]})
        assert "shutting down" in refusal(answer, 503) and "Retry-After" in answer.headers
    finally:
        server.service.draining = False


def test_metrics(client):
    def values() -> dict[tuple, float]:
        families = text_string_to_metric_families(client.get("/metrics").text)
        return {(sample.name, *sorted(sample.labels.values())): sample.value for f in families for sample in f.samples}

    before = values()
    emotions(client, data_uri(), "x", explain=True)
    client.post("/v1/emotions", json={})
    client.get("/v1/no/such/place")
    after = values()

    def grown(*key) -> float:
        return after.get(key, 0) - before.get(key, 0)

    assert grown("emoreason_requests_total", "/v1/emotions", "200", "POST") == 1
    assert grown("emoreason_requests_total", "/v1/emotions", "400", "POST") == 1
    assert grown("emoreason_requests_total", "404", "GET", "other") == 1
    assert grown("emoreason_request_seconds_count", "/v1/emotions", "POST") == 2
    assert grown("emoreason_pictures_total") == grown("emoreason_pictures_refused_total") == 1
    assert grown("emoreason_faces_total") == 1 and grown("emoreason_generated_tokens_total") > 20
    assert grown("emoreason_batch_rows_count", "measure") == grown("emoreason_batch_rows_count", "explain") == 1
    assert after["emoreason_model_state", "mini", "ready"] == 1
    assert not any("/v1/no/such/place" in key for key in after)


class Broken:
    name = "broken"

    def detect(self, rgb):
        raise RuntimeError("a secret place")


def test_what_nobody_expected_is_logged_under_a_number(mini, caplog):
    models = Engines({"mini": lambda: dataclasses.replace(mini, detector=Broken())})
    with serving(models) as server, server.client() as client:
        message = refusal(client.post("/v1/emotions", json={"images": [data_uri()]}), 500)
    assert "secret" not in message
    number = re.search(r"logged it as (\w+)", message)[1]
    assert f"error {number}" in caplog.text and "a secret place" in caplog.text
    models.close()


def test_the_schema_is_described(client):
    schema = client.get("/openapi.json").json()
    for path, methods in schema["paths"].items():
        for method, about in methods.items():
            assert about["summary"] and about["tags"], (method, path)
    assert schema["paths"]["/v1/emotions"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert client.get("/docs").status_code == 200


# ---- where a text ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(200))
def test_cut_is_the_same_however_the_text_is_split(seed):
    rng = random.Random(seed)
    text = "".join(rng.choice("ab ") for _ in range(40))
    stops = ["".join(rng.choice("ab ") for _ in range(rng.randint(1, 5))) for _ in range(rng.randint(0, 4))]
    most = rng.choice([None, 5, 12])
    places = [text.find(stop) for stop in stops if stop in text]
    wanted = text[: min(places, default=len(text))]
    reason = "length" if most is not None and len(wanted) > most else "stop"
    cut, shown, rest = StopSequences(stops, most, len), "", text
    while rest and not cut.reason:
        n = rng.randint(1, 6)
        shown += cut.feed(rest[:n])
        rest = rest[n:]
    shown += cut.end()
    assert (shown, cut.reason) == (wanted[:most], reason) and cut.shown == shown
