"""Where the regions of a face are in its crop, as shares of the crop's side: left, top, right, bottom.

Fixed boxes are enough because all crops are upright and framed like FER2013's. Drawn on the mean of 2,000 FER+ faces.
"""

import math

import numpy as np

from emoreason.core.types import Face
from emoreason.knowledge.facs import REGIONS

BOXES: dict[str, tuple[float, float, float, float]] = {
    "brows": (0.12, 0.17, 0.88, 0.34),
    "eyes": (0.12, 0.30, 0.88, 0.47),
    "cheeks": (0.08, 0.48, 0.92, 0.70),
    "nose": (0.34, 0.38, 0.66, 0.66),
    "mouth": (0.24, 0.66, 0.76, 0.88),
    "chin": (0.30, 0.84, 0.70, 1.00),
    "jaw": (0.18, 0.76, 0.82, 1.00),
}
assert set(BOXES) == set(REGIONS)


def outline(face: Face, region: str) -> list[tuple[float, float]]:
    """The region's four corners in the picture, rotated with the face."""
    if face.square is None:
        return []
    x, y, side, roll = face.square
    left, top, right, bottom = BOXES[region]
    cosine, sine = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    corners = []
    for across, down in ((left, top), (right, top), (right, bottom), (left, bottom)):
        dx, dy = (across - 0.5) * side, (down - 0.5) * side
        corners.append((x + cosine * dx - sine * dy, y + sine * dx + cosine * dy))
    return corners


def in_picture(points: np.ndarray, face: Face) -> np.ndarray | None:
    """(n, 2) points in the crop, from -1 to 1 -> pixels of the picture; None if the crop's place is not known."""
    if face.square is None:
        return None
    x, y, side, roll = face.square
    cosine, sine = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    return points * (side / 2) @ np.array([[cosine, sine], [-sine, cosine]]) + (x, y)
