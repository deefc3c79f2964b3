"""A small server that speaks the chat-completions protocol over loopback and answers by rules from what it is told.

The name of the model says how it behaves: good, leaky (names a feeling until asked again), stubborn (always does),
swapped (wrong label until asked again), word (no probabilities), vague (no verdict), thinker, obliging (agrees with
everything), looping (never ends), and ways to fail.
"""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from emoreason.explain.read.claims import mentions
from emoreason.knowledge.facs import ACTION_UNITS, PLAIN_NAMES

WRITERS = ("good", "leaky", "stubborn", "swapped", "word", "vague", "thinker", "obliging", "looping", "whole", "busy",
           "picky")  # fmt: skip
FAILURES = ("html", "garbled", "cut", "mute", "broken", "empty", "failing", "late")
MODELS = WRITERS + FAILURES


class ChatServer:
    def __init__(self, models: tuple[str, ...] = MODELS, key: str | None = None):
        self.models, self.key, self.requests, self.busy = models, key, [], 2
        self._stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"about": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "ChatServer":
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()

    def sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)


class _Handler(BaseHTTPRequestHandler):
    about: ChatServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._json({"object": "list", "data": [{"id": name} for name in self.about.models]})
        else:
            self._json({"error": {"message": "not found"}}, 404)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.about.requests.append({**asked, "headers": dict(self.headers)})
        model = asked["model"]
        if self.about.key and self.headers.get("Authorization") != f"Bearer {self.about.key}":
            return self._json({"error": {"message": "Incorrect API key provided"}}, 401)
        if self.path == "/moved/chat/completions":
            return self._raw(b"", 302, {"Location": "http://elsewhere.example/v1"})
        if self.path != "/v1/chat/completions" or model not in self.about.models:
            return self._json({"error": {"message": f"The model `{model}` does not exist"}}, 404)
        match model:
            case "html":
                return self._raw(b"<html>hello</html>", 200, {"Content-Type": "text/html"})
            case "empty":
                return self._json({"choices": []})
            case "broken":
                return self._json({"error": {"message": "CUDA out of memory"}}, 500)
            case "mute":
                self.about.sleep(5)
                return None
            case "busy" if self.about.busy:
                self.about.busy -= 1
                return self._json({"error": {"message": "slow down"}}, 429, {"Retry-After": "0"})
            case "picky" if "max_tokens" in asked:
                return self._json(
                    {"error": {"message": "Unsupported parameter: 'max_tokens', use 'max_completion_tokens'"}}, 400
                )
            case "picky" if "temperature" in asked:
                return self._json({"error": {"message": "Unsupported value: 'temperature' does not support 0"}}, 400)
        text = _reply(model, asked["messages"])
        if asked.get("stream") and model != "whole":
            return self._stream(text, model)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        if asked.get("logprobs") and model not in ("word", "vague", "thinker"):
            choice["logprobs"] = {"content": _alternatives(text, asked["messages"])}
        self._json({"object": "chat.completion", "choices": [choice]})
        return None

    def _stream(self, text: str, model: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk(": ping\n\n")
        self._event({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        for n, piece in enumerate(re.findall(r".{1,3}", text, re.S)):
            if n == 5 and model == "garbled":
                self._chunk("data: {oops\n\n")
            if n == 5 and model == "failing":
                self._event({"error": {"message": "worker died"}})
            if n == 5 and model == "late":
                self.about.sleep(5)
            if n == 5 and model in ("cut", "late"):
                self.close_connection = True
                return
            self._event({"choices": [{"delta": {"content": piece}, "finish_reason": None}]})
        self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        self._event({"choices": [], "usage": {"total_tokens": 1}})
        self._chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, event: dict) -> None:
        self._chunk(f"data: {json.dumps(event)}\n\n")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()
        time.sleep(0)

    def _json(self, answer: dict, code: int = 200, headers: dict | None = None) -> None:
        self._raw(json.dumps(answer).encode(), code, {"Content-Type": "application/json", **(headers or {})})

    def _raw(self, body: bytes, code: int, headers: dict) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def told(messages: list[dict]) -> list[str]:
    """The texts of a conversation, with or without pictures."""
    return [m["content"] if isinstance(m["content"], str) else m["content"][-1]["text"] for m in messages]


def _reply(model: str, messages: list[dict]) -> str:
    texts = told(messages)
    asked, again = texts[-1], "Write it plainly" in texts[-1]
    if model == "looping" and "shown best" not in asked:
        return "The brows go up and " * 2000
    if "Write what is seen" in asked or "no part of the face moves" in asked:
        return _seen(model, asked, again)
    if "shown best" in asked:
        labels = re.search(r"shown best: (.+)\? Answer", asked)[1].split(", ")
        return "That is hard to tell from here." if model == "vague" else f"{labels[1].capitalize()}."
    if "There is no label" in asked or "not enough for a label" in asked:
        return "This is left open."
    if found := re.search(r"that the face shows (.+?), and", asked):
        label = found[1]
        if model == "swapped" and not again:
            label = next(other for other in ("sadness", "fear") if other != label)
        return f"**Reading:** This looks like {label}." if model == "thinker" else f"This looks like {label}."
    if found := re.search(r"movements fit (.+?), what", asked):
        return f"Taken together, the movements fit {found[1]}, as far as the numbers can be trusted."
    if model == "obliging":
        return "Yes, you are right, the face clearly shows fear."
    label, share = re.search(r"Label: (.+?)\. Shares: \1 ((?:over |under )?\d+%)", texts[0]).groups()
    return f"No, the label stays {label}, which has {share}."


def _seen(model: str, asked: str, again: bool) -> str:
    named = re.search(r"strength: (.+)\. Use no word", asked)
    codes = {name: code for code, name in PLAIN_NAMES.items()}
    pairs = [re.fullmatch(r"(.+) \((\w+)\)", item).groups() for item in named[1].split("; ")] if named else []
    phrases = [_phrase(codes[name], band) for name, band in pairs] or ["nothing stands out"]
    sentences = [f"{phrase[0].upper()}{phrase[1:]}." for phrase in phrases]
    if model == "stubborn" or (model == "leaky" and not again):
        sentences.append("The person looks happy.")
    if model == "thinker":
        items = "\n".join(f"- {sentence}" for sentence in sentences)
        return f"<think>\nShould I say happy?\n</think>\n\n**Key Observations:**\n{items}"
    return " ".join(sentences)


def _phrase(code: str, band: str) -> str:
    """A clause that the checks read as exactly this unit and band."""
    phrases = ACTION_UNITS[code].phrases[band]
    parsed = {phrase: [(m.action_unit, m.band, m.present) for m in mentions(phrase)] for phrase in phrases}
    return next((phrase for phrase in phrases if parsed[phrase] == [(code, band, True)]), phrases[0])


def _alternatives(text: str, messages: list[dict]) -> list[dict]:
    """Tokens of three letters: the labels share 0.9 with falling weights, the rest is chatter."""
    labels = re.search(r"shown best: (.+)\? Answer", told(messages)[-1])[1].split(", ")
    chosen = next(label for label in labels if label == text.strip(" .").lower())
    weights = {label: 0.5 if label == chosen else 0.4 / (len(labels) - 1) for label in labels}
    content, path = [], ""
    while path != chosen:
        open_now = {label: w for label, w in weights.items() if label.startswith(path)}
        total = sum(open_now.values()) / (0.9 if not path else 1)
        nexts: dict[str, float] = {}
        for label, weight in open_now.items():
            token = label[len(path) : len(path) + 3]
            nexts[token] = nexts.get(token, 0) + weight / total
        if not path:
            nexts["The"] = 0.1
        token = chosen[len(path) : len(path) + 3]
        top = [{"token": t, "logprob": _log(p), "bytes": None} for t, p in sorted(nexts.items(), key=lambda i: -i[1])]
        content.append({"token": token, "logprob": _log(nexts[token]), "bytes": None, "top_logprobs": top})
        path += token
    return content


def _log(p: float) -> float:
    from math import log

    return log(p) if p > 0 else -100.0
