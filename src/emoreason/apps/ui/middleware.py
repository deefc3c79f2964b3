"""Before Gradio's own routes: only those that the page uses, and no file that was not uploaded.

Gradio reads pictures of the web that a payload or a file route names, and, in an app that is mounted, any file of the
machine (it checks paths only where it was launched by itself). It copies sessions to disk for links, and has routes for
programs and for developers. The page needs none of it.
"""

import json
from pathlib import Path
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "/gradio_api/"
USED = ("queue", "run", "upload", "upload_progress", "heartbeat", "reset", "cancel", "info", "startup-events", "app_id",
        "login_check")  # fmt: skip
EVENTS = ("queue", "run", "cancel", "reset")
MAX_EVENT = 2**20  # bytes of what an event sends; pictures are uploaded before


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
        elif name not in USED:
            return await PlainTextResponse("Not Found", 404)(scope, receive, send)
        if scope["method"] != "POST" or name not in EVENTS:
            return await self.app(scope, receive, send)
        if (body := await _body(receive)) is None:
            return await PlainTextResponse("The event is too large.", 413)(scope, receive, send)
        if not self._uploaded(body):
            return await PlainTextResponse("Only what was uploaded is read.", 403)(scope, receive, send)
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, again, send)

    def _uploaded(self, body: bytes) -> bool:
        """Whether every file of this event lies in the folder of uploads."""
        try:
            waiting: list[Any] = [json.loads(body)]
        except (ValueError, RecursionError):
            return True  # Gradio refuses it
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                if isinstance(path := value.get("path"), str) and not self._inside(path):
                    return False
                waiting += value.values()
            elif isinstance(value, list):
                waiting += value
        return True

    def _inside(self, path: str) -> bool:
        try:
            return self.uploads in Path(path).resolve().parents
        except (OSError, ValueError, RuntimeError):  # a name that no file can have
            return False


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when it is too large."""
    body = b""
    while len(body) <= MAX_EVENT:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
    return None
