"""ASGI middleware: API key, request limits, metrics, and unexpected errors.

Not built on BaseHTTPMiddleware, which buffers streamed answers and hides client disconnects.
"""

import hmac
import time

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emoreason.apps.api.errors import CLIENT_GONE, RETRY_AFTER, ApiError, as_api_error
from emoreason.apps.api.service import MAX_OPEN, Service

ROUTES = ("/v1/", "/healthz", "/readyz", "/metrics")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")


class MetricsMiddleware:
    """The outermost layer: counts requests and turns unexpected exceptions into error responses."""

    def __init__(self, app: ASGIApp, service: Service):
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if root := self.service.settings.root_path.rstrip("/"):
            scope["root_path"] = root  # set here, so it works whether or not the proxy strips the prefix
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, status = time.perf_counter(), 0

        async def watch_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch_status)
        except Exception as error:
            response = as_api_error(error).response()
            if not status:  # otherwise part of the response is already sent and can only be ended
                await response(scope, receive, watch_status)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.service.metrics.answered(_route(scope), method, status or CLIENT_GONE, time.perf_counter() - start)


class ApiMiddleware:
    """Guards /v1: checks the API key, the size of a request, and the number of open requests."""

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
            scheme, _, token = headers.get("authorization", "").partition(" ")
            token = token.strip() if scheme.lower() == "bearer" else ""
            if not hmac.compare_digest(token.encode(), key.encode()):
                message = "Incorrect API key. Send the header Authorization: Bearer KEY with the key of this server."
                challenge = {"WWW-Authenticate": "Bearer"}
                return ApiError(401, message, code="invalid_api_key", headers=challenge)
        retry = {"Retry-After": RETRY_AFTER}
        if service.draining:
            return ApiError(503, "This server is shutting down.", code="shutting_down", headers=retry)
        if service.open >= MAX_OPEN:
            return ApiError(503, f"{service.open} requests are already open.", code="busy", headers=retry)
        length = headers.get("content-length", "")
        return self._too_large() if length.isdigit() and int(length) > self._max_bytes else None

    @property
    def _max_bytes(self) -> int:
        return self.service.settings.max_request_mb * 2**20

    def _too_large(self) -> ApiError:
        return ApiError(
            413, f"The request is larger than {self.service.settings.max_request_mb} MiB. Send fewer or smaller "
            "pictures: a few hundred pixels per face are enough.", code="request_too_large",
        )  # fmt: skip

    def _limited(self, receive: Receive) -> Receive:
        """Counts the bytes as they arrive, because a chunked body has no Content-Length."""
        read = 0

        async def count_bytes() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_bytes:
                raise self._too_large()
            return message

        return count_bytes


def _path(scope: Scope) -> str:
    """The path as the router sees it, whether or not a proxy stripped its prefix."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    return path.removeprefix(root) if path.startswith(root + "/") else path


def _route(scope: Scope) -> str:
    """The route's template, or "other" for mounted apps and unknown addresses."""
    route = scope.get("route")
    return route.path if isinstance(route, APIRoute) and route.path.startswith(ROUTES) else "other"
