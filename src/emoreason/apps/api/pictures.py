"""Pictures of a request: from data URIs, from addresses where that is allowed, and never from the server's disk."""

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
from emoreason.explain.explanation import Question, Style
from emoreason.media.images import Limits, describe, is_data_uri, is_url, open_picture

DOWNLOAD_S = 10.0


class Budget:
    """Pixels that the pictures of one request may have together: a file of some kilobytes can hold millions."""

    def __init__(self, pixels: int):
        self.left, self._lock = pixels, threading.Lock()

    def open(self, source: str | bytes, name: str | None, limits: Limits) -> Picture:
        if self.left < 1:
            raise EmoreasonError(f"{name or describe(source)}: the pictures of this request are too large together.")
        picture = open_picture(source, limits)
        with self._lock:
            self.left -= picture.image.width * picture.image.height
        return replace(picture, source=name) if name else picture


async def open_all(
    service: Service, sources: Sequence[tuple[str | bytes, str | None]]
) -> list[Picture | EmoreasonError]:
    """(string or bytes, name) -> picture, or what is wrong with it."""
    settings = service.settings
    if len(sources) > settings.max_pictures:
        raise ApiError(
            400, f"{len(sources)} pictures in one request; {settings.max_pictures} are taken. Send several requests."
        )
    limits = Limits(
        max_bytes=settings.max_request_mb * 2**20,
        max_pixels=settings.max_pixels,
        timeout_s=DOWNLOAD_S,
        allow_private_hosts=False,
    )
    budget = Budget(2 * settings.max_pixels)

    async def one(source: str | bytes, name: str | None) -> Picture | EmoreasonError:
        # a slow server on the other side must not keep the few threads that open pictures
        pool = service.threads if is_url(source) else service.openers
        try:
            if isinstance(source, str):
                _check(source, settings.allow_urls)
            return await asyncio.get_running_loop().run_in_executor(pool, budget.open, source, name, limits)
        except EmoreasonError as error:
            return error

    opened = await asyncio.gather(*(one(source, name) for source, name in sources))
    bad = sum(isinstance(picture, EmoreasonError) for picture in opened)
    service.metrics.pictures.inc(len(opened) - bad)
    service.metrics.bad_pictures.inc(bad)
    return opened


def _check(source: str, allow_urls: bool) -> None:
    """A string is a data URI or an address: a path would let a client read what lies on this machine."""
    if is_data_uri(source):
        return
    if not source[:8].lower().startswith(("http://", "https://")):
        raise EmoreasonError(
            "A picture is a data URI here: data:image/jpeg;base64,… Paths and other forms are not read."
        )
    if not allow_urls:
        raise EmoreasonError(
            "This server does not fetch addresses. Send the picture itself as a data URI: data:image/jpeg;base64,…"
        )


class CountingModel:
    """A Caller whose faces are found in the few threads for that, and counted."""

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
        found = sum(len(faces) for _, faces in pictures)
        self.measured += found
        self._service.metrics.faces.inc(found)
        return self._caller.analyze_faces(pictures, labels)

    def explain(
        self, analyses: Sequence[Analysis], decide: str = "evidence", manner: Style = Style()
    ) -> Generator[Any, None, list[Analysis]]:
        return self._caller.explain(analyses, decide, manner)

    def answer(self, questions: Sequence[Question], manner: Style = Style()) -> Generator[Any, None, list[str]]:
        return self._caller.answer(questions, manner)
