"""State that all requests share: models, settings, metrics, and threads for blocking work."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from emoreason.apps.api.errors import ApiError
from emoreason.apps.api.metrics import Metrics
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.engine import Caller, Engine, Engines

MAX_OPEN = 256  # open requests under /v1: more than an engine queues, and each may block one thread
LOADING_S = 120.0  # seconds that a request waits for its model to load
T = TypeVar("T")


@dataclass(frozen=True)
class ApiSettings:
    api_key: str | None = None
    allow_urls: bool = False
    max_request_mb: int = 20
    max_pictures: int = 32  # per request
    max_pixels: int = 50_000_000  # per picture; all pictures of a request may have twice as many in total
    root_path: str = ""  # path prefix of this server behind a proxy


@dataclass
class Service:
    engines: Engines
    settings: ApiSettings
    metrics: Metrics
    started: int = field(default_factory=lambda: int(time.time()))
    open: int = 0  # open requests under /v1
    draining: bool = False  # shutting down: finishes running requests, refuses new ones
    # A waiting thread costs next to nothing, so every request can have one.
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(MAX_OPEN, "api"))
    # Opening pictures and finding faces costs time and memory, so only a few run at once.
    openers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(min(4, os.cpu_count() or 1), "api-open")
    )

    def engine(self, name: str | None) -> Engine:
        try:
            return self.engines[name or self.engines.default]
        except UsageError:
            known = ", ".join(self.engines.names)
            raise ApiError(
                404, f"There is no model {name!r}. Available: {known}.", param="model", code="model_not_found"
            ) from None

    async def caller(self, engine: Engine, stop: threading.Event) -> Caller:
        """The model for one request. Waits until it is loaded."""

        def ready() -> Caller:
            try:
                engine.wait_ready(LOADING_S)
            except EmoreasonError as error:
                headers = {"Retry-After": "10"}
                raise ApiError(503, str(error), code=f"model_{engine.state}", headers=headers) from error
            return engine.caller(stop)

        return await self.run(ready)

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Runs a blocking function in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)

    async def iterate(self, items: Iterator[T], stop: threading.Event) -> AsyncGenerator[T, None]:
        """Iterates over a blocking generator in a thread. Closes it when `stop` is set."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[tuple[T | None, BaseException | None]]()

        def work() -> None:
            end: BaseException = StopAsyncIteration()
            try:
                for item in items:
                    if stop.is_set():
                        break
                    loop.call_soon_threadsafe(queue.put_nowait, (item, None))
            except BaseException as error:
                end = error
            finally:
                items.close()  # type: ignore[attr-defined]  # generators have close()
            loop.call_soon_threadsafe(queue.put_nowait, (None, end))

        self.threads.submit(work)
        while True:
            item, end = await queue.get()
            if end is not None:
                if isinstance(end, StopAsyncIteration):
                    return
                raise end
            yield item  # type: ignore[misc]

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.openers.shutdown(wait=False, cancel_futures=True)


@asynccontextmanager
async def stop_on_disconnect(request: Request) -> AsyncIterator[threading.Event]:
    """An event that is set when the client disconnects, and at the latest when the block ends."""
    stop = threading.Event()

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        stop.set()

    watcher = asyncio.create_task(watch())
    try:
        yield stop
    finally:
        stop.set()
        watcher.cancel()
