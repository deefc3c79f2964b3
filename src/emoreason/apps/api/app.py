"""Builds the FastAPI app: OpenAI's chat completions and typed emotions over shared models."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from emoreason import __version__
from emoreason.apps.api import about, chat, emotions, responses
from emoreason.apps.api.errors import add_handlers
from emoreason.apps.api.metrics import Metrics
from emoreason.apps.api.middleware import ApiMiddleware, MetricsMiddleware
from emoreason.apps.api.service import ApiSettings, Service
from emoreason.engine import Engines

__all__ = ["ApiSettings", "create_app"]

DESCRIPTION = """
Reads facial expressions and says why. Answers describe the *shown* expression, never what a person feels.

Not for emotion inference at work or in education (EU AI Act, article 5(1)(f)); not a lie detector, not a diagnosis.
"""
TAGS = [
    {"name": "emotions", "description": "Typed results: labels, action units, valence and arousal of every face."},
    {
        "name": "chat",
        "description": "Conversations in the protocol of OpenAI's chat completions. Works with its clients.",
    },
    {"name": "models", "description": "The models that this server offers."},
    {"name": "operation", "description": "Health checks and metrics. These need no API key."},
]


def create_app(engines: Engines, settings: ApiSettings = ApiSettings(), metrics: Metrics | None = None) -> FastAPI:
    """The app over `engines`. To count batches too, create them with `Engines(…, on_batch=metrics.batch)`."""
    service = Service(engines, settings, metrics or Metrics())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        _ = engines[engines.default]  # starts loading it
        yield

    app = FastAPI(
        title="emoreason",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        responses={"4XX": {"model": responses.Error}, "5XX": {"model": responses.Error}},
    )
    app.state.service = service
    for module in (emotions, chat, about):
        app.include_router(module.router(service))
    add_handlers(app)
    app.add_middleware(ApiMiddleware, service=service)
    app.add_middleware(MetricsMiddleware, service=service)  # added last, so it wraps ApiMiddleware
    return app
