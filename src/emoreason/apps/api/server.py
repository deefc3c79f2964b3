"""Runs the app until it is told to stop, and stops without breaking an answer off."""

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

PATIENCE = 30.0  # seconds for the answers that are being written when the signal comes
GOODBYE = 1  # seconds for connections that never end by themselves, such as the heartbeats of the page

log = logging.getLogger("emoreason.api")


class Server(uvicorn.Server):
    """At the first SIGTERM or SIGINT it refuses what is new and finishes what runs; at the second it just stops.

    uvicorn alone would wait for every open connection, and the page keeps one open for as long as it is shown."""

    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[], None]):
        super().__init__(config)
        self.service, self.on_ready = service, on_ready
        self.draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # not passed on to uvicorn, which would raise the signal again at the end: a wished end is exit code 0
        if self.service.draining:
            self.should_exit = self.force_exit = True
            return
        self.service.draining = True
        log.info("%s: finishing running answers", signal.Signals(sig).name)
        self.loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self.draining = asyncio.create_task(self._finish())

    async def _finish(self) -> None:
        until = time.monotonic() + PATIENCE
        while self._busy() and time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(0.05)
        self.should_exit = True

    def _busy(self) -> bool:
        """Requests of the API, and what the page has asked of the models."""
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
    """Serve until SIGTERM or SIGINT; comes back when all is finished. port 0: any free one, told to `on_ready`.

    options: of uvicorn.Config, such as log_level."""
    service: Service = app.state.service
    if root_path:
        service.settings = replace(service.settings, root_path=root_path)
    listening = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"
    config = uvicorn.Config(app, timeout_graceful_shutdown=GOODBYE, **{"log_level": "warning", **options})
    try:
        Server(config, service, lambda: on_ready(address)).run(sockets=[listening])
    finally:
        listening.close()
        engines.close(PATIENCE)
        service.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EmoreasonError(f"{host}:{port} cannot be served: {reason}. Choose another with --port.") from error
