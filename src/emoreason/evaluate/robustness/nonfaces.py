"""Pictures that show no upright face: drawn by seed, or made from faces by shuffling or turning them."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

SIDE = 96
EACH = {"noise": 40, "texture": 40, "stripes": 40, "shapes": 40, "scribble": 40, "shuffled face": 50,
        "upside-down face": 50}  # fmt: skip
TILES = 4  # a shuffled face is cut into 4 × 4 tiles


def draw_nonfaces(
    faces: Sequence[Image.Image], random_of: Callable[[str], np.random.Generator]
) -> Iterator[tuple[str, Image.Image]]:
    """(kind, picture) of all kinds in EACH. `faces` are crops; `random_of` gives the generator for a name."""
    for kind, n in EACH.items():
        for i in range(n):
            rng = random_of(f"{kind} {i}")
            if kind in DRAWN:
                yield kind, DRAWN[kind](rng)
            else:
                yield kind, FROM_FACES[kind](faces[i % len(faces)], rng)


def _picture(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8)).convert("RGB")


def _noise(rng: np.random.Generator) -> Image.Image:
    return _picture(rng.normal(rng.uniform(60, 195), rng.uniform(15, 80), (SIDE, SIDE, 3)))


def _texture(rng: np.random.Generator) -> Image.Image:
    """Clouds: coarse noise, enlarged and added."""
    total = np.zeros((SIDE, SIDE))
    for cells in rng.choice([2, 3, 4, 6, 8, 12, 24], 3, replace=False):
        layer = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
        total += np.asarray(layer.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    low, high = np.sort(rng.uniform(0, 255, 2) + (-40, 40))
    return _picture(low + (total - total.min()) / np.ptp(total) * (high - low))


def _stripes(rng: np.random.Generator) -> Image.Image:
    """Waves or bars in one direction, or checks of two."""
    y, x = np.mgrid[:SIDE, :SIDE]
    angle, step = rng.uniform(0, math.pi), rng.uniform(0.08, 0.8)
    wave = np.sin(step * (x * math.cos(angle) + y * math.sin(angle)))
    checks, hard = rng.random(2) < (0.4, 0.5)
    wave = wave * np.sin(step * (y * math.cos(angle) - x * math.sin(angle))) if checks else wave
    return _picture(128 + rng.uniform(30, 127) * (np.sign(wave) if hard else wave))


def _shapes(rng: np.random.Generator) -> Image.Image:
    """Ellipses and rectangles in any colour."""
    image = Image.new("RGB", (SIDE, SIDE), _colour(rng))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(3, 10)):
        x, y, width, height = (int(n) for n in (*rng.integers(-10, SIDE, 2), *rng.integers(4, SIDE * 3 // 4, 2)))
        draw = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        draw((x, y, x + width, y + height), fill=_colour(rng))
    return image


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(n) for n in rng.integers(0, 256, 3))
    return red, green, blue


def _scribble(rng: np.random.Generator) -> Image.Image:
    """Lines on paper, or on a board."""
    paper, ink = ("white", "black") if rng.random() < 0.7 else ("black", "white")
    image = Image.new("RGB", (SIDE, SIDE), paper)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(3, 12)):
        points = [(int(x), int(y)) for x, y in rng.integers(0, SIDE, (rng.integers(2, 6), 2))]
        pen.line(points, fill=ink, width=int(rng.integers(1, 5)))
    return image


def _shuffled(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The tiles of the face in an order in which none keeps its place."""
    pixels = np.asarray(face.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    size, places = SIDE // TILES, np.arange(TILES**2)
    order = rng.permutation(places)
    while (order == places).any():
        order = rng.permutation(places)
    tiles = pixels.reshape(TILES, size, TILES, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)[order]
    return Image.fromarray(tiles.reshape(TILES, TILES, size, size, 3).swapaxes(1, 2).reshape(SIDE, SIDE, 3))


def _upside_down(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turned by 165 to 195 degrees; border pixels fill the corners."""
    import cv2

    width, height = face.size
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 180 + rng.uniform(-15, 15), 1.0)
    return Image.fromarray(cv2.warpAffine(np.asarray(face), matrix, face.size, borderMode=cv2.BORDER_REPLICATE))


DRAWN = {"noise": _noise, "texture": _texture, "stripes": _stripes, "shapes": _shapes, "scribble": _scribble}
FROM_FACES = {"shuffled face": _shuffled, "upside-down face": _upside_down}
