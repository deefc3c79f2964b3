"""Pictures that are no upright face: noise, textures, drawings, turned or shuffled faces, pieces of pictures.

They teach the mini to say so. All are (48, 48) uint8, drawn by seed.
"""

from collections.abc import Sequence

import numpy as np

SIDE = 48


def draw_nonfaces(faces: np.ndarray, pictures: Sequence[np.ndarray], n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 48, 48) from faces (m, 48, 48) to turn or shuffle, and grey pictures (H, W) uint8 without faces."""
    kinds = [_noise, _smooth_noise, _stripes, _shapes, _scribble, _gradient]
    made = []
    for _ in range(n):
        draw = rng.random()
        if draw < 0.3:
            made.append(_turned(faces[rng.integers(len(faces))], rng))
        elif draw < 0.45:
            made.append(_shuffled(faces[rng.integers(len(faces))], rng))
        elif draw < 0.55:
            made.append(_detail(faces[rng.integers(len(faces))], rng))
        elif draw < 0.75 and len(pictures):
            made.append(_piece(pictures[int(rng.integers(len(pictures)))], rng))
        else:
            made.append(kinds[rng.integers(len(kinds))](rng))
    return np.stack(made)


def _resize(picture: np.ndarray) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0))


def _turned(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Upside down, or nearly."""
    from PIL import Image

    angle = 180 + rng.uniform(-50, 50)
    image = Image.fromarray(np.pad(face, 24, mode="reflect")).rotate(angle, Image.Resampling.BICUBIC)
    return np.asarray(image)[24:-24, 24:-24]


def _shuffled(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Its tiles in another order."""
    tiles = int(rng.choice([2, 3, 4]))
    size = SIDE // tiles
    order = rng.permutation(tiles * tiles)
    while (order == np.arange(tiles * tiles)).sum() > 1:
        order = rng.permutation(tiles * tiles)
    out = np.empty_like(face)
    for to, source in enumerate(order):
        y, x, v, u = to // tiles * size, to % tiles * size, source // tiles * size, source % tiles * size
        out[y : y + size, x : x + size] = face[v : v + size, u : u + size]
    return out


def _detail(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small piece, enlarged: an eye, a cheek, hair."""
    side = int(rng.integers(8, 17))
    y, x = rng.integers(0, SIDE - side, 2)
    return _resize(face[y : y + side, x : x + side])


def _piece(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = int(min(picture.shape) * rng.uniform(0.1, 0.9))
    y, x = rng.integers(0, picture.shape[0] - side + 1), rng.integers(0, picture.shape[1] - side + 1)
    piece = picture[y : y + side, x : x + side]
    return _resize(piece[:, ::-1] if rng.random() < 0.5 else piece)


def _noise(rng: np.random.Generator) -> np.ndarray:
    return np.clip(rng.normal(rng.uniform(40, 215), rng.uniform(10, 90), (SIDE, SIDE)), 0, 255).astype(np.uint8)


def _smooth_noise(rng: np.random.Generator) -> np.ndarray:
    """Clouds: coarse noise, enlarged and added."""
    total = np.zeros((SIDE, SIDE))
    for cells in rng.choice([2, 3, 4, 6, 8, 12, 24], 3, replace=False):
        total += _resize(rng.uniform(0, 255, (cells, cells)))
    return _resize((total - total.min()) / max(np.ptp(total), 1) * rng.uniform(60, 255))


def _stripes(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    angle, step = rng.uniform(0, np.pi), rng.uniform(0.15, 1.6)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * step)
    if rng.random() < 0.4:  # checks
        wave = wave * np.sin((-x * np.sin(angle) + y * np.cos(angle)) * step)
    if rng.random() < 0.5:
        wave = np.sign(wave)
    return np.clip(128 + wave * rng.uniform(20, 127) + rng.normal(0, 6, wave.shape), 0, 255).astype(np.uint8)


def _gradient(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    plane = x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1)
    return np.clip(rng.uniform(0, 255) + plane * 200 + rng.normal(0, rng.uniform(0, 12), x.shape), 0, 255).astype(
        np.uint8
    )


def _shapes(rng: np.random.Generator) -> np.ndarray:
    from PIL import Image, ImageDraw

    image = Image.new("L", (SIDE * 2, SIDE * 2), int(rng.integers(256)))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, 9)):
        x, y = (int(at) for at in rng.integers(-20, SIDE * 2, 2))
        w, h = (int(size) for size in rng.integers(4, SIDE * 3 // 2, 2))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)((x, y, x + w, y + h), fill=int(rng.integers(256)))
    return _resize(np.asarray(image))


def _scribble(rng: np.random.Generator) -> np.ndarray:
    from PIL import Image, ImageDraw

    paper, ink = (245, 20) if rng.random() < 0.7 else (20, 235)
    image = Image.new("L", (SIDE * 2, SIDE * 2), paper)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 12)):
        points = [tuple(rng.integers(0, SIDE * 2, 2)) for _ in range(rng.integers(2, 6))]
        draw.line(points, fill=ink, width=int(rng.integers(1, 6)))
    return _resize(np.asarray(image))
