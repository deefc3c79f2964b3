"""Endpoints about the server itself: its models, health checks, and metrics for Prometheus."""

from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from emoreason.apps.api import responses
from emoreason.apps.api.service import Service
from emoreason.models.bundle import HUB_PREFIX, bundles


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.get("/v1/models", tags=["models"], summary="List the models", response_model=responses.Models)
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(service, name) for name in service.engines.names]}

    @routes.get("/v1/models/{name:path}", tags=["models"], summary="Show one model", response_model=responses.Model)
    async def model(name: str) -> dict[str, Any]:
        if name not in service.engines.names:
            service.engine(name)  # raises a 404 that lists the known names
        return _model(service, name)

    @routes.get("/healthz", tags=["operation"], summary="Liveness: the process is up", response_class=PlainTextResponse)
    async def healthz() -> str:
        return "ok\n"

    @routes.get(
        "/readyz",
        tags=["operation"],
        summary="Readiness: the first model is loaded and requests are accepted",
        response_model=responses.Ready,
        responses={503: {"model": responses.Ready, "description": "Not ready. `reason` says why."}},
    )
    async def readyz() -> JSONResponse:
        engine = service.engines[service.engines.default]
        state = "draining" if service.draining else engine.state
        reason = {"draining": "finishing running answers, new requests are refused", "failed": engine.problem}
        content = {"ready": state == "ready", "state": state, "reason": reason.get(state)}
        return JSONResponse(content, 200 if state == "ready" else 503)

    @routes.get("/metrics", tags=["operation"], summary="Metrics for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics.text(service.engines.loaded()), media_type=CONTENT_TYPE_LATEST)

    return routes


@cache
def card(name: str) -> dict[str, Any]:
    """The base and the measured scores of a model, read without loading it. Cached until the server restarts."""
    from emoreason.models.bundle import find_bundle
    from emoreason.models.registry import measurements

    bundle = find_bundle(name)
    base = None
    if bundle and bundle.base:
        spec = bundle.spec.get("merged_from", bundle.spec)
        path = Path(spec["base"])
        base = f"{path.name if path.is_absolute() else spec['base']} {spec['base_revision']}"
    return {"base": base, "measured": measurements(name)}


def _model(service: Service, name: str) -> dict[str, Any]:
    """The entry of one model. Does not load it."""
    engine = next((engine for engine in service.engines.loaded() if engine.name == name), None)
    reasoner = engine.reasoner if engine is not None and engine.state == "ready" else None
    source = str(reasoner.folder) if reasoner and reasoner.folder and name not in bundles() else name
    return {
        "id": name,
        "object": "model",
        "created": service.started,
        "owned_by": "emoreason",
        "state": engine.state if engine is not None else "idle",
        "revision": reasoner.revision if reasoner else None,
        "labels": list(reasoner.default_labels) if reasoner else None,
        "explains": reasoner.has_words if reasoner else None,
        **(card(source) if reasoner or not name.startswith(HUB_PREFIX) else {"base": None, "measured": None}),
    }
