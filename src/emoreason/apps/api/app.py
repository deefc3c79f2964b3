"""The HTTP API put together: OpenAI's chat completions and typed emotions over shared models."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from emoreason import __version__
from emoreason.apps.api import about, chat, emotions
from emoreason.apps.api import responses as told
from emoreason.apps.api.errors import add_handlers
from emoreason.apps.api.metrics import Metrics
from emoreason.apps.api.middleware import ApiMiddleware, MetricsMiddleware
from emoreason.apps.api.service import ApiSettings, Service
from emoreason.engine import Engines

__all__ = ["ApiSettings", "create_app"]

DESCRIPTION = """
Reads facial expressions and says why. The answers speak of the *shown* expression, never of what a person feels.

Not for emotion inference at work or in education (EU AI Act, article 5(1)(f)); not a lie detector, not a diagnosis.
"""
TAGS = [
    {"name": "emotions", "description": "Numbers: labels, action units, valence and arousal of every face."},
    {"name": "chat", "description": "Words: the protocol of OpenAI's chat completions. Its clients work unchanged."},
    {"name": "models", "description": "The models that this server was started with."},
    {"name": "operation", "description": "For those who run the server. No key is asked for here."},
]


def create_app(engines: Engines, settings: ApiSettings = ApiSettings(), metrics: Metrics | None = None) -> FastAPI:
    """metrics: where the engines count their batches as well, `Engines(…, on_batch=metrics.batch)`."""
    service = Service(engines, settings, metrics or Metrics())

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        _ = engines[engines.default]  # begins to load it
        yield

    app = FastAPI(
        title="emoreason",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=life,
        responses={"4XX": {"model": told.Error}, "5XX": {"model": told.Error}},
    )
    app.state.service = service
    for part in (emotions, chat, about):
        app.include_router(part.router(service))
    add_handlers(app)
    app.add_middleware(ApiMiddleware, service=service)
    app.add_middleware(MetricsMiddleware, service=service)  # added last, so that it is around the guard
    return app
