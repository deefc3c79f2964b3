"""Every picture of a data set looked at once: its fingerprint, its face, the encoder's features. Kept by content.

The cache knows a picture by the SHA-256 of its bytes, inside a folder for the encoder and the way of cropping. It is
written piece by piece, so that a run that was killed goes on with the pictures that it has not seen.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from PIL.Image import Image

from emoreason.core.errors import EmoreasonError
from emoreason.core.types import Picture
from emoreason.data.duplicates import Fingerprint, fingerprint_of, is_missing, picture
from emoreason.data.schema import Sample
from emoreason.faces import detect as faces
from emoreason.faces.detect import Detector, find_faces
from emoreason.media.images import is_data_uri, is_url
from emoreason.models.encoder import Encoder
from emoreason.pipeline import detect, largest
from emoreason.train.row_cache import Row, RowCache

PICTURES = 512  # opened at a time
CROPS = ("auto", "yes", "no")  # of data.crops


@dataclass(frozen=True)
class PictureFeatures:
    """What is known of one picture. `embedding` is None where no face was found."""

    fingerprint: Fingerprint
    embedding: np.ndarray | None  # (D,) unit length


def feature_cache(encoder: Encoder, detector: Detector | None, folder: Path | None = None) -> RowCache:
    """The cache of this encoder and this way of cropping."""
    if folder is None:
        from platformdirs import user_cache_path

        folder = user_cache_path("emoreason") / "features"
    crop = "whole" if detector is None else f"{detector.name} {_framing()}"
    return RowCache(f"{encoder.name} {encoder.revision} {encoder.mirror} {encoder.compute.dtype} {crop}", folder)


def _to_row(features: PictureFeatures, width: int) -> Row:
    print_, embedding = features.fingerprint, features.embedding
    return {
        "pixels": np.frombuffer(bytes.fromhex(print_.key), np.uint8),
        "hash": np.array(print_.hash, np.uint64),
        "look": np.frombuffer(print_.thumbnail, np.uint8),
        "found": np.array(embedding is not None, np.uint8),
        "embedding": np.zeros(width, np.float32) if embedding is None else embedding,
    }


def _from_row(row: Row) -> PictureFeatures:
    print_ = Fingerprint(row["pixels"].tobytes().hex(), int(row["hash"]), row["look"].tobytes())
    return PictureFeatures(print_, row["embedding"] if row["found"] else None)


def compute_features(
    samples: Iterable[Sample],
    encoder: Encoder,
    detector: Detector | None,
    cache: RowCache,
    workers: int = 2,
    progress: Callable[[int], None] = lambda n: None,
) -> Iterator[tuple[Sample, PictureFeatures | str]]:
    """Each sample, without its bytes, and what was seen, or why nothing can be. Without a detector the picture is the
    face; of several faces the largest is taken."""
    rest, done, width = iter(samples), 0, 0
    fresh: dict[bytes, PictureFeatures] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        while batch := list(islice(rest, PICTURES)):
            opened = list(pool.map(lambda sample: _open(sample, encoder, detector, cache), batch))
            waiting = [found for found in opened if not isinstance(found, str | PictureFeatures)]
            pixels = [found[2] for found in waiting if found[2] is not None]
            parts = [np.stack(pixels[start : start + 128]) for start in range(0, len(pixels), 128)]
            encoded = iter([row for part in parts for row in encoder.encode_pixels(part).embedding])
            for sample, found in zip(batch, opened, strict=True):
                light = replace(sample, image=b"") if isinstance(sample.image, bytes) else sample
                if isinstance(found, str | PictureFeatures):
                    yield light, found
                    continue
                key, print_, crop = found
                seen = PictureFeatures(print_, None if crop is None else np.array(next(encoded), np.float32))
                width = width if seen.embedding is None else len(seen.embedding)
                fresh |= {key: seen} if key else {}
                yield light, seen
            if width:  # else no face was found so far, and the rows wait for one
                cache.add({key: _to_row(seen, width) for key, seen in fresh.items()})
                fresh = {}
            done += len(batch)
            progress(done)
    cache.add({key: _to_row(seen, width) for key, seen in fresh.items()})
    cache.flush()
    cache.prune()


def face_pixels(
    samples: Iterable[Sample], encoder: Encoder, detector: Detector | None, workers: int = 2
) -> Iterator[tuple[Sample, np.ndarray]]:
    """The faces as the encoder takes them, (S, S, 3) uint8; what cannot be read or shows no face is left out."""
    rest = iter(samples)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        while batch := list(islice(rest, PICTURES)):
            for sample, pixels in zip(batch, pool.map(lambda s: _crop(s, encoder, detector), batch), strict=True):
                if pixels is not None:
                    yield sample, pixels


def are_face_crops(samples: Iterable[Sample], detector: Detector, limit: int = 24) -> tuple[bool, str]:
    """Whether the pictures are face crops already, and why one thinks so."""
    sizes, filled, found = [], 0, 0
    for sample in samples:
        try:
            image = picture(sample)
        except EmoreasonError:
            continue
        sizes.append(max(image.size))
        spots = find_faces(Picture(source=sample.id, image=image), detector) if sizes[-1] > 64 else []
        found += bool(spots)
        filled += any(face.box and face.box[3] >= 0.6 * image.height for face in spots)
        if len(sizes) == limit:
            break
    if not sizes:
        return False, "no picture could be read"
    middle = int(np.median(sizes))
    if middle <= 64:
        return True, f"they are about {middle} pixels large, which is a face crop"
    if found and filled >= 0.8 * found and found >= len(sizes) / 2:
        return True, f"a face fills {filled} of the {len(sizes)} pictures looked at"
    return False, f"a face fills {filled or 'none'} of the {len(sizes)} pictures looked at"


def choose_detector(samples: Iterable[Sample], detector: Detector, crops: str) -> tuple[Detector | None, str]:
    """With what faces are to be cut out, if at all, by data.crops or by the looks of some samples; and why."""
    if crops == "yes":
        return None, "taken as face crops, as asked"
    if crops == "no":
        return detector, "faces cut out, as asked"
    are_crops, why = are_face_crops(samples, detector)
    if are_crops:
        return None, f"the pictures are taken as face crops: {why} (--detect looks for faces all the same)"
    return detector, f"faces are looked for and cut out: {why} (--no-detect takes the pictures as they are)"


def _open(
    sample: Sample, encoder: Encoder, detector: Detector | None, cache: RowCache
) -> tuple[bytes, Fingerprint, np.ndarray | None] | PictureFeatures | str:
    try:
        key = _key(sample)
        if (row := cache.get(key)) is not None:
            return _from_row(row)
        image = picture(sample)
        return key, fingerprint_of(image), _face_of(sample, image, encoder, detector)
    except EmoreasonError as error:
        return str(error)


def _crop(sample: Sample, encoder: Encoder, detector: Detector | None) -> np.ndarray | None:
    try:
        return _face_of(sample, picture(sample), encoder, detector)
    except EmoreasonError:
        return None


def _face_of(sample: Sample, image: Image, encoder: Encoder, detector: Detector | None) -> np.ndarray | None:
    crop = largest_crop(image, detector, sample.id)
    return None if crop is None else encoder.pixels(crop)


def largest_crop(image: Image, detector: Detector | None, name: str = "") -> Image | None:
    """The picture, or the largest face that is found in it."""
    face = largest(detect(Picture(source=name, image=image), detector))
    return None if face is None else face.crop


def _key(sample: Sample) -> bytes:
    """SHA-256 of the picture's bytes; empty, and so never kept, for what stands at an address that may change."""
    if isinstance(sample.image, bytes):
        return hashlib.sha256(sample.image).digest() if sample.image else b""
    if is_data_uri(sample.image):
        return hashlib.sha256(sample.image.encode()).digest()
    if is_url(sample.image) or is_missing(sample) or not sample.image:
        return b""
    try:
        return hashlib.sha256(Path(sample.image).read_bytes()).digest()
    except OSError as error:
        raise EmoreasonError(f"{sample.image} cannot be read: {error.strerror or error}") from None


def _framing() -> str:
    """The numbers that decide what a crop is."""
    names = ("MIN_SCORE", "LOOK", "LOOK_CLOSER", "SMALL", "TINY", "TINY_BORDER", "BOX_WIDTH", "BOX_HEIGHT",
             "BOX_CENTRE", "LEVEL_FROM", "LEVEL_BELOW", "LEVEL_SIZE")  # fmt: skip
    return repr([getattr(faces, name) for name in names])
