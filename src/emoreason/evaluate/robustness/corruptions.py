"""What may happen to a picture of a face, in up to five severities: pure functions on one RGB picture (H, W, 3) uint8.

All keep the size of the picture. Strengths are shares of the face's side where that makes sense, so that a crop of 48
pixels and a photo of 1,000 are harmed alike. The random numbers do not depend on the severity: a higher one has the
same noise, direction or cover, only more of it.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from emoreason.faces.regions import BOXES

Square = tuple[float, float, float, float]  # the face in its picture, as in `Face`: centre x, y, side, roll in degrees
GRAIN = 48  # grains of noise along the side of a face: the pixels of FER2013
HIDDEN = 0.8  # a region is hidden if at least this share of it is covered


@dataclass(frozen=True)
class Corrupted:
    pixels: np.ndarray
    hidden: tuple[str, ...] = ()  # regions of the face that are covered


def corrupt(pixels: np.ndarray, kind: str, severity: int, square: Square, rng: np.random.Generator) -> Corrupted:
    """The picture with one of CORRUPTIONS; severity counts from 1."""
    strength = CORRUPTIONS[kind][severity - 1]
    if kind in CHANGES:
        return Corrupted(CHANGES[kind](pixels, strength, square, rng))
    u, v = _places(pixels, square)
    covered, paint = COVERS[kind](pixels, u, v, strength, rng)
    hidden = []
    for region, (left, top, right, bottom) in BOXES.items():
        inside = (u >= left) & (u < right) & (v >= top) & (v < bottom)
        if inside.any() and covered[inside].mean() >= HIDDEN:
            hidden.append(region)
    return Corrupted(np.where(covered[..., None], _to_bytes(paint), pixels), tuple(hidden))


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


# ---- changes of the whole picture ------------------------------------------------------------------------------------


def _noise(pixels: np.ndarray, strength: float, square: Square, rng: np.random.Generator) -> np.ndarray:
    """Grey Gaussian noise; `strength` is its standard deviation, 0..1."""
    grain = max(1.0, square[2] / GRAIN)
    rows, columns = ((np.arange(size) / grain).astype(int) for size in pixels.shape[:2])
    grains = rng.standard_normal((rows[-1] + 1, columns[-1] + 1))
    return _to_bytes(pixels + 255 * strength * grains[rows][:, columns, None])


def _blur(pixels: np.ndarray, strength: float, square: Square, rng: np.random.Generator) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(pixels, (0, 0), strength * square[2], borderType=cv2.BORDER_REPLICATE)


def _motion(pixels: np.ndarray, strength: float, square: Square, rng: np.random.Generator) -> np.ndarray:
    """Blurred along a line in a random direction; `strength` is its length."""
    import cv2

    length, angle = strength * square[2], rng.uniform(0, math.pi)
    reach = math.ceil(length / 2) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kernel = np.clip((length + 1) / 2 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    return cv2.filter2D(pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _jpeg(pixels: np.ndarray, strength: float, square: Square, rng: np.random.Generator) -> np.ndarray:
    """`strength` is the quality; the blocks of 8 pixels harm small faces more."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(strength))
    return np.asarray(Image.open(buffer).convert("RGB"))


def _gain(pixels: np.ndarray, strength: float, square: Square, rng: np.random.Generator) -> np.ndarray:
    return _to_bytes(strength * pixels.astype(float))


def _contrast(pixels: np.ndarray, strength: float, square: Square, rng: np.random.Generator) -> np.ndarray:
    mean = pixels.mean()
    return _to_bytes(mean + strength * (pixels - mean))


