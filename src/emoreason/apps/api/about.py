"""What the server says of itself: its models, whether it lives and is ready, and its counters."""

from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from emoreason.apps.api import responses as told
from emoreason.apps.api.service import Service
from emoreason.models.bundle import HUB_PREFIX, bundles


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.get("/v1/models", tags=["models"], summary="The models", response_model=told.Models)
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(service, name) for name in service.engines.names]}

    @routes.get("/v1/models/{name:path}", tags=["models"], summary="One model", response_model=told.Model)
    async def model(name: str) -> dict[str, Any]:
        if name not in service.engines.names:
            service.engine(name)  # says which there are
        return _model(service, name)

    @routes.get("/healthz", tags=["operation"], summary="The process lives", response_class=PlainTextResponse)
    async def healthz() -> str:
        return "ok\n"

    @routes.get(
        "/readyz",
        tags=["operation"],
        summary="The first model is loaded and requests are taken",
        response_model=told.Ready,
        responses={503: {"model": told.Ready, "description": "Not now; the reason is in the answer."}},
    )
    async def readyz() -> JSONResponse:
        engine = service.engines[service.engines.default]
        state = "draining" if service.draining else engine.state
        reason = {"draining": "running answers are finished, no new ones are begun", "failed": engine.problem}
        content = {"ready": state == "ready", "state": state, "reason": reason.get(state)}
        return JSONResponse(content, 200 if state == "ready" else 503)

    @routes.get("/metrics", tags=["operation"], summary="Counters for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics.text(service.engines.loaded()), media_type=CONTENT_TYPE_LATEST)

    return routes


@cache
def card(name: str) -> dict[str, Any]:
    """What is known of a model before it is loaded. It stays as it was when the server was first asked."""
    from emoreason.models.bundle import find_bundle
    from emoreason.models.registry import measured

    bundle = find_bundle(name)
    base = None
    if bundle and bundle.base:
        given = bundle.spec.get("merged_from", bundle.spec)
        place = Path(given["base"])
        base = f"{place.name if place.is_absolute() else given['base']} {given['base_revision']}"
    return {"base": base, "measured": measured(name)}


def _model(service: Service, name: str) -> dict[str, Any]:
    """Nothing is loaded for it."""
    engine = next((engine for engine in service.engines.loaded() if engine.name == name), None)
    reasoner = engine.reasoner if engine is not None and engine.state == "ready" else None
    place = str(reasoner.folder) if reasoner and reasoner.folder and name not in bundles() else name
    return {
        "id": name,
        "object": "model",
        "created": service.started,
        "owned_by": "emoreason",
        "state": engine.state if engine is not None else "idle",
        "revision": reasoner.revision if reasoner else None,
        "labels": list(reasoner.default_labels) if reasoner else None,
        "explains": reasoner.has_words if reasoner else None,
        **(card(place) if reasoner or not name.startswith(HUB_PREFIX) else {"base": None, "measured": None}),
    }
