"""Faces of a real size without labels: cropped to FER2013's framing by the teacher's landmarks."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoreason.core.errors import EmoreasonError
from emoreason.train.recipes.face_targets import FaceTargets, Landmarks

REPORTED = 0.8  # subjects whose hash is above this share are for reports only


@dataclass(frozen=True)
class WildFaces:
    """n faces, row by row."""

    names: np.ndarray  # (n,)
    pixels: np.ndarray  # (n, 48, 48) uint8
    targets: FaceTargets


def is_reported(subject: str) -> bool:
    """Whether a person's faces are kept for reports: the last 20 % of the people by hash."""
    return int(hashlib.sha256(subject.encode()).hexdigest()[:8], 16) / 16**8 >= REPORTED


def read_wild(parquet: Path, landmarks: Path, ranges: np.ndarray) -> WildFaces:
    """The faces whose people are not kept for reports and on which the teacher found a face."""
    import pyarrow.parquet as pq

    rows = pq.read_table(parquet, columns=["image", "subject"]).to_pylist()
    found = Landmarks.read(landmarks)
    names = np.array([row["image"]["path"] for row in rows])
    if not np.array_equal(found.names, names):
        raise EmoreasonError(f"{landmarks} was made from another file than {parquet}: its face names differ")
    frames = found.frames()
    kept = np.array([i for i, row in enumerate(rows) if found.found[i] and not is_reported(row["subject"])])
    pixels = np.stack([cut(rows[i]["image"]["bytes"], frames[i]) for i in kept])
    return WildFaces(names[kept], pixels, found.targets(frames, ranges).take(kept))


def cut(encoded: bytes, frame: np.ndarray) -> np.ndarray:
    """A picture and a square (left, top, side) -> (48, 48) uint8; what lies outside repeats the border."""
    from PIL import Image

    picture = np.asarray(Image.open(io.BytesIO(encoded)).convert("L"))
    left, top, side = (round(float(x)) for x in frame)
    side = max(side, 8)
    pad = max(0, -left, -top, left + side - picture.shape[1], top + side - picture.shape[0])
    picture = np.pad(picture, pad, mode="edge")
    square = picture[top + pad : top + pad + side, left + pad : left + pad + side]
    return np.asarray(Image.fromarray(square).resize((48, 48), Image.Resampling.BICUBIC, reducing_gap=2.0))