def _pixels(pixels: np.ndarray, strength: float, square: Square, rng: np.random.Generator) -> np.ndarray:
    """As if the face had been `strength` pixels high and was enlarged; no change if it has no more than that."""
    import cv2

    height, width = pixels.shape[:2]
    scale = strength / square[2]
    if scale >= 1:
        return pixels
    small = cv2.resize(
        pixels, (max(1, round(scale * width)), max(1, round(scale * height))), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _grey(pixels: np.ndarray, strength: float, square: Square, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def _turn(pixels: np.ndarray, strength: float, square: Square, rng: np.random.Generator) -> np.ndarray:
    """Turned about the face by `strength` degrees, to either side; border pixels fill the corners."""
    import cv2

    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((square[0] - 0.5, square[1] - 0.5), strength * rng.choice((-1, 1)), 1.0)
    return cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


# ---- covers ----------------------------------------------------------------------------------------------------------
# Each returns which pixels are covered, and the paint for the whole picture. u and v are the places of the pixels in
# the square of the face: 0..1 from left to right, and from top to bottom.


def _places(pixels: np.ndarray, square: Square) -> tuple[np.ndarray, np.ndarray]:
    x, y, side, roll = square
    down, right = np.mgrid[: pixels.shape[0], : pixels.shape[1]] + 0.5
    down, right = down - y, right - x
    cosine, sine = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    return (cosine * right + sine * down) / side + 0.5, (cosine * down - sine * right) / side + 0.5


def _cloth(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Even grey with faint folds."""
    grey, angle, folds = rng.uniform(15, 240), rng.uniform(0, math.pi), rng.uniform(20, 70)
    return (grey + 8 * np.sin(folds * (u * math.cos(angle) + v * math.sin(angle))))[..., None]


def _patch(
    pixels: np.ndarray, u: np.ndarray, v: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A rectangle anywhere on `share` of the face."""
    stretch, across, down = 2 ** rng.uniform(-0.5, 0.5), *rng.random(2)
    covered = np.ones(u.shape, bool)
    for place, size, start in ((u, math.sqrt(share * stretch), across), (v, math.sqrt(share / stretch), down)):
        low, high = max(0.0, place.min()), min(1.0, place.max())
        first = low + start * (1 - size) * (high - low)
        covered &= (place >= first) & (place <= first + size * (high - low))
    return covered, _cloth(u, v, rng)


def _mask(
    pixels: np.ndarray, u: np.ndarray, v: np.ndarray, size: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A mask over mouth and chin; size 0..1, from just below the nose up to its bridge."""
    top, bottom, half = 0.64 - 0.2 * size, 1.04, 0.36 + 0.12 * size
    middle, reach = (top + bottom) / 2, (bottom - top) / 2
    return ((u - 0.5) / half) ** 4 + ((v - middle) / reach) ** 4 <= 1, _cloth(u, v, rng)


def _band(
    pixels: np.ndarray, u: np.ndarray, v: np.ndarray, size: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A band over eyes and brows; size 0..1."""
    top, bottom, half = 0.19 - 0.08 * size, 0.47 + 0.08 * size, 0.4 + 0.1 * size
    return (v >= top) & (v <= bottom) & (np.abs(u - 0.5) <= half), _cloth(u, v, rng)


def _hand(
    pixels: np.ndarray, u: np.ndarray, v: np.ndarray, size: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Four fingers over the mouth, from either side; size 0..1. Painted in a shade of the face's own skin."""
    radius, reach = 0.034 + 0.036 * size, 0.8 + 0.18 * size
    slope, from_right, shade = rng.uniform(-0.2, 0.2), rng.random() < 0.5, rng.uniform(0.7, 1.25)
    along = 1 - u if from_right else u
    across = v - 0.77 - slope * (u - 0.5)
    finger = 1.9 * radius * (np.clip(np.round(across / (1.9 * radius) + 0.5), -1, 2) - 0.5)  # the axis of the nearest
    distance = np.hypot(np.maximum(along - (reach - radius), 0), across - finger) / radius
    skin = pixels[(np.abs(u - 0.5) < 0.25) & (np.abs(v - 0.55) < 0.1)].reshape(-1, 3)
    tone = np.median(skin if len(skin) else pixels.reshape(-1, 3), axis=0)
    return distance <= 1, (shade * (1 - 0.4 * np.minimum(distance, 1) ** 2))[..., None] * tone


Change = Callable[[np.ndarray, float, Square, np.random.Generator], np.ndarray]
Cover = Callable[[np.ndarray, np.ndarray, np.ndarray, float, np.random.Generator], tuple[np.ndarray, np.ndarray]]
CHANGES: dict[str, Change] = {
    "noise": _noise, "blur": _blur, "motion": _motion, "jpeg": _jpeg, "dark": _gain, "bright": _gain,
    "contrast": _contrast, "pixels": _pixels, "grey": _grey, "turn": _turn,
}  # fmt: skip
COVERS: dict[str, Cover] = {"patch": _patch, "mask": _mask, "band": _band, "hand": _hand}
CORRUPTIONS: dict[str, tuple[float, ...]] = {  # the strengths, by severity
    "noise": (0.04, 0.08, 0.14, 0.22, 0.32),  # standard deviation
    "blur": (0.01, 0.02, 0.03, 0.045, 0.065),  # sigma, share of the face's side
    "motion": (0.05, 0.1, 0.15, 0.22, 0.3),  # length, share of the face's side
    "jpeg": (40, 25, 15, 10, 5),  # quality
    "dark": (0.6, 0.4, 0.25, 0.15, 0.08),  # factor
    "bright": (1.25, 1.5, 1.9, 2.4, 3.2),  # factor
    "contrast": (0.6, 0.4, 0.25, 0.15, 0.08),  # factor of the difference from the mean
    "pixels": (48, 32, 24, 16, 12),  # of the face's side
    "grey": (1,),
    "turn": (10, 20, 30, 45, 60),  # degrees
    "patch": (0.1, 0.2, 0.3, 0.4, 0.5),  # share of the face
    "mask": (0, 0.25, 0.5, 0.75, 1),  # size, from smallest to largest
    "band": (0, 0.25, 0.5, 0.75, 1),
    "hand": (0, 0.25, 0.5, 0.75, 1),
}
