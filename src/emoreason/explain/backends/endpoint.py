"""Chat models behind an OpenAI-compatible address: vLLM, Ollama, llama.cpp's server, or a service on the internet.

Text goes to any address that the user names. Pictures go out only where the user asked for it (`sees`).
"""

import base64
import http.client
import io
import ipaddress
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.messages import Message
from emoreason.explain.backends.alternatives import read_alternatives
from emoreason.explain.explanation import Style

MOST_TOKENS = 2048  # a cap for runaway models; those that think first need room for it
TOP = 20  # the most alternatives per token that servers give
ATTEMPTS = 4  # where a server is busy
LONGEST_LINE = 1 << 20  # of a stream, in bytes
# Parameters that some servers refuse; each is left out (or renamed) for good after the first complaint.
_OPTIONAL = ("temperature", "max_tokens", "top_logprobs", "logprobs", "seed")
_BUSY = (429, 502, 503, 504)


class Endpoint:
    """`/v1/chat/completions` of one server."""

    def __init__(
        self, address: str, model: str = "", *, sees: bool = False, timeout: float = 180.0, key: str | None = None
    ):
        """model: may be left out where the server has one only. timeout: seconds without a sign of life."""
        self.address, self.host = _checked(address)
        self.sees, self.timeout = sees, timeout
        self.local = _is_loopback(self.host)
        self._key = key if key is not None else _key(self.host)
        self._refused: set[str] = set()
        # a proxy of the environment must not get what is meant for this machine; and no key follows a redirection
        direct = [urllib.request.ProxyHandler({})] if self.local else []
        self._opener = urllib.request.build_opener(_NoRedirects, *direct)
        self.model = model or self._only_model()

    @property
    def name(self) -> str:
        return f"{self.address}#{self.model}"

    def complete(
        self, messages: Sequence[Message], images: Sequence[Image.Image] = (), manner: Style = Style()
    ) -> Iterator[str]:
        again = {"seed": manner.variation} if manner.variation else {}
        with self._post(messages, images, stream=True, temperature=manner.temperature or 0, **again) as response:
            if "text/event-stream" not in response.headers.get("Content-Type", ""):
                yield _choice(self._json(response), self.address)["message"].get("content") or ""
                return
            ended = False
            for event in self._events(response):
                for choice in event.get("choices") or ():
                    if piece := (choice.get("delta") or {}).get("content"):
                        yield piece
                    ended = ended or choice.get("finish_reason") is not None
                ended = ended or event.get("done", False)
            if not ended:
                raise EmoreasonError(f"{self.address} broke off in the middle of its answer; look at the server's log")

    def score(
        self, messages: Sequence[Message], images: Sequence[Image.Image], options: Sequence[str]
    ) -> list[float] | None:
        """Read from the alternatives to the tokens of its answer, where the server gives them."""
        if "logprobs" in self._refused:
            return None
        with self._post(messages, images, stream=False, logprobs=True, top_logprobs=TOP) as response:
            content = (_choice(self._json(response), self.address).get("logprobs") or {}).get("content")
        if not content or not any(token.get("top_logprobs") for token in content):
            self._refused.add("logprobs")  # it does not know them: it is not asked again
            return None
        return read_alternatives(content, options)

    def _post(
        self, messages: Sequence[Message], images: Sequence[Image.Image], **more: Any
    ) -> http.client.HTTPResponse:
        payload = {"model": self.model, "messages": _told(messages, images if self.sees else ()), "temperature": 0,
                   "max_tokens": MOST_TOKENS, **more}  # fmt: skip
        for attempt in range(ATTEMPTS + len(_OPTIONAL)):
            body = {key: value for key, value in payload.items() if key not in self._refused}
            if "max_tokens" in self._refused:
                body["max_completion_tokens"] = MOST_TOKENS
            try:
                return self._open("chat/completions", json.dumps(body).encode())
            except urllib.error.HTTPError as error:
                with error:
                    said = _message(error.read(65536))
                named = (
                    next((p for p in _OPTIONAL if p in body and p in said), None) if error.code in (400, 422) else None
                )
                if named:
                    self._refused.add(named)
                elif error.code in _BUSY and attempt < ATTEMPTS - 1:
                    time.sleep(_pause(error.headers.get("Retry-After"), attempt))
                else:
                    raise EmoreasonError(self._explained(error, said)) from None
        raise EmoreasonError(f"{self.address} stays busy: try again later")

    def _open(self, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        headers = {"User-Agent": "emoreason", "Accept": "application/json, text/event-stream"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(f"{self.address}/{path}", data=body, headers=headers)
        try:
            return self._opener.open(request, timeout=self.timeout)
        except urllib.error.HTTPError:
            raise
        except TimeoutError:
            raise self._silent() from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, TimeoutError):
                raise self._silent() from None
            raise EmoreasonError(f"{self.address} cannot be reached ({reason}). Is the server running, and is this its "
                                 "address up to /v1?") from None  # fmt: skip

    def _json(self, response: http.client.HTTPResponse) -> dict[str, Any]:
        try:
            given = json.loads(response.read())
        except TimeoutError:
            raise self._silent() from None
        except (OSError, ValueError, http.client.HTTPException):
            given = None
        if not isinstance(given, dict):
            raise EmoreasonError(
                f"{self.address} did not answer in JSON: is this the address of an OpenAI-compatible server?"
            )
        return given

    def _events(self, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        while True:
            try:
                line = response.readline(LONGEST_LINE)
            except TimeoutError:
                raise self._silent() from None
            except (OSError, http.client.HTTPException):
                return  # the caller tells that it broke off
            if not line:
                return
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                yield {"done": True}
                return
            try:
                event = json.loads(data)
            except ValueError:
                event = None
            if not isinstance(event, dict):
                raise EmoreasonError(
                    f"{self.address} sent a stream that is not JSON: {data[:80].decode(errors='replace')}"
                )
            if "error" in event:
                raise EmoreasonError(f"{self.address} stopped with an error: {_message(data)}")
            yield event

    def _silent(self) -> EmoreasonError:
        return EmoreasonError(f"{self.address} was silent for {self.timeout:g} seconds; a smaller model answers sooner")

    def _explained(self, error: urllib.error.HTTPError, said: str) -> str:
        if error.code in (401, 403):
            given = "the key was refused" if self._key else "it wants a key"
            return f"{self.address}: {given} ({error.code}). Put it into the environment: EMOREASON_API_KEY=…"
        if error.code == 404:
            known = self._models()
            if known and self.model not in known:
                return f"{self.address} has no model {self.model!r}; it has {', '.join(known[:10])}"
            return f"{self.address}/chat/completions does not exist (404): give the address up to /v1. {said}".strip()
        if 300 <= error.code < 400:
            return f"{self.address} points to {error.headers.get('Location', 'another address')}: give that one"
        return f"{self.address} answered {error.code}: {said or error.reason}"

    def _models(self) -> list[str]:
        try:
            with self._open("models") as response:
                return [str(entry["id"]) for entry in self._json(response)["data"]]
        except (EmoreasonError, urllib.error.HTTPError, KeyError, TypeError):
            return []

    def _only_model(self) -> str:
        try:
            with self._open("models") as response:
                known = [str(entry["id"]) for entry in self._json(response)["data"]]
        except urllib.error.HTTPError as error:
            with error:
                raise EmoreasonError(self._explained(error, _message(error.read(65536)))) from None
        except (KeyError, TypeError):
            known = []
        if len(known) == 1:
            return known[0]
        choice = f"it has {', '.join(known[:10])}" if known else "it does not tell which it has"
        raise UsageError(f"{self.address}: which model? {choice}. Write {self.address}#MODEL")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _told(messages: Sequence[Message], images: Sequence[Image.Image]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = [{"role": said.role, "content": said.content} for said in messages]
    if images:
        first = next(entry for entry in told if entry["role"] == "user")
        pictures = [{"type": "image_url", "image_url": {"url": _data_uri(image)}} for image in images]
        first["content"] = [*pictures, {"type": "text", "text": first["content"]}]
    return told


def _data_uri(image: Image.Image) -> str:
    """Pixels only: a fresh PNG carries none of the file's metadata."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", image.size, image.convert("RGB").tobytes()).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _choice(answer: Mapping[str, Any], address: str) -> dict[str, Any]:
    try:
        choice = answer["choices"][0]
        choice["message"].get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise EmoreasonError(f"{address} answered without a message in `choices`: {json.dumps(answer)[:120]}") from None
    return choice


def _message(body: bytes) -> str:
    """What an error says, whatever its form."""
    try:
        given = json.loads(body)
    except ValueError:
        return " ".join(body[:200].decode(errors="replace").split())
    said = given.get("error", given.get("message", given)) if isinstance(given, dict) else given
    said = said.get("message", said) if isinstance(said, dict) else said
    return str(said)[:300]


def _checked(address: str) -> tuple[str, str]:
    """The address up to /v1, and its host."""
    try:
        parts = urllib.parse.urlsplit(address.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urllib.parse.urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or parts.query:
        raise UsageError(f"{address!r} is no address of a server: http://HOST:PORT/v1 was expected")
    if parts.username or parts.password:
        raise UsageError("a key in the address ends up in logs: put it into the environment, EMOREASON_API_KEY=…")
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}", host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _key(host: str) -> str | None:
    """EMOREASON_API_KEY goes to the address that was named; OpenAI's own key only to OpenAI."""
    if key := os.environ.get("EMOREASON_API_KEY"):
        return key
    openai = host in ("api.openai.com",) or host.endswith((".openai.com", ".openai.azure.com"))
    return os.environ.get("OPENAI_API_KEY") if openai or _is_loopback(host) else None


def _pause(asked: str | None, attempt: int) -> float:
    """Seconds until the next attempt."""
    return min(float(asked), 30.0) if asked and asked.isdigit() else 0.5 * 2**attempt
