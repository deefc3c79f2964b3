"""Lets many users chat with the page at once, and measures errors, waiting times, memory and leftover files.

    python eval/soak_page.py                                    20 users, 500 chats
    python eval/soak_page.py --users 4 --chats 40 -o soak.json  soak.json and soak.md

Starts `emoreason chat` on a free port and talks to it like a browser: a tab has a session hash and a heartbeat, uploads
a picture, joins the queue with an event, and gets the answer as changes of the displayed messages. A chat is a picture,
its answer, a question and the answer to that; every picture is different. After some chats, a user closes the tab and
opens a new one.
"""

import argparse
import base64
import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from bench_serve import START_S, picture
from gradio_client.utils import apply_diff

PICTURES = 64  # prepared before the clock starts
CHATS_OF_A_TAB = 5
MARKS = (100, 300, 500)  # memory is read after so many chats
QUESTIONS = ("Why?", "Why not fear?", "What would change your mind?", "How sure are you?", "Which part of the face?")
ERROR, WAITS = "er-error", re.compile(r"requests? comes? first")


@dataclass
class Totals:
    """The results of all users together."""

    first: list[float] = field(default_factory=list)  # seconds to the first word about a picture
    end: list[float] = field(default_factory=list)  # to its end
    answered: list[float] = field(default_factory=list)  # to the end of the answer to a question
    queued: int = 0  # messages that waited and were shown their place in the queue
    errors: list[str] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)  # MB
    chats: int = 0
    tabs: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Tab:
    """The state that a browser keeps for one tab."""

    def __init__(self, client: httpx.Client, config: dict[str, Any]):
        self.client, self.hash = client, secrets.token_hex(6)
        self.send = next(each for each in config["dependencies"] if each["api_name"] == "send")
        values = {each["id"]: each["props"].get("value") for each in config["components"]}
        self.settings = [values[id] for id in self.send["inputs"][1:]]
        request = client.build_request("GET", f"/gradio_api/heartbeat/{self.hash}")
        self.heartbeat = client.send(request, stream=True)

    def close(self) -> None:
        self.heartbeat.close()

    def upload(self, content: bytes) -> dict[str, Any]:
        answer = self.client.post("/gradio_api/upload", files={"files": ("face.jpg", content, "image/jpeg")})
        answer.raise_for_status()
        return {"path": answer.json()[0], "orig_name": "face.jpg", "meta": {"_type": "gradio.FileData"}}

    def ask(self, text: str, files: list[dict[str, Any]], before: int) -> tuple[float, float, bool, int]:
        """-> seconds to the first word, seconds to the end, whether it was queued, number of messages now shown."""
        start_time, first, queued = time.perf_counter(), 0.0, False
        event = {"data": [{"text": text, "files": files}, *self.settings], "fn_index": self.send["id"],
                 "session_hash": self.hash, "event_data": None, "trigger_id": self.send["targets"][0][0]}  # fmt: skip
        self.client.post("/gradio_api/queue/join", json=event).raise_for_status()
        shown: list[Any] = []
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.hash}) as lines:
            for line in lines.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                if message["msg"] == "log" and message["level"] != "info":
                    raise ValueError(message["log"])
                if message["msg"] in ("unexpected_error", "queue_full") or message.get("success") is False:
                    raise ValueError(line[:300])
                if message["msg"] == "close_stream":
                    break
                if message["msg"] not in ("process_generating", "process_completed"):
                    continue
                data = message["output"]["data"]
                if message["msg"] == "process_generating":
                    # the first is complete, the others are differences
                    shown = [apply_diff(old, new) for old, new in zip(shown, data, strict=True)] if shown else data
                answers = [
                    json.dumps(entry["content"], ensure_ascii=False)
                    for entry in shown[0][before:]
                    if entry["role"] == "assistant"
                ]
                queued = queued or any(map(WAITS.search, answers))
                if not first and any("er-quiet" not in answer for answer in answers):
                    first = time.perf_counter() - start_time
                if any(ERROR in answer for answer in answers):
                    raise ValueError(answers[-1][:300])
        if not first:
            raise ValueError(f"no answer: {str(shown[:1])[:300]}")
        return first, time.perf_counter() - start_time, queued, len(shown[0])


def user(
    address: str, config: dict[str, Any], pictures: list[bytes], numbers: Any, totals: Totals, until: float
) -> None:
    """Opens tabs with some chats each, until all chats are done or the time is over."""
    with httpx.Client(base_url=address, timeout=300) as client:
        while time.monotonic() < until:
            tab, shown = Tab(client, config), 0
            with totals.lock:
                totals.tabs += 1
            for _ in range(CHATS_OF_A_TAB):
                with totals.lock:
                    number = next(numbers, None)
                if number is None or time.monotonic() > until:
                    tab.close()
                    return
                try:
                    file = tab.upload(
                        pictures[number % len(pictures)] + number.to_bytes(4, "big")
                    )  # a different file for each
                    first, end, queued, shown = tab.ask("", [file], shown)
                    question = random.Random(number).choice(QUESTIONS)
                    _, answered, queued_again, shown = tab.ask(question, [], shown)
                    with totals.lock:
                        totals.first.append(first)
                        totals.end.append(end)
                        totals.answered.append(answered)
                        totals.queued += queued + queued_again
                        totals.chats += 1
                except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
                    with totals.lock:
                        totals.errors.append(f"{type(error).__name__}: {error}")
                    break  # a person would open a new tab too
            tab.close()


