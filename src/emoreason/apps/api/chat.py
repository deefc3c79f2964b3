"""`/v1/chat/completions`: conversations about pictures, in the protocol of OpenAI's clients."""

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

from emoreason.apps.api import responses
from emoreason.apps.api.errors import ApiError, as_api_error
from emoreason.apps.api.examples import CHAT
from emoreason.apps.api.pictures import CountingModel, open_all
from emoreason.apps.api.requests import ChatRequest, UserMessage
from emoreason.apps.api.service import Service, stop_on_disconnect
from emoreason.apps.api.stop_sequences import StopSequences
from emoreason.chat import ChatOptions, chat
from emoreason.core.errors import EmoreasonError
from emoreason.engine import Caller, Engine

HEARTBEAT = 10.0  # seconds of silence before a comment is sent, because proxies close idle connections
MAX_HISTORY = 8000  # characters kept of an earlier answer; more does not help to answer follow-up questions
SSE_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass
class Answer:
    """The text of an answer so far, and what its usage is counted from."""

    output: StopSequences
    caller: Caller
    model: CountingModel
    prompt_texts: list[str]

    def usage(self) -> dict[str, int]:
        count = self.caller.count_tokens
        prompt = sum(map(count, self.prompt_texts)) + self.caller.visual_tokens * self.model.measured
        completion = count(self.output.shown)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["chat"])

    @routes.post(
        "/v1/chat/completions",
        summary="Answer a conversation about pictures",
        response_model=None,
        responses={200: {"model": responses.Completion, "content": {"text/event-stream": {}}}},
        openapi_extra={"requestBody": {"content": {"application/json": {"examples": CHAT}}}},
    )
    async def complete(body: ChatRequest, request: Request) -> Response:
        """Send pictures to get an explanation of every face. Text is a question about these faces.

        With `stream`, the answer arrives as server-sent events."""
        engine = service.engine(body.model)
        common = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": engine.name}
        items = _with_heartbeats(_generate(service, engine, body, request))
        if body.stream:
            first = await _until_text(items)
            return StreamingResponse(
                _events(first, items, common, body), media_type="text/event-stream", headers=SSE_HEADERS
            )
        answer: Answer | None = None
        async for item in items:
            answer = item if isinstance(item, Answer) else answer
        assert answer is not None
        message = {"role": "assistant", "content": answer.output.shown, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.output.reason}
        usage, revision = await service.run(answer.usage), answer.caller.revision
        return JSONResponse({**common, "object": "chat.completion", "system_fingerprint": revision,
                             "choices": [choice], "usage": usage})  # fmt: skip

    return routes


async def _generate(
    service: Service, engine: Engine, body: ChatRequest, request: Request
) -> AsyncGenerator[Answer | str, None]:
    """Yields the Answer, then its text piece by piece. Closing the generator stops the model."""
    async with stop_on_disconnect(request) as stop:
        caller = await service.caller(engine, stop)
        if not caller.has_words:
            raise ApiError(400, f"{engine.name} has no language model: use /v1/emotions.", param="model")
        messages, prompt_texts = await _with_pictures(service, body)
        model, count = CountingModel(service, caller), caller.count_tokens
        answer = Answer(StopSequences(body.stop or (), body.token_limit, count), caller, model, prompt_texts)
        yield answer
        options = ChatOptions(body.label_names, body.detect, body.decide, body.style)
        async with aclosing(service.iterate(chat(model, messages, options), stop)) as pieces:
            async for piece in pieces:
                if text := answer.output.feed(piece):
                    yield text
                if answer.output.reason:
                    break
        if rest := answer.output.end():
            yield rest
        service.metrics.tokens.inc(count(answer.output.shown))


async def _with_pictures(service: Service, body: ChatRequest) -> tuple[list[dict[str, Any]], list[str]]:
    """The messages with their pictures opened, and all texts in them."""
    urls = [
        (i, j, part.image_url.url)
        for i, message in enumerate(body.messages)
        if isinstance(message, UserMessage)
        for j, part in enumerate(message.content)
        if part.image_url is not None
    ]
    opened = await open_all(service, [(url, None) for _, _, url in urls])
    pictures = {(i, j): picture for (i, j, _), picture in zip(urls, opened, strict=True)}
    for (i, j), picture in pictures.items():
        if isinstance(picture, EmoreasonError):
            path = f"messages[{i}].content[{j}].image_url"
            raise ApiError(400, f"{path}: {picture}", param=path, code="invalid_image")
    messages: list[dict[str, Any]] = []
    texts = []
    for i, message in enumerate(body.messages):
        if not isinstance(message, UserMessage):
            texts.append(message.text[:MAX_HISTORY])
            messages.append({"role": message.role, "content": texts[-1]})
            continue
        texts += [part.text for part in message.content if part.text]
        content = [
            {"type": "image", "image": pictures[i, j]} if (i, j) in pictures else {"type": "text", "text": part.text}
            for j, part in enumerate(message.content)
        ]
        messages.append({"role": "user", "content": content})
    return messages, texts


# ---- server-sent events ----------------------------------------------------------------------------------------------


async def _with_heartbeats(items: AsyncGenerator[Answer | str, None]) -> AsyncIterator[Answer | str | None]:
    """Passes the items on, and yields None after every HEARTBEAT seconds without one."""
    pending: asyncio.Future[Answer | str] | None = None
    try:
        while True:
            pending = asyncio.ensure_future(anext(items))
            while not (await asyncio.wait({pending}, timeout=HEARTBEAT))[0]:
                yield None
            try:
                yield pending.result()
            except StopAsyncIteration:
                return
    finally:
        if pending is not None:
            pending.cancel()


async def _until_text(items: AsyncIterator[Answer | str | None]) -> list[Answer | str | None]:
    """Takes items up to the first text or heartbeat. An error before that can still set the HTTP status."""
    first = []
    async for item in items:
        first.append(item)
        if not isinstance(item, Answer):
            break
    return first


async def _events(
    first: list[Answer | str | None],
    items: AsyncIterator[Answer | str | None],
    common: dict[str, Any],
    body: ChatRequest,
) -> AsyncIterator[str]:
    with_usage = body.stream_options is not None and body.stream_options.include_usage

    def chunk(delta: dict[str, Any], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if with_usage else {}
        return _event({**common, "object": "chat.completion.chunk", "choices": [choice], **usage})

    yield chunk({"role": "assistant", "content": ""})
    answer: Answer | None = None
    try:
        async for item in _chain(first, items):
            if isinstance(item, Answer):
                answer = item
            else:
                yield ": heartbeat\n\n" if item is None else chunk({"content": item})
        assert answer is not None
        yield chunk({}, answer.output.reason)
        if with_usage:
            usage = await asyncio.to_thread(answer.usage)
            yield _event({**common, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    except Exception as error:
        yield _event(as_api_error(error).content)
    yield "data: [DONE]\n\n"


async def _chain(first: list[Any], items: AsyncIterator[Any]) -> AsyncIterator[Any]:
    for item in first:
        yield item
    async for item in items:
        yield item


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
