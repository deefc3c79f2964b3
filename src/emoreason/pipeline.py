"""The steps from a picture to its measurements: open, find the faces, encode, measure.

Labeling, evaluation, fine-tuning and the page all use these functions. They keep no state: everything they need is an
argument.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from PIL import Image

from emoreason.core.errors import EmoreasonError
from emoreason.core.types import Evidence, Face, Picture
from emoreason.evidence.reader import Reader
from emoreason.faces.detect import Detector, find_faces, whole_picture
from emoreason.media.images import Limits, open_frames, open_picture
from emoreason.models.encoder import Encoder

MAX_ERROR = 300  # characters: some decoders put half a file into their message
NO_PIXELS = Image.new("RGB", (1, 1))  # replaces the image of a picture once its faces are cropped, to free memory

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Opened:
    """One source: its pictures (several for an animation) with their faces, or the reason why it cannot be read."""

    source: Any
    pictures: list[tuple[Picture, list[Face]]] = field(default_factory=list)
    error: str | None = None

    @property
    def n_faces(self) -> int:
        return sum(len(faces) for _, faces in self.pictures)


def detect(picture: Picture, detector: Detector | None) -> list[Face]:
    """The faces of a picture, left to right; without a detector the whole picture is one face."""
    return [whole_picture(picture)] if detector is None else find_faces(picture, detector)


def largest(faces: Iterable[Face]) -> Face | None:
    """The largest face: a data set's label is taken to be about this one."""
    return max(faces, key=lambda face: face.quality["size"], default=None)


def open_and_detect(
    source: Any,
    find: Callable[[Picture], list[Face]],
    limits: Limits = Limits(),
    frames: bool = False,
    reduce: Callable[[Picture, list[Face]], tuple[Picture, list[Face]]] = lambda picture, faces: (picture, faces),
) -> Opened:
    """Open one source and find its faces. Never raises: problems are reported in `error`.

    reduce: what to keep of a picture and its faces, applied before the next frame is opened."""
    try:
        pictures = open_frames(source, limits) if frames else [open_picture(source, limits)]
        return Opened(source, [reduce(picture, find(picture)) for picture in pictures])
    except EmoreasonError as error:
        return Opened(source, error=one_line(str(error)))
    except Exception as error:  # no decoder error may end a job that runs for a day
        return Opened(source, error=one_line(f"{type(error).__name__}: {error}"))


def shrink(picture: Picture, faces: list[Face], encoder: Encoder) -> tuple[Picture, list[Face]]:
    """Resize the crops to the encoder's input and drop the picture, so that little memory waits for a batch."""
    small = [replace(face, crop=Image.fromarray(encoder.pixels(face.crop))) for face in faces]
    return replace(picture, image=NO_PIXELS), small


def measure(
    pictures: Sequence[tuple[Picture, list[Face]]], reader: Reader, labels: tuple[str, ...], batch_size: int = 128
) -> list[list[Evidence]]:
    """The evidence of the faces of each picture; all faces go through the encoder together."""
    faces = [face for _, found in pictures for face in found]
    if not faces:
        return [[] for _ in pictures]
    features = reader.zeroshot.encoder.encode_faces([face.crop for face in faces], batch_size)
    evidence = iter(reader.read(features, labels, faces))
    return [[next(evidence) for _ in found] for _, found in pictures]


def in_order(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Run `work` on each item in the pool; yields results in order and computes at most `ahead` of them in advance."""
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def one_line(message: str) -> str:
    """An error message for a row: one line of valid UTF-8 with at most MAX_ERROR characters."""
    line = valid_utf8(" ".join(message.split()))
    return line if len(line) <= MAX_ERROR else line[: MAX_ERROR - 1] + "…"


def valid_utf8(text: str) -> str:
    """Escape the bytes of a file name that are not UTF-8."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
