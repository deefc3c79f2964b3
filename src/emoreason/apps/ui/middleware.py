"""Protects Gradio's routes: allows only those that the page uses, and only files that were uploaded.

Gradio fetches web pictures named in a payload or a file route. In a mounted app it also reads any file of the machine,
because it checks paths only when it launches itself. It also has routes for API clients and developers, and copies
sessions to disk for share links. The page needs none of this.
"""

import json
from pathlib import Path
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "/gradio_api/"
ALLOWED = ("queue", "run", "upload", "upload_progress", "heartbeat", "reset", "cancel", "info", "startup-events",
           "app_id", "login_check")  # fmt: skip
EVENTS = ("queue", "run", "cancel", "reset")
MAX_EVENT = 2**20  # bytes of an event; pictures are uploaded separately


class PageMiddleware:
    def __init__(self, app: ASGIApp, uploads: Path):
        self.app, self.uploads = app, uploads.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _, prefix, rest = scope.get("path", "").partition(PREFIX)
        if scope["type"] != "http" or not prefix:
            return await self.app(scope, receive, send)
        name = rest.partition("/")[0]
        if rest.startswith("file="):
            if "://" in rest or rest.startswith("file=http"):
                return await PlainTextResponse("Not allowed.", 403)(scope, receive, send)
        elif name not in ALLOWED:
            return await PlainTextResponse("Not Found", 404)(scope, receive, send)
        if scope["method"] != "POST" or name not in EVENTS:
            return await self.app(scope, receive, send)
        if (body := await _body(receive)) is None:
            return await PlainTextResponse("The event is too large.", 413)(scope, receive, send)
        if not self._uploaded(body):
            return await PlainTextResponse("Only uploaded files can be used.", 403)(scope, receive, send)
        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)

    def _uploaded(self, body: bytes) -> bool:
        """Whether every file that this event names is in the upload folder."""
        try:
            pending: list[Any] = [json.loads(body)]
        except (ValueError, RecursionError):
            return True  # Gradio rejects it
        while pending:
            value = pending.pop()
            if isinstance(value, dict):
                if isinstance(path := value.get("path"), str) and not self._inside(path):
                    return False
                pending += value.values()
            elif isinstance(value, list):
                pending += value
        return True

    def _inside(self, path: str) -> bool:
        try:
            return self.uploads in Path(path).resolve().parents
        except (OSError, ValueError, RuntimeError):  # not a valid file name
            return False


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or None if it is too large."""
    body = b""
    while len(body) <= MAX_EVENT:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
    return None
