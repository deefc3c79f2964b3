"""Before Gradio's own routes: only those that the page uses, and no address that Gradio would fetch.

Gradio reads pictures of the web that a payload or a file route names, copies sessions to disk for links, and has routes
for programs and for developers. The page needs none of it.
"""

import json
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "/gradio_api/"
USED = ("queue", "run", "upload", "upload_progress", "heartbeat", "reset", "cancel", "info", "startup-events", "app_id",
        "login_check")  # fmt: skip
EVENTS = ("queue", "run", "cancel", "reset")
LARGEST_EVENT = 2**20  # bytes of what an event sends; pictures are uploaded before


class Guard:
    def __init__(self, app: ASGIApp):
        self.app = app

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
        if _names_address(body):
            return await PlainTextResponse("Pictures are uploaded here, not fetched.", 403)(scope, receive, send)
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, again, send)


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when it is too large."""
    body = b""
    while len(body) <= LARGEST_EVENT:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
    return None


def _names_address(body: bytes) -> bool:
    """Whether a file of this event has an address for its path."""
    try:
        waiting: list[Any] = [json.loads(body)]
    except (ValueError, RecursionError):
        return False  # Gradio refuses it
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if isinstance(path, str) and "://" in path:
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False
