"""Measures requests per second and response times of the HTTP API with 1, 8 and 32 clients.

    python eval/bench_serve.py                                  starts `emoreason serve` on a free port
    python eval/bench_serve.py --url http://127.0.0.1:8000      a running server
    python eval/bench_serve.py --clients 1 8 --seconds 10 -o serve.json

There are two kinds of requests with one picture each: numbers (/v1/emotions without words) and words (a streamed
explanation by /v1/chat/completions). Every request has another picture, so that caches do not help. A client sends its
next request when its last answer is complete. A warm-up before each kind is not counted.
"""

import argparse
import base64
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

PICTURE = Path(__file__).parent.parent / "examples" / "astronaut.jpg"
KINDS = ("numbers", "words")
START_S = 120


@dataclass(frozen=True)
class Load:
    """The result of one load, in seconds. `first`: until the first words of a text, or the first byte of numbers."""

    kind: str
    clients: int
    answered: int
    failed: int
    seconds: float
    p50: float
    p95: float
    p99: float
    first_p50: float
    first_p95: float

    @property
    def rate(self) -> float:
        return self.answered / self.seconds


def picture(number: int) -> str:
    """The example picture as a data URI, with a random shift, mirroring and brightness for each number."""
    rng = random.Random(number)
    image = Image.open(PICTURE)
    left, top = rng.randint(0, 24), rng.randint(0, 24)
    image = image.crop((left, top, image.width - rng.randint(0, 24), image.height - rng.randint(0, 24)))
    image = ImageOps.mirror(image) if rng.random() < 0.5 else image
    stream = io.BytesIO()
    ImageEnhance.Brightness(image).enhance(rng.uniform(0.7, 1.2)).save(stream, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def ask(client: httpx.Client, kind: str, uri: str) -> tuple[float, float]:
    """Sends one request -> seconds to the first words, and to the end."""
    start_time = time.perf_counter()
    if kind == "numbers":
        with client.stream("POST", "/v1/emotions", json={"images": [uri]}) as answer:
            answer.raise_for_status()
            content = b""
            first = 0.0
            for part in answer.iter_raw():
                first = first or time.perf_counter() - start_time
                content += part
        if "faces" not in json.loads(content)["data"][0]:
            raise ValueError("the picture was refused")
        return first, time.perf_counter() - start_time
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": uri}}]}
    first, line = 0.0, ""
    with client.stream("POST", "/v1/chat/completions", json={"messages": [message], "stream": True}) as answer:
        answer.raise_for_status()
        for line in filter(None, answer.iter_lines()):
            if not first and '"content": ""' not in line and '"content"' in line:
                first = time.perf_counter() - start_time
    if line != "data: [DONE]" or not first:
        raise ValueError(f"the stream ended with {line[:200]}")
    return first, time.perf_counter() - start_time


def load(address: str, kind: str, clients: int, max_requests: int, seconds: float, headers: dict[str, str]) -> Load:
    """Runs the clients at once, until `seconds` are over or `max_requests` were sent."""
    times: list[tuple[float, float]] = []
    failures: list[str] = []
    numbers = iter(range(max_requests))
    lock, start_time = threading.Lock(), time.perf_counter()
    # made before the clock starts, as this process shares the cores with the server
    uris = [picture(1000 * clients + number) for number in range(min(max_requests, 64))]

    def work() -> None:
        with httpx.Client(base_url=address, timeout=300, headers=headers) as client:
            while time.perf_counter() - start_time < seconds:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    took = ask(client, kind, uris[number % len(uris)])
                    with lock:
                        times.append(took)
                except (httpx.HTTPError, ValueError, KeyError) as error:
                    with lock:
                        failures.append(str(error) or type(error).__name__)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    start_time = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start_time
    if not times:
        raise SystemExit(f"none of the {kind} requests was answered: {failures[:1]}")
    firsts, totals = zip(*times, strict=True)
    p50, p95, p99 = np.percentile(totals, [50, 95, 99])
    first_p50, first_p95 = np.percentile(firsts, [50, 95])
    for failure in sorted(set(failures))[:3]:
        print(f"{kind}, {clients} clients: {failure}", file=sys.stderr)
    return Load(kind, clients, len(times), len(failures), took, p50, p95, p99, first_p50, first_p95)


def table(loads: list[Load]) -> str:
    lines = [
        "| kind | clients | answered | failed | a second | x one by one | p50 | p95 | p99 | first p50 | first p95 |",
        "|" + " --- |" * 11,
    ]
    for row in loads:
        alone = next((other.rate for other in loads if other.kind == row.kind and other.clients == 1), None)
        ratio = f"{row.rate / alone:.2f}" if alone else "-"
        waits = (row.p50, row.p95, row.p99, row.first_p50, row.first_p95)
        lines.append(
            f"| {row.kind} | {row.clients} | {row.answered} | {row.failed} | {row.rate:.2f} | {ratio} | "
            + " | ".join(f"{1e3 * wait:.0f} ms" for wait in waits) + " |"
        )  # fmt: skip
    return "\n".join(lines)


def start(model: str | None) -> tuple[subprocess.Popen[bytes], str]:
    """Starts `emoreason serve` on a free port and waits until its model is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "emoreason", "serve", "--port", str(port)]
    process = subprocess.Popen(command + (["--model", model] if model else []), stdout=subprocess.DEVNULL)
    address, until = f"http://127.0.0.1:{port}", time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                return process, address
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    process.kill()
    raise SystemExit("`emoreason serve` did not become ready")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="address of a running server, without /v1")
    parser.add_argument("--model", help="model of the server that this script starts")
    parser.add_argument("--key", help="API key of the server, if it needs one")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=400, help="maximum for each kind and number of clients")
    parser.add_argument("--seconds", type=float, default=30, help="time limit for each kind and number of clients")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="also writes FILE.md")
    options = parser.parse_args()

    headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
    process, address = (None, options.url.rstrip("/")) if options.url else start(options.model)
    loads: list[Load] = []
    try:
        for kind in options.kinds:
            load(address, kind, max(options.clients), 2 * max(options.clients), 10, headers)  # warm-up
            loads += [load(address, kind, n, options.requests, options.seconds, headers) for n in options.clients]
    finally:
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    command = " ".join(["python", *sys.argv])
    report = f"    {command}\n\n{os.cpu_count()} cores, which the clients share with the server.\n\n{table(loads)}\n"
    print(report)
    if options.output:
        results: dict[str, Any] = {
            "command": command,
            "cores": os.cpu_count(),
            "loads": [{**asdict(each), "rate": each.rate} for each in loads],
        }
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        options.output.with_suffix(".md").write_text(f"# The API under load\n\n{report}", encoding="utf-8")


if __name__ == "__main__":
    main()