def memory(process: "subprocess.Popen[bytes]") -> float:
    """Resident memory of the server in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def start(folder: Path, model: str | None) -> "tuple[subprocess.Popen[bytes], str]":
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "emoreason", "chat", "--port", address.rpartition(":")[2]]
    process = subprocess.Popen(
        command + (["--model", model] if model else []), env=os.environ | {"TMPDIR": str(folder)}
    )
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(address).status_code == 200:
                return process, address
        except httpx.HTTPError:
            time.sleep(0.2)
    process.kill()
    raise SystemExit("`emoreason chat` did not become ready")


def soak(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    pictures = [base64.b64decode(picture(number).partition(",")[2]) for number in range(min(PICTURES, options.chats))]
    process, address = start(folder, options.model)
    totals = Totals()
    try:
        config = httpx.get(f"{address}/config").json()
        user(address, config, pictures, iter([0]), Totals(), time.monotonic() + START_S)  # loads the model
        totals.memory["before"] = memory(process)
        numbers, start_time = iter(range(1, options.chats + 1)), time.monotonic()
        arguments = (address, config, pictures, numbers, totals, start_time + options.seconds)
        threads = [threading.Thread(target=user, args=arguments) for _ in range(options.users)]
        for thread in threads:
            thread.start()
        highest = 0.0
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.2)
            now = memory(process)
            highest = max(highest, now)
            for mark in MARKS:
                if totals.chats >= mark:
                    totals.memory.setdefault(f"after {mark} chats", now)
        took = time.monotonic() - start_time
        totals.memory["highest"] = highest
        time.sleep(5)  # until the last tabs are closed
        totals.memory["all tabs closed"] = memory(process)
        files = [path for path in folder.glob("emoreason-*/**/*") if path.is_file()]
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    return {
        "cores": os.cpu_count(),
        "users": options.users,
        "chats": totals.chats,
        "tabs": totals.tabs,
        "seconds": took,
        "chats_a_second": totals.chats / took,
        "errors": len(totals.errors),
        "first_errors": sorted(set(totals.errors))[:5],
        "told_how_many_come_first": totals.queued,
        "first_word_s": percentiles(totals.first),
        "explained_s": percentiles(totals.end),
        "answered_s": percentiles(totals.answered),
        "memory_mb": {name: round(value) for name, value in totals.memory.items()},
        "files_left_while_it_runs": len(files),
        "left_after_its_end": len(list(folder.glob("emoreason-*"))),
        "exit_code": code,
    }


def percentiles(times: list[float]) -> dict[str, float]:
    values = np.percentile(times, [50, 95, 99]) if times else [float("nan")] * 3
    return {f"p{name}": round(float(value), 3) for name, value in zip((50, 95, 99), values, strict=True)}


def report(results: dict[str, Any]) -> str:
    lines = [
        f"# {results['users']} users at once on {results['cores']} cores",
        "",
        f"    {results['command']}",
        "",
        f"{results['chats']} chats (a picture, its answer, a question, the answer to that) in {results['tabs']} tabs "
        f"and {results['seconds']:.0f} s: {results['chats_a_second']:.2f} per second. The users run on the same cores.",
        "",
        f"Errors: {results['errors']}. Messages that waited and were shown their place in the queue: "
        f"{results['told_how_many_come_first']}. Files left after closing all tabs: "
        f"{results['files_left_while_it_runs']}; in the temporary folder after the server has stopped: "
        f"{results['left_after_its_end']}.",
        "",
        "| seconds until | p50 | p95 | p99 |",
        "| --- | --- | --- | --- |",
    ]
    for name, key in (
        ("the first word about a picture", "first_word_s"),
        ("the end of its text", "explained_s"),
        ("the end of the answer to a question", "answered_s"),
    ):
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in results[key].values()) + " |")
    lines += ["", "| memory of the server | MB |", "| --- | --- |"]
    lines += [f"| {name} | {value:,} |" for name, value in results["memory_mb"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--chats", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=900, help="no chat starts after so long")
    parser.add_argument("--model", help="model of the page")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = {"command": " ".join(["python", *sys.argv]), **soak(options, Path(folder))}
    print(report(results), *results["first_errors"], sep="\n")
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        options.output.with_suffix(".md").write_text(report(results), encoding="utf-8")
    sys.exit(1 if results["errors"] else 0)


if __name__ == "__main__":
    main()
