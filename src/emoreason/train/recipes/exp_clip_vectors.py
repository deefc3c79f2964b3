"""What the encoder and the teacher say of each face: looked at once, and kept by content."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from emoreason.core.errors import EmoreasonError
from emoreason.data.duplicates import picture
from emoreason.data.schema import Sample
from emoreason.faces.detect import Detector
from emoreason.train.features import largest_crop, write_cache_file

ROWS = 512  # vectors in a file


class VectorCache:
    """Vectors by the key of a picture, for one model and one way of looking; a cache folder that cannot be written
    costs time only. They are float16: a teacher's 4,096 numbers for 50,000 faces are then 0.4 GB."""

    def __init__(self, who: str, folder: Path | None = None):
        from platformdirs import user_cache_path
        from safetensors.numpy import load_file

        base = folder or user_cache_path("emoreason") / "exp-clip"
        self.folder = base / hashlib.sha256(who.encode()).hexdigest()[:16]
        self.rows: dict[bytes, np.ndarray] = {}
        self.fresh: dict[bytes, np.ndarray] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                stored = load_file(path)
                self.rows |= {key.tobytes(): row for key, row in zip(stored["keys"], stored["rows"], strict=True)}
            except Exception:  # a damaged file makes the reader raise almost anything; its faces are looked at again
                continue

    def __contains__(self, key: bytes) -> bool:
        return key in self.rows

    def __getitem__(self, key: bytes) -> np.ndarray:
        return self.rows[key]

    def add(self, rows: Mapping[bytes, np.ndarray]) -> None:
        small = {key: row.astype(np.float16) for key, row in rows.items()}
        self.rows |= small
        self.fresh |= small
        if len(self.fresh) >= ROWS:
            self.flush()

    def flush(self) -> None:
        if not self.fresh:
            return
        keys = np.frombuffer(b"".join(self.fresh), np.uint8).reshape(len(self.fresh), -1)
        write_cache_file(self.folder, {"keys": keys, "rows": np.stack(list(self.fresh.values()))})
        self.fresh = {}


@dataclass(frozen=True)
class VectorSource:
    kept: VectorCache
    see: Callable[[Sequence[Image.Image]], np.ndarray]  # B crops -> (B, width)


@dataclass(frozen=True)
class FaceVectors:
    """A face."""

    sample: Sample  # without its bytes
    key: bytes  # of its pixels
    vectors: list[np.ndarray]  # one by each looker


def face_vectors(
    samples: Iterator[Sample],
    detector: Detector | None,
    lookers: Sequence[VectorSource],
    size: int,
    say: Callable[[str], None],
) -> Iterator[FaceVectors]:
    """Each face, at which each looker looks once; `size` pictures are open at a time."""
    done, lost = 0, 0
    while batch := list(islice(samples, size)):
        opened = [(sample, _opened(sample)) for sample in batch]
        images = [
            (sample, hashlib.sha256(repr(i.size).encode() + i.tobytes()).digest(), i) for sample, i in opened if i
        ]
        new = [(key, image) for _, key, image in images if any(key not in looker.kept for looker in lookers)]
        crops = {key: found for key, image in new if (found := largest_crop(image, detector)) is not None}
        for looker in lookers:
            if missing := [key for key in crops if key not in looker.kept]:
                looker.kept.add(dict(zip(missing, looker.see([crops[key] for key in missing]), strict=True)))
        known = [(sample, key) for sample, key, _ in images if all(key in looker.kept for looker in lookers)]
        for sample, key in known:
            light = dataclasses.replace(sample, image=b"") if isinstance(sample.image, bytes) else sample
            yield FaceVectors(light, key, [looker.kept[key] for looker in lookers])
        lost += len(batch) - len(known)
        done += len(batch)
        if done // 1000 > (done - len(batch)) // 1000:
            say(f"{done} faces looked at")
    for looker in lookers:
        looker.kept.flush()
    if lost:
        say(f"{lost} pictures cannot be read or show no face")


def _opened(sample: Sample) -> Image.Image | None:
    try:
        return picture(sample).convert("RGB")
    except EmoreasonError:
        return None
