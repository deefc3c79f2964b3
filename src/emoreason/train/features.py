"""Every picture of a data set looked at once: its fingerprint, its face, the encoder's features. Kept by content.

The cache knows a picture by the SHA-256 of its bytes, inside a folder for the encoder and the way of cropping. It is
written piece by piece, so that a run that was killed goes on with the pictures that it has not seen.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
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

MOST = 2 << 30  # bytes that all encoders' files may take together
PICTURES = 512  # opened at a time, and at least so many stand in a file of the cache
CROPS = ("auto", "yes", "no")  # of data.crops
Row = dict[str, np.ndarray]


@dataclass(frozen=True)
class PictureFeatures:
    """What is known of one picture. `embedding` is None where no face was found."""

    print: Fingerprint
    embedding: np.ndarray | None  # (D,) unit length


class FeatureCache:
    """Files of up to a few hundred rows in the user's cache folder; a folder that cannot be written costs time only."""

    def __init__(self, encoder: Encoder, detector: Detector | None, folder: Path | None = None):
        if folder is None:
            from platformdirs import user_cache_path

            folder = user_cache_path("emoreason") / "features"
        crop = "whole" if detector is None else f"{detector.name} {_framing()}"
        key = f"{encoder.name} {encoder.revision} {encoder.mirror} {encoder.compute.dtype} {crop}"
        self.folder = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
        self.place: dict[bytes, tuple[Path, int]] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            for row, known in enumerate(self._load(path).get("keys", np.empty((0, 32), np.uint8))):
                self.place[known.tobytes()] = (path, row)
        self._rows = lru_cache(maxsize=8)(self._load)

    def get(self, key: bytes) -> PictureFeatures | None:
        if key not in self.place:
            return None
        path, row = self.place[key]
        rows = self._rows(path)
        if not rows:
            return None
        print_ = Fingerprint(rows["pixels"][row].tobytes().hex(), int(rows["hash"][row]), rows["look"][row].tobytes())
        return PictureFeatures(
            print_, rows["embedding"][row].copy() if rows["found"][row] else None
        )  # a view would keep the file

    def put(self, fresh: dict[bytes, PictureFeatures], width: int) -> None:
        if not fresh:
            return
        seen, nothing = list(fresh.values()), np.zeros(width, np.float32)
        rows: Row = {
            "keys": np.frombuffer(b"".join(fresh), np.uint8).reshape(-1, 32),
            "pixels": np.frombuffer(bytes.fromhex("".join(s.print.key for s in seen)), np.uint8).reshape(-1, 32),
            "hash": np.array([s.print.hash for s in seen], np.uint64),
            "look": np.frombuffer(b"".join(s.print.thumbnail for s in seen), np.uint8).reshape(len(seen), -1),
            "found": np.array([s.embedding is not None for s in seen], np.uint8),
            "embedding": np.stack([nothing if s.embedding is None else s.embedding for s in seen]),
        }
        write_cache_file(self.folder, rows)

    def prune(self, most: int = MOST) -> None:
        """What was not used for longest goes, of other encoders and other ways of cropping only."""
        try:
            self.folder.touch()  # a folder's time is that of its last run
            others = sorted(
                (f for f in self.folder.parent.iterdir() if f != self.folder), key=lambda f: f.stat().st_mtime
            )
            sizes = {f: sum(file.stat().st_size for file in f.iterdir()) for f in (*others, self.folder)}
            while others and sum(sizes.values()) > most:
                sizes.pop(oldest := others.pop(0))
                shutil.rmtree(oldest)
        except OSError:
            pass  # another run may be pruning as well

    @staticmethod
    def _load(path: Path) -> Row:
        from safetensors.numpy import load_file

        try:
            return load_file(path)
        except Exception:  # a damaged file makes the reader raise almost anything; its pictures are looked at again
            return {}


def write_cache_file(folder: Path, rows: Row) -> None:
    """A file of a cache, named by its keys: there when it is whole."""
    from safetensors.numpy import save_file

    name = hashlib.sha256(rows["keys"].tobytes()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
        os.close(handle)
        save_file(rows, temporary)
        os.replace(temporary, folder / f"{name}.safetensors")
    except OSError:
        pass  # full or read-only: the cache is a convenience


def compute_features(
    samples: Iterable[Sample],
    encoder: Encoder,
    detector: Detector | None,
    cache: FeatureCache,
    workers: int = 2,
    progress: Callable[[int], None] = lambda n: None,
) -> Iterator[tuple[Sample, PictureFeatures | str]]:
    """Each sample, without its bytes, and what was seen, or why nothing can be. Without a detector the picture is the
    face; of several faces the largest is taken."""
    rest, done, width = iter(samples), 0, 0
    kept: dict[bytes, PictureFeatures] = {}
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
                kept |= {key: seen} if key else {}
                yield light, seen
            if len(kept) >= PICTURES:
                cache.put(kept, width)
                kept = {}
            done += len(batch)
            progress(done)
    cache.put(kept, width)
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


def are_face_crops(samples: Iterable[Sample], detector: Detector, most: int = 24) -> tuple[bool, str]:
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
        if len(sizes) == most:
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
    sample: Sample, encoder: Encoder, detector: Detector | None, cache: FeatureCache
) -> tuple[bytes, Fingerprint, np.ndarray | None] | PictureFeatures | str:
    try:
        key = _key(sample)
        if (known := cache.get(key)) is not None:
            return known
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
