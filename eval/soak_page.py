"""Many users chat with the page at once for a while: errors, waiting times, memory, and files that are left.

    python eval/soak_page.py                                    20 users, 500 chats
    python eval/soak_page.py --users 4 --chats 40 -o soak.json  soak.json and soak.md

Starts `emoreason chat` on a free port and speaks to it as the browser does: a tab has a session hash and a heartbeat,
a picture is uploaded, an event joins the queue, the answer comes as changes of what is shown. A chat is a picture, its
answer, a question and the answer to that; every picture is another one. A user closes the tab after some chats and
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

PICTURES = 64  # made before the clock starts
CHATS_OF_A_TAB = 5
MARKS = (100, 300, 500)  # chats after which the memory is read
QUESTIONS = ("Why?", "Why not fear?", "What would change your mind?", "How sure are you?", "Which part of the face?")
ERROR, WAITS = "er-error", re.compile(r"requests? comes? first")


@dataclass
class Seen:
    """What all users saw."""

    first: list[float] = field(default_factory=list)  # seconds to the first word about a picture
    end: list[float] = field(default_factory=list)  # to its end
    answered: list[float] = field(default_factory=list)  # to the end of the answer to a question
    told: int = 0  # messages that waited and were told how many come first
    errors: list[str] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)  # MB
    chats: int = 0
    tabs: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Tab:
    """What a browser keeps of one tab."""

    def __init__(self, client: httpx.Client, config: dict[str, Any]):
        self.client, self.hash = client, secrets.token_hex(6)
        self.send = next(each for each in config["dependencies"] if each["api_name"] == "send")
        values = {each["id"]: each["props"].get("value") for each in config["components"]}
        self.wishes = [values[id] for id in self.send["inputs"][1:]]
        request = client.build_request("GET", f"/gradio_api/heartbeat/{self.hash}")
        self.heart = client.send(request, stream=True)

    def close(self) -> None:
        self.heart.close()

    def upload(self, content: bytes) -> dict[str, Any]:
        answer = self.client.post("/gradio_api/upload", files={"files": ("face.jpg", content, "image/jpeg")})
        answer.raise_for_status()
        return {"path": answer.json()[0], "orig_name": "face.jpg", "meta": {"_type": "gradio.FileData"}}

    def ask(self, text: str, files: list[dict[str, Any]], before: int) -> tuple[float, float, bool, int]:
        """(seconds to the first word, to the end, whether it was told to wait, messages that stand there now)."""
        begun, first, told = time.perf_counter(), 0.0, False
        event = {"data": [{"text": text, "files": files}, *self.wishes], "fn_index": self.send["id"],
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
                    # the first is whole, the others say what changed
                    shown = [apply_diff(old, new) for old, new in zip(shown, data, strict=True)] if shown else data
                said = [
                    json.dumps(one["content"], ensure_ascii=False)
                    for one in shown[0][before:]
                    if one["role"] == "assistant"
                ]
                told = told or any(map(WAITS.search, said))
                if not first and any("er-quiet" not in one for one in said):
                    first = time.perf_counter() - begun
                if any(ERROR in one for one in said):
                    raise ValueError(said[-1][:300])
        if not first:
            raise ValueError(f"no answer: {str(shown[:1])[:300]}")
        return first, time.perf_counter() - begun, told, len(shown[0])


def user(address: str, config: dict[str, Any], pictures: list[bytes], numbers: Any, seen: Seen, until: float) -> None:
    """Tabs with some chats each, until all chats were had or the time is over."""
    with httpx.Client(base_url=address, timeout=300) as client:
        while time.monotonic() < until:
            tab, shown = Tab(client, config), 0
            with seen.lock:
                seen.tabs += 1
            for _ in range(CHATS_OF_A_TAB):
                with seen.lock:
                    number = next(numbers, None)
                if number is None or time.monotonic() > until:
                    tab.close()
                    return
                try:
                    file = tab.upload(pictures[number % len(pictures)] + number.to_bytes(4, "big"))  # each its own file
                    first, end, told, shown = tab.ask("", [file], shown)
                    question = random.Random(number).choice(QUESTIONS)
                    _, answered, told_again, shown = tab.ask(question, [], shown)
                    with seen.lock:
                        seen.first.append(first)
                        seen.end.append(end)
                        seen.answered.append(answered)
                        seen.told += told + told_again
                        seen.chats += 1
                except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
                    with seen.lock:
                        seen.errors.append(f"{type(error).__name__}: {error}")
                    break  # as somebody would do: a new tab
            tab.close()


def memory(process: "subprocess.Popen[bytes]") -> float:
    """MB that the server holds."""
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
    seen = Seen()
    try:
        config = httpx.get(f"{address}/config").json()
        user(address, config, pictures, iter([0]), Seen(), time.monotonic() + START_S)  # the model is loaded for it
        seen.memory["before"] = memory(process)
        numbers, begun = iter(range(1, options.chats + 1)), time.monotonic()
        rest = (address, config, pictures, numbers, seen, begun + options.seconds)
        threads = [threading.Thread(target=user, args=rest) for _ in range(options.users)]
        for thread in threads:
            thread.start()
        highest = 0.0
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.2)
            now = memory(process)
            highest = max(highest, now)
            for mark in MARKS:
                if seen.chats >= mark:
                    seen.memory.setdefault(f"after {mark} chats", now)
        took = time.monotonic() - begun
        seen.memory["highest"] = highest
        time.sleep(5)  # the last tabs are being closed
        seen.memory["all tabs closed"] = memory(process)
        files = [path for path in folder.glob("emoreason-*/**/*") if path.is_file()]
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    return {
        "cores": os.cpu_count(),
        "users": options.users,
        "chats": seen.chats,
        "tabs": seen.tabs,
        "seconds": took,
        "chats_a_second": seen.chats / took,
        "errors": len(seen.errors),
        "first_errors": sorted(set(seen.errors))[:5],
        "told_how_many_come_first": seen.told,
        "first_word_s": percentiles(seen.first),
        "explained_s": percentiles(seen.end),
        "answered_s": percentiles(seen.answered),
        "memory_mb": {name: round(value) for name, value in seen.memory.items()},
        "files_left_while_it_runs": len(files),
        "left_after_its_end": len(list(folder.glob("emoreason-*"))),
        "exit_code": code,
    }


def percentiles(times: list[float]) -> dict[str, float]:
    values = np.percentile(times, [50, 95, 99]) if times else [float("nan")] * 3
    return {f"p{name}": round(float(value), 3) for name, value in zip((50, 95, 99), values, strict=True)}


def report(told: dict[str, Any]) -> str:
    lines = [
        f"# {told['users']} users at once on {told['cores']} cores",
        "",
        f"    {told['command']}",
        "",
        f"{told['chats']} chats (a picture, its answer, a question, the answer to that) of {told['tabs']} tabs in "
        f"{told['seconds']:.0f} s: {told['chats_a_second']:.2f} a second. The users are on the same cores.",
        "",
        f"Errors: {told['errors']}. Messages that waited and were told how many come first: "
        f"{told['told_how_many_come_first']}. Files left when all tabs were closed: "
        f"{told['files_left_while_it_runs']}; in the temporary folder after the end of the server: "
        f"{told['left_after_its_end']}.",
        "",
        "| seconds until | p50 | p95 | p99 |",
        "| --- | --- | --- | --- |",
    ]
    for name, key in (
        ("the first word about a picture", "first_word_s"),
        ("the end of its text", "explained_s"),
        ("the end of the answer to a question", "answered_s"),
    ):
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in told[key].values()) + " |")
    lines += ["", "| memory of the server | MB |", "| --- | --- |"]
    lines += [f"| {name} | {value:,} |" for name, value in told["memory_mb"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--chats", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=900, help="no chat begins after so long")
    parser.add_argument("--model", help="of the page")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = {"command": " ".join(["python", *sys.argv]), **soak(options, Path(folder))}
    print(report(told), *told["first_errors"], sep="\n")
    if options.output:
        options.output.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        options.output.with_suffix(".md").write_text(report(told), encoding="utf-8")
    sys.exit(1 if told["errors"] else 0)


if __name__ == "__main__":
    main()
