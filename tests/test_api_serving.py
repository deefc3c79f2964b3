"""Many clients at once, clients that go away, and a server that is told to stop."""

import json
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageEnhance

from api_server import ASTRONAUT, METRICS, data_uri, engines, pictured, serving, wait_for
from emoreason.apps.api.app import create_app
from emoreason.apps.api.server import run
from emoreason.core.errors import EmoreasonError
from emoreason.engine import Engines

CLIENTS = 6


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


def faces(n: int) -> list[str]:
    """Different pictures of one face."""
    image = Image.open(ASTRONAUT)
    return [data_uri(ImageEnhance.Brightness(image).enhance(0.7 + 0.05 * number)) for number in range(n)]


def batches(kind: str) -> tuple[float, float]:
    """How many there were, and the rows of all together."""
    found = {sample.name: sample.value for metric in METRICS.rows.collect() for sample in metric.samples
             if sample.labels.get("kind") == kind}  # fmt: skip
    return found.get("emoreason_batch_rows_count", 0), found.get("emoreason_batch_rows_sum", 0)


def chatted(server, uri: str, **more) -> str:
    with server.client() as client:
        answer = client.post("/v1/chat/completions", json={"messages": [pictured(uri=uri)], "brief": True, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def measured(server, uri: str) -> dict:
    with server.client() as client:
        answer = client.post("/v1/emotions", json={"images": [uri]})
    assert answer.status_code == 200, answer.text
    (face,) = answer.json()["data"][0]["faces"]
    return face


def test_requests_at_once_are_batched_and_get_the_same_answers(server):
    pictures = faces(CLIENTS)
    one_by_one = [chatted(server, uri) for uri in pictures]
    count, rows = batches("explain")
    with ThreadPoolExecutor(CLIENTS) as pool:
        at_once = list(pool.map(lambda uri: chatted(server, uri), pictures))
    more, further = batches("explain")
    assert at_once == one_by_one and len(set(at_once)) > 1
    assert further - rows == CLIENTS and more - count < CLIENTS


def test_numbers_at_once_are_the_same(server):
    pictures = faces(CLIENTS)
    one_by_one = [measured(server, uri) for uri in pictures]
    with ThreadPoolExecutor(CLIENTS) as pool:
        at_once = list(pool.map(lambda uri: measured(server, uri), pictures))
    for alone, together in zip(one_by_one, at_once, strict=True):
        assert together["label"] == alone["label"] and together["box"] == alone["box"]
        assert together["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-4)


def test_waiting_requests_do_not_hold_up_the_rest(server):
    """More of them than the usual pool of forty threads has room for."""
    pictures = faces(4)
    with ThreadPoolExecutor(44) as pool:
        waiting = [pool.submit(chatted, server, pictures[n % 4], max_tokens=6) for n in range(44)]
        wait_for(lambda: server.service.open >= 41)
        with server.client() as client:
            assert client.get("/healthz").status_code == 200 and client.get("/v1/models").status_code == 200
        assert server.service.open >= 10  # answered while the others still waited
        texts = [each.result() for each in waiting]
    assert all(texts[n] == texts[n % 4] for n in range(44))


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_stops_the_model(server, stream):
    """Thirty-two pictures take half a minute to explain; nobody waits for it."""
    message = {"role": "user", "content": [part for uri in faces(4) * 8 for part in pictured(uri=uri)["content"]]}
    body = json.dumps({"messages": [message], "stream": stream}).encode()
    before, _ = batches("measure")
    with socket.create_connection(server.address.removeprefix("http://").split(":"), 20) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        wait_for(lambda: batches("measure")[0] > before)
        time.sleep(0.5)
        assert server.service.open == 1
    wait_for(lambda: server.engine.running == server.engine.waiting == server.service.open == 0)


# ---- the end ---------------------------------------------------------------------------------------------------------


class Process:
    """The server as a process of its own."""

    def __enter__(self) -> "Process":
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "api_server.py")], stdout=subprocess.PIPE, text=True
        )
        self.address = self.process.stdout.readline().strip()
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def test_sigterm_finishes_running_answers_and_takes_no_new_ones():
    with Process() as server, httpx.stream("GET", f"{server.address}/forever", timeout=60) as page:
        heartbeats = page.iter_text()
        next(heartbeats)  # an open page must not hold up the end
        body = {"messages": [pictured("Why not fear?")], "stream": True}
        seen: dict[str, httpx.Response] = {}
        with httpx.stream("POST", f"{server.address}/v1/chat/completions", json=body, timeout=60) as answer:
            text = ""
            for line in answer.iter_lines():
                text += line + "\n"
                if '"content": "' in line and '"content": ""' not in line and not seen:
                    server.process.send_signal(signal.SIGTERM)
                    wait_for(lambda: seen.update(ready=httpx.get(f"{server.address}/readyz")) or
                             seen["ready"].status_code == 503)  # fmt: skip
                    seen["new"] = httpx.post(f"{server.address}/v1/emotions", json={"images": [data_uri()]})
        assert text.rstrip().endswith("data: [DONE]") and '"finish_reason": "stop"' in text and '"error"' not in text
        assert seen["ready"].json()["state"] == "draining" and seen["new"].status_code == 503
        assert server.process.wait(20) == 0
        assert server.process.stdout.read() == "bye\n"


def test_a_port_in_use_is_told():
    models = Engines({"mini": lambda: engines()["mini"].reasoner})
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(EmoreasonError, match="--port"):
        run(create_app(models), models, port=taken.getsockname()[1])
