"""Plain ASGI around the routes: who may ask, how much, and how long it took.

No BaseHTTPMiddleware: it holds answers back that are streamed, and hides that a client went away.
"""

import hmac
import time

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emoreason.apps.api.errors import RETRY_AFTER, ApiError, as_api_error
from emoreason.apps.api.service import MAX_OPEN, Service

OURS = ("/v1/", "/healthz", "/readyz", "/metrics")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")


class MetricsMiddleware:
    """Around everything: counts requests, and turns what nobody expected into a short sentence."""

    def __init__(self, app: ASGIApp, service: Service):
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if root := self.service.settings.root_path.rstrip("/"):
            scope["root_path"] = root  # here, so that it does not matter whether the proxy takes the prefix off
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except Exception as error:
            response = as_api_error(error).response()
            if not status:  # else half an answer is out already, and all that is left is to end it
                await response(scope, receive, sent)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.service.metrics.answered(_route(scope), method, status or 499, time.perf_counter() - begun)


class ApiMiddleware:
    """Before /v1: the key, the size of the request, and the number of requests."""

    def __init__(self, app: ASGIApp, service: Service):
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _path(scope).startswith("/v1/"):
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        if refusal := self._refusal(headers):
            return await refusal.response()(scope, receive, send)
        service = self.service
        service.open += 1
        service.metrics.open.set(service.open)
        try:
            await self.app(scope, self._limited(receive), send)
        finally:
            service.open -= 1
            service.metrics.open.set(service.open)

    def _refusal(self, headers: Headers) -> ApiError | None:
        service, key = self.service, self.service.settings.api_key
        if key is not None:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            given = given.strip() if scheme.lower() == "bearer" else ""
            if not hmac.compare_digest(given.encode(), key.encode()):
                message = "Incorrect API key. Send the header Authorization: Bearer KEY with the key of this server."
                wants = {"WWW-Authenticate": "Bearer"}
                return ApiError(401, message, code="invalid_api_key", headers=wants)
        again = {"Retry-After": RETRY_AFTER}
        if service.draining:
            return ApiError(503, "This server is shutting down.", code="shutting_down", headers=again)
        if service.open >= MAX_OPEN:
            return ApiError(503, f"{service.open} requests are open already.", code="busy", headers=again)
        length = headers.get("content-length", "")
        return self._too_large() if length.isdigit() and int(length) > self._most_bytes else None

    @property
    def _most_bytes(self) -> int:
        return self.service.settings.max_request_mb * 2**20

    def _too_large(self) -> ApiError:
        return ApiError(
            413, f"The request is larger than {self.service.settings.max_request_mb} MiB. Send fewer or smaller "
            "pictures: a face needs no more than some hundred pixels.", code="request_too_large",
        )  # fmt: skip

    def _limited(self, receive: Receive) -> Receive:
        """Counts what really comes: a body in chunks has no length in its header."""
        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most_bytes:
                raise self._too_large()
            return message

        return limited


def _path(scope: Scope) -> str:
    """The path as the router sees it: a proxy may or may not have taken its prefix off."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    return path.removeprefix(root) if path.startswith(root + "/") else path


def _route(scope: Scope) -> str:
    """The route's template; whatever else is mounted, and addresses that do not exist, are one."""
    route = scope.get("route")
    return route.path if isinstance(route, APIRoute) and route.path.startswith(OURS) else "other"
