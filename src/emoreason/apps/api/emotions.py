"""`/v1/emotions`: send pictures, get typed results for every face."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from emoreason.analysis import Analysis
from emoreason.apps.api import responses
from emoreason.apps.api.errors import ApiError
from emoreason.apps.api.examples import EMOTIONS
from emoreason.apps.api.pictures import CountingModel, open_all
from emoreason.apps.api.requests import EmotionsOptions, EmotionsRequest, split_labels
from emoreason.apps.api.service import Service, stop_on_disconnect
from emoreason.core.errors import EmoreasonError
from emoreason.core.types import Picture
from emoreason.engine import Caller, Engine
from emoreason.explain.explanation import consume
from emoreason.media.images import describe

Sources = Sequence[tuple[str | bytes, str | None]]  # (data URI, URL or file content; name)
OK: dict[int | str, dict[str, Any]] = {200: {"model": responses.Emotions}}


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["emotions"])

    @routes.post(
        "/v1/emotions",
        summary="Read the faces in pictures",
        response_model=None,
        responses=OK,
        openapi_extra={"requestBody": {"content": {"application/json": {"examples": EMOTIONS}}}},
    )
    async def emotions(body: EmotionsRequest, request: Request) -> JSONResponse:
        """Every picture gets an entry. If one cannot be read, its entry says why, and the others are still analyzed."""
        return await answer(body, [(image.data, image.name) for image in body.images], request)

    @routes.post("/v1/emotions/files", summary="The same for uploaded files", response_model=None, responses=OK)
    async def files(
        request: Request,
        images: Annotated[list[UploadFile], File(description="Pictures.")],
        model: Annotated[str | None, Form()] = None,
        labels: Annotated[list[str] | None, Form(description="One field per label, or one field with commas.")] = None,
        label_set: Annotated[str | None, Form()] = None,
        detect: Annotated[bool, Form()] = True,
        explain: Annotated[bool, Form()] = False,
        decide: Annotated[str, Form()] = "evidence",
        brief: Annotated[bool, Form()] = False,
    ) -> JSONResponse:
        """Takes multipart forms, such as `curl -F images=@photo.jpg`."""
        try:
            body = EmotionsOptions.model_validate(
                {"model": model, "labels": split_labels(labels), "label_set": label_set, "detect": detect,
                 "explain": explain, "decide": decide, "brief": brief}
            )  # fmt: skip
        except ValidationError as error:
            raise RequestValidationError(
                [{**detail, "loc": ("body", *detail["loc"])} for detail in error.errors()]
            ) from error
        return await answer(body, [(await image.read(), image.filename) for image in images], request)

    async def answer(body: EmotionsOptions, sources: Sources, request: Request) -> JSONResponse:
        engine = service.engine(body.model)
        async with stop_on_disconnect(request) as stop:
            return JSONResponse(await _read(service, engine, body, sources, stop))

    return routes


async def _read(
    service: Service, engine: Engine, body: EmotionsOptions, sources: Sources, stop: threading.Event
) -> dict[str, Any]:
    caller = await service.caller(engine, stop)
    if body.explain and not caller.has_words:
        raise ApiError(400, f'{engine.name} has no language model. Leave out "explain".', param="explain")
    opened = await open_all(service, sources)
    pictures = [picture for picture in opened if isinstance(picture, Picture)]
    model = CountingModel(service, caller)
    loop = asyncio.get_running_loop()
    faces = await asyncio.gather(
        *(loop.run_in_executor(service.openers, caller.faces, picture, body.detect) for picture in pictures)
    )
    analyses = await service.run(model.analyze_faces, list(zip(pictures, faces, strict=True)), body.label_names)
    if body.explain:
        analyses = await service.run(_explain, caller, analyses, body)
        texts = [face.explanation.text for analysis in analyses for face in analysis.faces if face.explanation]
        service.metrics.tokens.inc(sum(map(caller.count_tokens, texts)))
    entries = iter(analyses)
    data = [
        next(entries).to_dict() if isinstance(picture, Picture) else _refused(source, name, picture)
        for picture, (source, name) in zip(opened, sources, strict=True)
    ]
    return {"object": "list", "model": engine.name, "data": data}


def _explain(caller: Caller, analyses: Sequence[Analysis], body: EmotionsOptions) -> list[Analysis]:
    pieces: Any = caller.explain(analyses, body.decide, body.style)
    return consume(pieces)


def _refused(source: str | bytes, name: str | None, error: EmoreasonError) -> dict[str, Any]:
    return {"source": name or describe(source)[:300], "error": str(error)}
