"""Chat models behind an OpenAI-compatible address: vLLM, Ollama, llama.cpp's server, or a service on the internet.

Text goes to any address that the user names. Pictures are sent only if the user asked for it (`sees`).
"""

import base64
import io
import ipaddress
import json
import os
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from math import exp, log
from typing import Any

from PIL import Image

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.messages import Message
from emoreason.explain.explanation import Style

MAX_TOKENS = 2048  # stops runaway models, but leaves room for models that think first
TOP = 20  # alternatives per token to ask for: servers give no more
ATTEMPTS = 4  # tries while a server is busy
# Parameters that some servers refuse. After the first complaint about one, every request omits (or renames) it.
OPTIONAL = ("temperature", "max_tokens", "top_logprobs", "logprobs", "seed")
BUSY = (429, 502, 503, 504)
# Headers not to send: the client's facts about this machine and, from the environment, about the user.
UNSENT = ("OpenAI-Organization", "OpenAI-Project", "X-Stainless-Arch", "X-Stainless-Async", "X-Stainless-Lang",
          "X-Stainless-OS", "X-Stainless-Package-Version", "X-Stainless-Runtime",
          "X-Stainless-Runtime-Version")  # fmt: skip


class Endpoint:
    """A model on one server, called through `/v1/chat/completions`."""

    def __init__(
        self, address: str, model: str = "", *, sees: bool = False, timeout: float = 180.0, key: str | None = None
    ):
        """model: may be left out if the server has only one. timeout: seconds to wait for any data from the server."""
        from openai import DefaultHttpxClient, Omit, OpenAI

        self.address, self.host = _split_address(address)
        self.sees, self.timeout = sees, timeout
        self.local = _is_loopback(self.host)
        self.key = key if key is not None else _key(self.host)
        self._refused: set[str] = set()
        unsent = UNSENT if self.key else (*UNSENT, "Authorization")
        self._headers: Any = {"User-Agent": "emoreason", "Connection": "close", **dict.fromkeys(unsent, Omit())}
        self._client = OpenAI(
            base_url=self.address, api_key=self.key or "none", timeout=timeout, max_retries=0,
            # local requests must not go through a proxy of the environment, and a redirect must not receive the key
            http_client=DefaultHttpxClient(trust_env=not self.local, follow_redirects=False, timeout=timeout),
        )  # fmt: skip
        self.model = model or self._only_model()

    @property
    def name(self) -> str:
        return f"{self.address}#{self.model}"

    def complete(
        self, messages: Sequence[Message], images: Sequence[Image.Image] = (), style: Style = Style()
    ) -> Iterator[str]:
        from openai import APIConnectionError, APIError, APITimeoutError

        seed = {"seed": style.variation} if style.variation else {}
        response = self._ask(messages, images, stream=True, temperature=style.temperature or 0, **seed)
        if "text/event-stream" not in response.headers.get("Content-Type", ""):
            yield self._choice(response)["message"].get("content") or ""
            return
        ended = False
        with response.parse() as stream:
            try:
                for event in stream:
                    for choice in event.choices or ():
                        if choice.delta is not None and choice.delta.content:
                            yield choice.delta.content
                        ended = ended or choice.finish_reason is not None
            except json.JSONDecodeError as error:
                raise EmoreasonError(f"{self.address} sent a stream that is not JSON: {error.doc[:80]}") from None
            except APITimeoutError:
                raise self._timeout_error() from None
            except APIConnectionError:
                ended = False
            except APIError as error:
                raise EmoreasonError(f"{self.address} stopped with an error: {_error_message(error)}") from None
        if not ended:
            raise EmoreasonError(f"{self.address} broke off in the middle of its answer; look at the server's log")

    def score(
        self, messages: Sequence[Message], images: Sequence[Image.Image], options: Sequence[str]
    ) -> list[float] | None:
        """Computed from the alternatives to each token of the answer, if the server gives them."""
        if "logprobs" in self._refused:
            return None
        response = self._ask(messages, images, stream=False, logprobs=True, top_logprobs=TOP)
        content = (self._choice(response).get("logprobs") or {}).get("content")
        if not content or not any(token.get("top_logprobs") for token in content):
            self._refused.add("logprobs")  # not supported: do not ask again
            return None
        return read_alternatives(content, options)

    def _ask(self, messages: Sequence[Message], images: Sequence[Image.Image], **more: Any) -> Any:
        """The raw response. Retries if the server is busy, and leaves out parameters that it refuses."""
        from openai import APIStatusError

        payload = {"model": self.model, "messages": _as_dicts(messages, images if self.sees else ()), "temperature": 0,
                   "max_tokens": MAX_TOKENS, **more}  # fmt: skip
        for attempt in range(ATTEMPTS + len(OPTIONAL)):
            body = {key: value for key, value in payload.items() if key not in self._refused}
            if "max_tokens" in self._refused:
                body["max_completion_tokens"] = MAX_TOKENS
            try:
                return self._reach(lambda body=body: self._create(body))
            except APIStatusError as error:
                code, message = error.status_code, _error_message(error)
                refused = [name for name in OPTIONAL if name in body and name in message] if code in (400, 422) else []
                if refused:
                    self._refused.add(refused[0])
                elif code in BUSY and attempt < ATTEMPTS - 1:
                    time.sleep(_pause(error.response.headers.get("Retry-After"), attempt))
                else:
                    raise EmoreasonError(self._status_error(error)) from None
        raise EmoreasonError(f"{self.address} is still busy after {ATTEMPTS} attempts: try again later")

    def _create(self, body: dict[str, Any]) -> Any:
        return self._client.chat.completions.with_raw_response.create(**body, extra_headers=self._headers)

    def _reach(self, request: Any) -> Any:
        from openai import APIConnectionError, APITimeoutError

        try:
            return request()
        except APITimeoutError:
            raise self._timeout_error() from None
        except APIConnectionError as error:
            raise EmoreasonError(
                f"{self.address} cannot be reached ({error.__cause__ or error}). Is the server running, and is this "
                "its address up to /v1?"
            ) from None

    def _choice(self, response: Any) -> dict[str, Any]:
        try:
            answer = json.loads(response.http_response.read())
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EmoreasonError(
                f"{self.address} did not answer in JSON: is this the address of an OpenAI-compatible server?"
            )
        try:
            choice = answer["choices"][0]
            choice["message"].get("content")
        except (KeyError, IndexError, TypeError, AttributeError):
            excerpt = json.dumps(answer)[:120]
            raise EmoreasonError(f"{self.address} answered without a message in `choices`: {excerpt}") from None
        return choice

    def _timeout_error(self) -> EmoreasonError:
        return EmoreasonError(
            f"{self.address} sent nothing for {self.timeout:g} seconds; a smaller model answers sooner"
        )

    def _status_error(self, error: Any) -> str:
        code = error.status_code
        if code in (401, 403):
            reason = "the server refused the API key" if self.key else "the server requires an API key"
            return f"{self.address}: {reason} ({code}). Set it in the environment: EMOREASON_API_KEY=…"
        if code == 404:
            known = self._models()
            if known and self.model not in known:
                return f"{self.address} has no model {self.model!r}; it has {', '.join(known[:10])}"
            message = _error_message(error)
            return f"{self.address}/chat/completions does not exist (404): give the address up to /v1. {message}"
        if 300 <= code < 400:
            target = error.response.headers.get("Location", "another address")
            return f"{self.address} points to {target}: use that address"
        return f"{self.address} answered {code}: {_error_message(error)}"

    def _models(self) -> list[str]:
        """The models that the server lists; empty if it lists none."""
        from openai import APIStatusError

        try:
            response = self._reach(lambda: self._client.models.with_raw_response.list(extra_headers=self._headers))
            return [str(entry["id"]) for entry in json.loads(response.http_response.read())["data"]]
        except APIStatusError as error:
            if error.status_code == 404:  # no such route; _status_error would call _models again without end
                return []
            raise EmoreasonError(self._status_error(error)) from None
        except (ValueError, KeyError, TypeError):
            return []

    def _only_model(self) -> str:
        known = self._models()
        if len(known) == 1:
            return known[0]
        choice = f"it has {', '.join(known[:10])}" if known else "it does not list its models"
        raise UsageError(f"{self.address}: which model? {choice}. Write {self.address}#MODEL")


