"""The API over the mini for tests: in a thread of this process, and as a process of its own that gets signals."""

import asyncio
import base64
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx
import uvicorn
from fastapi.responses import StreamingResponse
from PIL import Image

import loaded
from emoreason.apps.api.app import ApiSettings, create_app
from emoreason.apps.api.metrics import Metrics
from emoreason.apps.api.server import run
from emoreason.apps.api.service import Service
from emoreason.engine import Engine, Engines

METRICS = Metrics()  # of the shared engines
ASTRONAUT = Path(__file__).resolve().parent.parent / "examples" / "astronaut.jpg"


@dataclass
class Running:
    address: str
    service: Service

    @property
    def engine(self) -> Engine:
        return self.service.engine(None)

    def client(self, **options) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=240, **options)


@cache
def engines() -> Engines:
    """The mini with its language model, loaded once for all tests of the API."""
    made = Engines({"mini": loaded.mini_with_words}, on_batch=METRICS.batch)
    made["mini"].wait_ready(120)
    return made


@contextmanager
def serving(models: Engines | None = None, **settings) -> Iterator[Running]:
    """A server on a free port of loopback. The engines stay open: several servers share one loaded model."""
    app = create_app(models or engines(), ApiSettings(**settings), METRICS if models is None else None)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    try:
        yield Running(f"http://127.0.0.1:{listening.getsockname()[1]}", app.state.service)
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


def wait_for(condition, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.01)


def data_uri(image: Image.Image | Path | None = None, kind: str = "JPEG") -> str:
    """The example picture, a file or an image as clients send them."""
    if isinstance(image, Image.Image):
        stream = io.BytesIO()
        image.save(stream, kind)
        content = stream.getvalue()
    else:
        content = (image or ASTRONAUT).read_bytes()
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}"


def pictured(text: str = "", uri: str | None = None) -> dict:
    """A user's message with a picture."""
    content: list[dict] = [{"type": "image_url", "image_url": {"url": uri or data_uri()}}]
    return {"role": "user", "content": content + ([{"type": "text", "text": text}] if text else [])}


def main() -> None:
    """`python tests/api_server.py`: serve the mini on a free port, print the address, end at SIGTERM."""
    models = engines()
    app = create_app(models)

    @app.get("/forever")
    async def forever() -> StreamingResponse:
        """What the page keeps open for as long as it is shown."""

        async def heartbeats():
            while True:
                yield "data: {}\n\n"
                await asyncio.sleep(0.2)

        return StreamingResponse(heartbeats(), media_type="text/event-stream")

    run(app, models, port=0, on_ready=lambda address: print(address, flush=True))
    print("bye", flush=True)


if __name__ == "__main__":
    main()
