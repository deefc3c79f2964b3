"""Runs the app with uvicorn, and finishes running answers before it stops."""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from emoreason.apps.api.service import Service
from emoreason.core.errors import EmoreasonError
from emoreason.engine import Engines

DRAIN_S = 30.0  # seconds that running answers get after the first signal
CLOSE_S = 1  # seconds for connections that never end by themselves, such as the page's heartbeats

log = logging.getLogger("emoreason.api")


class Server(uvicorn.Server):
    """On the first SIGTERM or SIGINT, refuses new requests and finishes running ones. On the second, stops at once.

    uvicorn alone would wait for every open connection, and the page keeps one open as long as it is shown."""

    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[], None]):
        super().__init__(config)
        self.service, self.on_ready = service, on_ready
        self.draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # not passed on to uvicorn, which would raise the signal again at the end: a requested stop exits with 0
        if self.service.draining:
            self.should_exit = self.force_exit = True
            return
        self.service.draining = True
        log.info("%s: finishing running answers", signal.Signals(sig).name)
        self.loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self.draining = asyncio.create_task(self._finish())

    async def _finish(self) -> None:
        deadline = time.monotonic() + DRAIN_S
        while self._busy() and time.monotonic() < deadline and not self.force_exit:
            await asyncio.sleep(0.05)
        self.should_exit = True

    def _busy(self) -> bool:
        """Whether API requests or answers on the page are still running."""
        engines = self.service.engines.loaded()
        return self.service.open > 0 or any(engine.running or engine.waiting for engine in engines)


def run(
    app: FastAPI,
    engines: Engines,
    host: str = "127.0.0.1",
    port: int = 8000,
    root_path: str = "",
    on_ready: Callable[[str], None] = lambda address: None,
    **options: Any,
) -> None:
    """Serves until SIGTERM or SIGINT, and returns when everything is finished. Calls `on_ready` with the address.

    port: 0 picks a free one. options: passed to uvicorn.Config, such as log_level."""
    service: Service = app.state.service
    if root_path:
        service.settings = replace(service.settings, root_path=root_path)
    listener = _listen(host, port)
    url_host = f"[{host}]" if ":" in host else host
    address = f"http://{url_host}:{listener.getsockname()[1]}"
    config = uvicorn.Config(app, timeout_graceful_shutdown=CLOSE_S, **{"log_level": "warning", **options})
    try:
        Server(config, service, lambda: on_ready(address)).run(sockets=[listener])
    finally:
        listener.close()
        engines.close(DRAIN_S)
        service.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EmoreasonError(f"cannot listen on {host}:{port}: {reason}. Choose another port with --port.") from error
