"""Computes what training needs from each picture (fingerprint, face, encoder features) and caches it by content.

The key is the SHA-256 of the picture's bytes, in a folder for each encoder and way of cropping. Rows are written in
blocks, so a killed run continues with the pictures it has not seen yet.
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

PICTURES = 512  # pictures that are open at the same time
CROPS = ("auto", "yes", "no")  # values of data.crops


@dataclass(frozen=True)
class PictureFeatures:
    """Fingerprint and embedding of one picture. `embedding` is None if no face was found."""

    fingerprint: Fingerprint
    embedding: np.ndarray | None  # (D,) unit length


def feature_cache(encoder: Encoder, detector: Detector | None, folder: Path | None = None) -> RowCache:
    """The cache for this encoder and this way of cropping."""
    if folder is None:
        from platformdirs import user_cache_path

        folder = user_cache_path("emoreason") / "features"
    crop = "whole" if detector is None else f"{detector.name} {_crop_settings()}"
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
    """Yield each sample, without its bytes, with its features or with the reason why it cannot be read.

    Without a detector the whole picture is the face; of several faces the largest is used."""
    remaining, done, width = iter(samples), 0, 0
    new: dict[bytes, PictureFeatures] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        while batch := list(islice(remaining, PICTURES)):
            results = list(pool.map(lambda sample: _open(sample, encoder, detector, cache), batch))
            waiting = [result for result in results if not isinstance(result, str | PictureFeatures)]
            pixels = [result[2] for result in waiting if result[2] is not None]
            parts = [np.stack(pixels[start : start + 128]) for start in range(0, len(pixels), 128)]
            encoded = iter([row for part in parts for row in encoder.encode_pixels(part).embedding])
            for sample, result in zip(batch, results, strict=True):
                without_bytes = replace(sample, image=b"") if isinstance(sample.image, bytes) else sample
                if isinstance(result, str | PictureFeatures):
                    yield without_bytes, result
                    continue
                key, print_, crop = result
                features = PictureFeatures(print_, None if crop is None else np.array(next(encoded), np.float32))
                width = width if features.embedding is None else len(features.embedding)
                new |= {key: features} if key else {}
                yield without_bytes, features
            if width:  # unknown until the first face is found; until then the rows wait
                cache.add({key: _to_row(features, width) for key, features in new.items()})
                new = {}
            done += len(batch)
            progress(done)
    cache.add({key: _to_row(features, width) for key, features in new.items()})
    cache.flush()
    cache.prune()


def face_pixels(
    samples: Iterable[Sample], encoder: Encoder, detector: Detector | None, workers: int = 2
) -> Iterator[tuple[Sample, np.ndarray]]:
    """Yield each face in the encoder's input size, (S, S, 3) uint8; skip pictures that are unreadable or faceless."""
    remaining = iter(samples)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        while batch := list(islice(remaining, PICTURES)):
            for sample, pixels in zip(batch, pool.map(lambda s: _crop(s, encoder, detector), batch), strict=True):
                if pixels is not None:
                    yield sample, pixels


def are_face_crops(samples: Iterable[Sample], detector: Detector, limit: int = 24) -> tuple[bool, str]:
    """Whether the pictures are already face crops, and the reason for the decision."""
    sizes, n_filled, n_with_face = [], 0, 0
    for sample in samples:
        try:
            image = picture(sample)
        except EmoreasonError:
            continue
        sizes.append(max(image.size))
        boxes = find_faces(Picture(source=sample.id, image=image), detector) if sizes[-1] > 64 else []
        n_with_face += bool(boxes)
        n_filled += any(face.box and face.box[3] >= 0.6 * image.height for face in boxes)
        if len(sizes) == limit:
            break
    if not sizes:
        return False, "no picture could be read"
    median = int(np.median(sizes))
    if median <= 64:
        return True, f"they are about {median} pixels large, which is a face crop"
    if n_with_face and n_filled >= 0.8 * n_with_face and n_with_face >= len(sizes) / 2:
        return True, f"a face fills {n_filled} of the {len(sizes)} pictures looked at"
    return False, f"a face fills {n_filled or 'none'} of the {len(sizes)} pictures looked at"


def choose_detector(samples: Iterable[Sample], detector: Detector, crops: str) -> tuple[Detector | None, str]:
    """The detector that cuts the faces out, or None for face crops, and the reason.

    crops: data.crops; `auto` decides by looking at some samples."""
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
    """The largest face in the picture, or the picture itself without a detector; None if no face is found."""
    face = largest(detect(Picture(source=name, image=image), detector))
    return None if face is None else face.crop


def _key(sample: Sample) -> bytes:
    """SHA-256 of the picture's bytes. Empty (not cached) for pictures at a URL, whose content may change."""
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


def _crop_settings() -> str:
    """The constants that decide how a face is cropped."""
    search = [faces.MIN_SCORE, faces.SEARCH_SIZE, faces.FINE_SEARCH_SIZE, faces.SMALL_FACE]
    tight = [faces.TIGHT_SIZE, faces.TIGHT_BORDER]
    box = [faces.BOX_WIDTH, faces.BOX_HEIGHT, faces.BOX_CENTRE]
    level = [faces.LEVEL_MIN_ROLL, faces.LEVEL_MAX_SCORE, faces.LEVEL_MIN_SIZE]
    return repr([*search, *tight, *box, *level])
