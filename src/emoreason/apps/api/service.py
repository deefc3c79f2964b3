"""What all requests share: the models, the settings, the counters, and the threads in which blocking work is done."""

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

MAX_OPEN = 256  # requests under /v1 at once: more than an engine lets wait, and each may keep one thread waiting
LOADING = 120.0  # seconds that a request waits for its model to be loaded
T = TypeVar("T")


@dataclass(frozen=True)
class ApiSettings:
    api_key: str | None = None
    allow_urls: bool = False
    max_request_mb: int = 20
    max_pictures: int = 32  # of one request
    max_pixels: int = 50_000_000  # of one picture; those of one request may have twice as many together
    root_path: str = ""  # the prefix under which a proxy shows this server


@dataclass
class Service:
    engines: Engines
    settings: ApiSettings
    metrics: Metrics
    started: int = field(default_factory=lambda: int(time.time()))
    open: int = 0  # requests under /v1 that are being answered
    draining: bool = False  # shutting down: what runs is finished, nothing new is taken
    # Waiting costs a thread next to nothing, so there is one for every request.
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(MAX_OPEN, "api"))
    # Opening pictures and finding faces costs time and memory: few at once.
    openers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(min(4, os.cpu_count() or 1), "api-open")
    )

    def engine(self, name: str | None) -> Engine:
        try:
            return self.engines[name or self.engines.default]
        except UsageError:
            known = ", ".join(self.engines.names)
            raise ApiError(
                404, f"There is no model {name!r} here; there is {known}.", param="model", code="model_not_found"
            ) from None

    async def caller(self, engine: Engine, stop: threading.Event) -> Caller:
        """The model for one request, once it is loaded."""

        def ready() -> Caller:
            try:
                engine.wait_ready(LOADING)
            except EmoreasonError as error:
                headers = {"Retry-After": "10"}
                raise ApiError(503, str(error), code=f"model_{engine.state}", headers=headers) from error
            return engine.caller(stop)

        return await self.run(ready)

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)

    async def walk(self, items: Iterator[T], stop: threading.Event) -> AsyncGenerator[T, None]:
        """A blocking iterator walked in a thread; it is closed there when `stop` is set."""
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
                items.close()  # type: ignore[attr-defined]  # generators have it
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
async def until_gone(request: Request) -> AsyncIterator[threading.Event]:
    """A stop event that is set when the client goes away, and in any case at the end."""
    stop = threading.Event()

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        stop.set()

    watching = asyncio.create_task(watch())
    try:
        yield stop
    finally:
        stop.set()
        watching.cancel()