def _as_dicts(messages: Sequence[Message], images: Sequence[Image.Image]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"role": message.role, "content": message.content} for message in messages]
    if images:
        first = next(entry for entry in rows if entry["role"] == "user")
        pictures = [{"type": "image_url", "image_url": {"url": _data_uri(image)}} for image in images]
        first["content"] = [*pictures, {"type": "text", "text": first["content"]}]
    return rows


def _data_uri(image: Image.Image) -> str:
    """The pixels as a new PNG, without any metadata of the original file."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", image.size, image.convert("RGB").tobytes()).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _error_message(error: Any) -> str:
    """The message of an error response, which servers nest in different ways."""
    body = getattr(error, "body", None)
    message = body.get("message", body) if isinstance(body, dict) else body
    message = message.get("message", message) if isinstance(message, dict) else message
    return " ".join(str(message or error.message).split())[:300]


def _split_address(address: str) -> tuple[str, str]:
    """The address up to /v1, and its host."""
    try:
        parts = urllib.parse.urlsplit(address.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urllib.parse.urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or parts.query:
        raise UsageError(f"{address!r} is not a server address; expected http://HOST:PORT/v1")
    if parts.username or parts.password:
        raise UsageError("a key in the address ends up in logs: set it in the environment instead, EMOREASON_API_KEY=…")
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}", host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _key(host: str) -> str | None:
    """The API key for a host: EMOREASON_API_KEY for any, OPENAI_API_KEY only for OpenAI and local servers."""
    if key := os.environ.get("EMOREASON_API_KEY"):
        return key
    openai = host in ("api.openai.com",) or host.endswith((".openai.com", ".openai.azure.com"))
    return os.environ.get("OPENAI_API_KEY") if openai or _is_loopback(host) else None


def _pause(retry_after: str | None, attempt: int) -> float:
    """Seconds until the next attempt."""
    return min(float(retry_after), 30.0) if retry_after and retry_after.isdigit() else 0.5 * 2**attempt


def read_alternatives(content: Sequence[Mapping[str, Any]], options: Sequence[str]) -> list[float] | None:
    """Log-probabilities of the options, from the tokens of an answer and their alternatives; None if it is no option.

    Follows the answer token by token until only one option is left. An alternative that fits several options is split
    evenly among them; an option that never appears gets the smallest probability that does.
    """
    names = [option.casefold() for option in options]
    masses, path, reached = [0.0] * len(names), "", 1.0
    alternatives: list[float] = []
    chosen = None
    for token in content:
        probabilities = {str(other["token"]): exp(other["logprob"]) for other in token.get("top_logprobs") or ()}
        written = str(token["token"])
        probabilities[written] = exp(token["logprob"])
        for text, p in probabilities.items():
            if text == written:
                continue
            alternatives.append(reached * p)
            matching = _matching(path + text, names) if _plain(path + text) else []
            for at in matching:
                masses[at] += reached * p / len(matching)
        path, reached = path + written, reached * probabilities[written]
        if not _plain(path):
            continue
        candidates = _matching(path, names)
        if not candidates:
            return None
        if len(candidates) == 1:
            chosen = candidates[0]
            break
    if chosen is None:
        chosen = next((at for at, name in enumerate(names) if name == _plain(path)), None)
    if chosen is None:
        return None
    masses[chosen] += reached
    smallest = max(min([p for p in alternatives if p > 0] or [1e-6]), 1e-9)
    return [log(mass) if mass > 0 else log(min(smallest, masses[chosen])) for mass in masses]


def _plain(text: str) -> str:
    return text.casefold().strip(" \n\t\"'*`.,:;!?")


def _matching(text: str, names: Sequence[str]) -> list[int]:
    """Indices of the options that start with the text, or of the one that equals it if a mark follows."""
    plain = _plain(text)
    whole = [at for at, name in enumerate(names) if name == plain and text.rstrip()[-1:] in "\"'*`.,:;!?"]
    return whole or [at for at, name in enumerate(names) if name.startswith(plain)]
