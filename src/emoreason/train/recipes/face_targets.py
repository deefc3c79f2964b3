"""The teacher's answers as training targets: landmarks, blendshapes and head pose in the frame of a 48-pixel crop.

They come from `finetune/landmarks.py`. Faces without FER+'s framing are cropped to it by their landmarks.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoreason.core.errors import EmoreasonError
from emoreason.models.face_head import BLENDSHAPES

# Where the landmarks' bounding box lies in a FER+ picture (medians over train), as shares of its side.
FRAME = {"x": 0.502, "y": 0.551, "width": 0.825, "height": 0.925}
TOP = 0.99  # quantile of a blendshape over the training faces that becomes 1: the teacher hardly uses some of them
FRONTAL = 15.0  # degrees
FLAT = 0.02  # blendshapes whose TOP quantile is below this carry nothing


@dataclass(frozen=True)
class FaceTargets:
    """n faces, row by row; NaN where the teacher found no face."""

    points: np.ndarray  # (n, 478, 2) in the crop, -1..1
    blendshapes: np.ndarray  # (n, 52) on 0..1, scaled by their range
    pose: np.ndarray  # (n, 3) degrees: yaw, pitch, roll

    def take(self, rows: np.ndarray) -> "FaceTargets":
        return FaceTargets(self.points[rows], self.blendshapes[rows], self.pose[rows])

    @property
    def found(self) -> np.ndarray:
        return ~np.isnan(self.pose[:, 0])


@dataclass(frozen=True)
class Landmarks:
    """The file that `finetune/landmarks.py` writes."""

    names: np.ndarray  # (n,)
    found: np.ndarray  # (n,) bool
    points: np.ndarray  # (n, 478, 3) in pixels of the picture
    blendshapes: np.ndarray  # (n, 52)
    rotation: np.ndarray  # (n, 3, 3)

    @classmethod
    def read(cls, path: Path) -> "Landmarks":
        stored = np.load(path)
        if "blendshapes" not in stored:
            raise EmoreasonError(f"{path} has no blendshapes: make it again with finetune/landmarks.py")
        if tuple(stored["blendshape_names"]) != BLENDSHAPES:
            raise EmoreasonError(f"{path}: the blendshapes have other names than expected: {BLENDSHAPES[:3]}…")
        return cls(stored["name"], stored["found"], stored["points"].astype(np.float32),
                   stored["blendshapes"].astype(np.float32), stored["rotation"])  # fmt: skip

    def frames(self) -> np.ndarray:
        """(n, 3) left, top and side of the square that FER2013 would have cut, in pixels; NaN without a face."""
        xy = self.points[..., :2]
        low, high = xy.min(axis=1), xy.max(axis=1)
        side = ((high - low) / (FRAME["width"], FRAME["height"])).mean(axis=1)
        corner = (low + high) / 2 - side[:, None] * (FRAME["x"], FRAME["y"])
        return np.concatenate([corner, side[:, None]], axis=1)

    def targets(self, frames: np.ndarray, ranges: np.ndarray) -> FaceTargets:
        """The targets in these square frames (n, 3); `ranges` (52,) are those of `blendshape_ranges`."""
        points = (self.points[..., :2] - frames[:, None, :2]) / frames[:, None, 2:] * 2 - 1
        return FaceTargets(points, np.clip(self.blendshapes / ranges, 0, 1), pose_degrees(self.rotation))


def blendshape_ranges(blendshapes: np.ndarray) -> np.ndarray:
    """(n, 52) -> (52,) the values that become 1; infinite for blendshapes that the teacher never uses."""
    top = np.nanquantile(blendshapes, TOP, axis=0)
    return np.where(top < FLAT, np.inf, top)


def pose_degrees(rotation: np.ndarray) -> np.ndarray:
    """(n, 3, 3) rotations of the head towards the camera, whose y axis points up -> (n, 3) yaw, pitch, roll."""
    yaw = np.arctan2(rotation[:, 0, 2], rotation[:, 2, 2])
    pitch = np.arcsin(np.clip(rotation[:, 1, 2], -1, 1))
    roll = -np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    return np.degrees(np.stack([yaw, pitch, roll], axis=1)).astype(np.float32)


def mirrored_points(landmarks: Landmarks, rounds: int = 4) -> np.ndarray:
    """(478,) the point that takes each point's place in a mirror image, by the mean of faces seen from the front."""
    frontal = landmarks.found & (np.abs(pose_degrees(landmarks.rotation)).max(axis=1) < FRONTAL)
    mean = landmarks.points[frontal].mean(axis=0)
    eyes = mean[263] - mean[33]  # the outer eye corners
    cos, sin = eyes[:2] / np.linalg.norm(eyes[:2])
    mean[:, :2] = (mean[:, :2] - (mean[33, :2] + mean[263, :2]) / 2) @ np.array([[cos, -sin], [sin, cos]])  # level
    for _ in range(rounds):
        distance = np.linalg.norm((mean * (-1, 1, 1))[:, None] - mean[None], axis=2)
        partner = (distance + distance.T).argmin(axis=1)
        mean = (mean + mean[partner] * (-1, 1, 1)) / 2  # more symmetric, so that the next round finds true pairs
    return partner


def mirrored_blendshapes() -> np.ndarray:
    """(52,) the blendshape that takes each one's place in a mirror image: left becomes right."""
    swapped = [name.replace("Left", "?").replace("Right", "Left").replace("?", "Right") for name in BLENDSHAPES]
    return np.array([BLENDSHAPES.index(name) for name in swapped])
