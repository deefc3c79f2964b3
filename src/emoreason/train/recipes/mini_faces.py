"""Reads FER+ parquet files as arrays: faces, vote distributions, action-unit targets, and a held-out part."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoreason.core.errors import EmoreasonError
from emoreason.knowledge.emotions import label_set
from emoreason.train.recipes import mini_geometry as geometry

EMOTIONS = label_set("ferplus8").labels


@dataclass(frozen=True)
class FerplusFaces:
    """n faces, row by row."""

    names: np.ndarray  # (n,) FER+ file names
    pixels: np.ndarray  # (n, 48, 48) uint8
    votes: np.ndarray  # (n, 10) counts: the eight emotions, unknown, not_a_face
    units: np.ndarray  # (n, len(geometry.UNITS)) in 0..1, NaN where undetermined

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: np.ndarray) -> "FerplusFaces":
        return FerplusFaces(self.names[rows], self.pixels[rows], self.votes[rows], self.units[rows])

    @property
    def distribution(self) -> np.ndarray:
        """(n, 8): single votes are noise and become 0 (Barsoum et al.), the rest sums to 1."""
        votes = np.where(self.votes[:, :8] > 1, self.votes[:, :8], 0).astype(np.float32)
        return votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)

    @property
    def majority(self) -> np.ndarray:
        """(n,) class numbers by the `majority` protocol, -1 if no emotion has more than half of the votes."""
        votes = np.where(self.votes > 1, self.votes, 0)
        clear = votes[:, :8].max(axis=1) > 0.5 * votes.sum(axis=1)
        return np.where(clear, votes[:, :8].argmax(axis=1), -1)

    @property
    def digests(self) -> list[str]:
        return [hashlib.sha256(face.tobytes()).hexdigest() for face in self.pixels]


def read_faces(parquet: Path, landmarks: Path | None = None) -> FerplusFaces:
    """Read a parquet file, with action-unit targets if landmarks are given."""
    import pyarrow.parquet as pq
    from PIL import Image

    if not Path(parquet).is_file():
        raise EmoreasonError(f"no file {parquet}: give the FER+ parquet with --data.train or --data.validation")
    rows = pq.read_table(parquet, columns=["image", "votes"]).to_pylist()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("L")) for row in rows])
    names = np.array([row["image"]["path"] for row in rows])
    votes = np.array([row["votes"] for row in rows], dtype=np.float32)
    units = np.full((len(rows), len(geometry.UNITS)), np.nan, dtype=np.float32)
    if landmarks is not None:
        if not Path(landmarks).is_file():
            raise EmoreasonError(
                f"no landmarks at {landmarks}: make them with `python finetune/landmarks.py {parquet} {landmarks}`"
            )
        units = unit_targets(names, votes, landmarks)
    return FerplusFaces(names, pixels, votes, units)


def neutral_yardstick(names: np.ndarray, votes: np.ndarray, landmarks: Path) -> geometry.Neutral:
    """The neutral reference, fitted on faces with at least eight emotion votes, 80 % of them neutral."""
    return _fit_neutral(votes, *_landmarks(names, landmarks))


def _fit_neutral(votes: np.ndarray, points: np.ndarray, found: np.ndarray) -> geometry.Neutral:
    emotional = votes[:, :8].sum(axis=1)
    return geometry.fit_neutral(points[found & (emotional >= 8) & (votes[:, 0] >= 0.8 * emotional)])


def unit_targets(names: np.ndarray, votes: np.ndarray, landmarks: Path) -> np.ndarray:
    """(n, U) action-unit intensities of these faces, measured against the neutral ones among them."""
    points, found = _landmarks(names, landmarks)
    return geometry.intensities(points, _fit_neutral(votes, points, found))


def _landmarks(names: np.ndarray, landmarks: Path) -> tuple[np.ndarray, np.ndarray]:
    stored = np.load(landmarks)
    if not np.array_equal(stored["name"], names):
        raise EmoreasonError(f"{landmarks} was made from another file: its face names differ")
    return stored["points"].astype(np.float64), stored["found"]


def usable(faces: FerplusFaces) -> np.ndarray:
    """(n,) bool: whether an emotion has votes left, and neither `unknown` nor `not a face` has more."""
    emotions = faces.votes[:, :8]
    return (faces.distribution.sum(axis=1) > 0) & (emotions.max(axis=1) >= faces.votes[:, 8:].max(axis=1))


def split(train: FerplusFaces, held_out: set[str], holdout: int) -> tuple[FerplusFaces, FerplusFaces, dict[str, int]]:
    """Drop unusable faces, duplicates, and the faces named in `held_out` (copies of validation faces).

    Then hold out `holdout` faces for calibration, chosen by the hash of their pixels. Returns train, holdout and the
    number of dropped faces by reason."""
    digests, is_usable, seen = train.digests, usable(train), set()
    counts = {"unusable": int((~is_usable).sum()), "copies_of_validation": 0, "doubles": 0}
    for i in np.flatnonzero(is_usable):
        if train.names[i] in held_out:
            is_usable[i], counts["copies_of_validation"] = False, counts["copies_of_validation"] + 1
        elif digests[i] in seen:
            is_usable[i], counts["doubles"] = False, counts["doubles"] + 1
        seen.add(digests[i])
    rows = np.flatnonzero(is_usable)
    by_hash = rows[np.argsort([digests[i] for i in rows])]
    return train.take(np.sort(by_hash[holdout:])), train.take(np.sort(by_hash[:holdout])), counts
