"""The path of a picture, as plain functions on batches: open, find the faces, encode, measure.

Labeling, evaluation, fine-tuning and the page all map these functions over their pictures. They keep no state: whatever
they need is an argument.
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
NO_PIXELS = Image.new("RGB", (1, 1))  # replaces a picture whose faces were cropped: its rows need no pixels

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Opened:
    """One source with the faces of its pictures (several for an animation), or the reason why it cannot be read."""

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
    """The face that the label of a data set's picture is about."""
    return max(faces, key=lambda face: face.quality["size"], default=None)


def open_and_detect(
    source: Any, find: Callable[[Picture], list[Face]], limits: Limits = Limits(), frames: bool = False
) -> Opened:
    """Open one source and find its faces. It never raises: what goes wrong is in `error`."""
    try:
        pictures = open_frames(source, limits) if frames else [open_picture(source, limits)]
        return Opened(source, [(picture, find(picture)) for picture in pictures])
    except EmoreasonError as error:
        return Opened(source, error=one_line(str(error)))
    except Exception as error:  # whatever a decoder raises must not end a job that runs for a day
        return Opened(source, error=one_line(f"{type(error).__name__}: {error}"))


def shrink(opened: Opened, encoder: Encoder) -> Opened:
    """The same with crops of the encoder's size and without the pictures: small enough to wait for a batch."""
    pictures = [
        (
            replace(picture, image=NO_PIXELS),
            [replace(face, crop=Image.fromarray(encoder.pixels(face.crop))) for face in faces],
        )
        for picture, faces in opened.pictures
    ]
    return replace(opened, pictures=pictures)


def measure(
    pictures: Sequence[tuple[Picture, list[Face]]], reader: Reader, labels: tuple[str, ...], batch_size: int = 128
) -> list[list[Evidence]]:
    """The evidence of every face of every picture; all faces go through the encoder together."""
    faces = [face for _, found in pictures for face in found]
    if not faces:
        return [[] for _ in pictures]
    features = reader.zeroshot.encoder.encode_faces([face.crop for face in faces], batch_size)
    evidence = iter(reader.read(features, labels, faces))
    return [[next(evidence) for _ in found] for _, found in pictures]


def in_order(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """`work` on each item in the pool's threads, results in order, at most `ahead` of them computed in advance."""
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
    """An error message as a row holds it: one line of valid UTF-8, not too long."""
    line = valid_utf8(" ".join(message.split()))
    return line if len(line) <= MAX_ERROR else line[: MAX_ERROR - 1] + "…"


def valid_utf8(text: str) -> str:
    """The text with bytes that are not UTF-8 (in file names) escaped."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
