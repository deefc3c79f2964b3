"""`/v1/chat/completions`: a conversation about pictures, in the protocol that OpenAI's clients speak."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from emoreason.apps.api import responses as told
from emoreason.apps.api.errors import ApiError, as_api_error
from emoreason.apps.api.examples import CHAT
from emoreason.apps.api.pictures import CountingModel, open_all
from emoreason.apps.api.requests import ChatRequest, UserMessage
from emoreason.apps.api.service import Service, until_gone
from emoreason.apps.api.stop_sequences import StopSequences
from emoreason.chat import ChatOptions, chat
from emoreason.core.errors import EmoreasonError
from emoreason.engine import Caller, Engine

HEARTBEAT = 10.0  # seconds of silence after which a comment is sent: proxies cut connections on which nothing comes
REMEMBERED = 8000  # characters of an earlier answer; of those to many faces the rest is of no use
SSE = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass
class Answer:
    """What is known of an answer beside its text."""

    cut: StopSequences
    caller: Caller
    model: CountingModel
    texts: list[str]  # of the request

    def usage(self) -> dict[str, int]:
        count = self.caller.count_tokens
        asked = sum(map(count, self.texts)) + self.caller.visual_tokens * self.model.measured
        written = count(self.cut.shown)
        return {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["chat"])

    @routes.post(
        "/v1/chat/completions",
        summary="Answer a conversation about pictures",
        response_model=None,
        responses={200: {"model": told.Completion, "content": {"text/event-stream": {}}}},
        openapi_extra={"requestBody": {"content": {"application/json": {"examples": CHAT}}}},
    )
    async def complete(body: ChatRequest, request: Request) -> Response:
        """A message with pictures is answered by an explanation of every face; its text, and messages without
        pictures, are questions about these faces. With `stream` the answer comes as server-sent events."""
        engine = service.engine(body.model)
        common = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": engine.name}
        items = _lively(_written(service, engine, body, request))
        if body.stream:
            begun = await _begin(items)
            return StreamingResponse(_events(items, begun, common, body), media_type="text/event-stream", headers=SSE)
        answer: Answer | None = None
        async for item in items:
            answer = item if isinstance(item, Answer) else answer
        assert answer is not None
        message = {"role": "assistant", "content": answer.cut.shown, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.cut.reason}
        usage, revision = await service.run(answer.usage), answer.caller.revision
        return JSONResponse({**common, "object": "chat.completion", "system_fingerprint": revision,
                             "choices": [choice], "usage": usage})  # fmt: skip

    return routes


async def _written(
    service: Service, engine: Engine, body: ChatRequest, request: Request
) -> AsyncGenerator[Answer | str, None]:
    """What is known of the answer, then its text piece by piece. The model stops when this is closed."""
    async with until_gone(request) as stop:
        caller = await service.caller(engine, stop)
        if not caller.has_words:
            raise ApiError(400, f"{engine.name} has no language model; /v1/emotions gives its numbers.", param="model")
        messages, texts = await _with_pictures(service, body)
        model, count = CountingModel(service, caller), caller.count_tokens
        answer = Answer(StopSequences(body.stop or (), body.most_tokens, count), caller, model, texts)
        yield answer
        asking = ChatOptions(body.asked_labels, body.detect, body.decide, body.manner)
        async with aclosing(service.walk(chat(model, messages, asking), stop)) as pieces:
            async for piece in pieces:
                if shown := answer.cut.feed(piece):
                    yield shown
                if answer.cut.reason:
                    break
        if rest := answer.cut.end():
            yield rest
        service.metrics.tokens.inc(count(answer.cut.shown))


async def _with_pictures(service: Service, body: ChatRequest) -> tuple[list[dict[str, Any]], list[str]]:
    """The messages with their pictures opened, and all their texts."""
    places = [
        (i, j, part.image_url.url)
        for i, message in enumerate(body.messages)
        if isinstance(message, UserMessage)
        for j, part in enumerate(message.content)
        if part.image_url is not None
    ]
    opened = await open_all(service, [(url, None) for _, _, url in places])
    pictures = {(i, j): picture for (i, j, _), picture in zip(places, opened, strict=True)}
    for (i, j), picture in pictures.items():
        if isinstance(picture, EmoreasonError):
            place = f"messages[{i}].content[{j}].image_url"
            raise ApiError(400, f"{place}: {picture}", param=place, code="invalid_image")
    messages: list[dict[str, Any]] = []
    said = []
    for i, message in enumerate(body.messages):
        if not isinstance(message, UserMessage):
            said.append(message.text[:REMEMBERED])
            messages.append({"role": message.role, "content": said[-1]})
            continue
        said += [part.text for part in message.content if part.text]
        content = [
            {"type": "image", "image": pictures[i, j]} if (i, j) in pictures else {"type": "text", "text": part.text}
            for j, part in enumerate(message.content)
        ]
        messages.append({"role": "user", "content": content})
    return messages, said


# ---- as server-sent events -------------------------------------------------------------------------------------------


async def _lively(items: AsyncGenerator[Answer | str, None]) -> AsyncIterator[Answer | str | None]:
    """The same items, and None where nothing came for a while."""
    coming: asyncio.Future[Answer | str] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(anext(items))
            while not (await asyncio.wait({coming}, timeout=HEARTBEAT))[0]:
                yield None
            try:
                yield coming.result()
            except StopAsyncIteration:
                return
    finally:
        if coming is not None:
            coming.cancel()


async def _begin(items: AsyncIterator[Answer | str | None]) -> list[Answer | str | None]:
    """Up to the first piece of text, or the first silence: what fails by then still gets a status of its own."""
    begun = []
    async for item in items:
        begun.append(item)
        if not isinstance(item, Answer):
            break
    return begun


async def _events(
    items: AsyncIterator[Answer | str | None],
    begun: list[Answer | str | None],
    common: dict[str, Any],
    body: ChatRequest,
) -> AsyncIterator[str]:
    with_usage = body.stream_options is not None and body.stream_options.include_usage

    def chunk(delta: dict[str, Any], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        more = {"usage": None} if with_usage else {}
        return _event({**common, "object": "chat.completion.chunk", "choices": [choice], **more})

    yield chunk({"role": "assistant", "content": ""})
    answer: Answer | None = None
    try:
        async for item in _chained(begun, items):
            if isinstance(item, Answer):
                answer = item
            else:
                yield ": still at it\n\n" if item is None else chunk({"content": item})
        assert answer is not None
        yield chunk({}, answer.cut.reason)
        if with_usage:
            usage = await asyncio.to_thread(answer.usage)
            yield _event({**common, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    except Exception as error:
        yield _event(as_api_error(error).content)
    yield "data: [DONE]\n\n"


async def _chained(begun: list[Any], items: AsyncIterator[Any]) -> AsyncIterator[Any]:
    for item in begun:
        yield item
    async for item in items:
        yield item


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
