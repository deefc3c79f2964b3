"""Opens the pictures of a request: data URIs, URLs if allowed, never files on the server."""

import asyncio
import threading
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from emoreason.analysis import Analysis
from emoreason.apps.api.errors import ApiError
from emoreason.apps.api.service import Service
from emoreason.core.errors import EmoreasonError
from emoreason.core.types import Face, Picture
from emoreason.engine import Caller
from emoreason.explain.explanation import Answer, Question, Style
from emoreason.media.images import Limits, describe, is_data_uri, is_url, open_picture

DOWNLOAD_S = 10.0  # seconds


class Budget:
    """Limits the total pixels of one request, because a file of a few kilobytes can hold millions."""

    def __init__(self, pixels: int):
        self.remaining, self._lock = pixels, threading.Lock()

    def open(self, source: str | bytes, name: str | None, limits: Limits) -> Picture:
        if self.remaining < 1:
            raise EmoreasonError(f"{name or describe(source)}: too many pixels in this request.")
        picture = open_picture(source, limits)
        with self._lock:
            self.remaining -= picture.image.width * picture.image.height
        return replace(picture, source=name) if name else picture


async def open_all(
    service: Service, sources: Sequence[tuple[str | bytes, str | None]]
) -> list[Picture | EmoreasonError]:
    """Opens all (source, name) pairs. Gives each picture, or the error of one that cannot be read."""
    settings = service.settings
    if len(sources) > settings.max_pictures:
        limit = settings.max_pictures
        raise ApiError(400, f"{len(sources)} pictures in one request; at most {limit} are allowed. Split the request.")
    limits = Limits(
        max_bytes=settings.max_request_mb * 2**20,
        max_pixels=settings.max_pixels,
        timeout_s=DOWNLOAD_S,
        allow_private_hosts=False,
    )
    budget = Budget(2 * settings.max_pixels)

    async def open_one(source: str | bytes, name: str | None) -> Picture | EmoreasonError:
        # a slow download must not block the few threads that open pictures
        pool = service.threads if is_url(source) else service.openers
        try:
            if isinstance(source, str):
                _check_source(source, settings.allow_urls)
            return await asyncio.get_running_loop().run_in_executor(pool, budget.open, source, name, limits)
        except EmoreasonError as error:
            return error

    opened = await asyncio.gather(*(open_one(source, name) for source, name in sources))
    failed = sum(isinstance(picture, EmoreasonError) for picture in opened)
    service.metrics.pictures.inc(len(opened) - failed)
    service.metrics.bad_pictures.inc(failed)
    return opened


def _check_source(source: str, allow_urls: bool) -> None:
    """Allows data URIs and, if enabled, URLs. Paths would let clients read files of the server."""
    if is_data_uri(source):
        return
    if not source[:8].lower().startswith(("http://", "https://")):
        raise EmoreasonError("Send pictures as data URIs: data:image/jpeg;base64,… Paths are not accepted.")
    if not allow_urls:
        raise EmoreasonError(
            "This server does not fetch URLs. Send the picture as a data URI: data:image/jpeg;base64,…"
        )


class CountingModel:
    """A Caller that counts faces, and finds them in the service's small thread pool."""

    def __init__(self, service: Service, caller: Caller):
        self._service, self._caller = service, caller
        self.measured = 0

    @property
    def name(self) -> str:
        return self._caller.name

    @property
    def has_words(self) -> bool:
        return self._caller.has_words

    def faces(self, picture: Picture, detect: bool = True) -> list[Face]:
        return self._service.openers.submit(self._caller.faces, picture, detect).result()

    def analyze_faces(
        self, pictures: Sequence[tuple[Picture, list[Face]]], labels: Sequence[str] | None = None
    ) -> list[Analysis]:
        n_faces = sum(len(faces) for _, faces in pictures)
        self.measured += n_faces
        self._service.metrics.faces.inc(n_faces)
        return self._caller.analyze_faces(pictures, labels)

    def explain(
        self, analyses: Sequence[Analysis], decide: str = "evidence", style: Style = Style()
    ) -> Generator[Any, None, list[Analysis]]:
        return self._caller.explain(analyses, decide, style)

    def answer(self, questions: Sequence[Question], style: Style = Style()) -> Generator[Any, None, list[Answer]]:
        return self._caller.answer(questions, style)
