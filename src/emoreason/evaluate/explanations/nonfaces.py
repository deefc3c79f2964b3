"""Pictures without a face: computed ones, and photographs that come with scikit-learn and scikit-image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFilter

SIDE = 192
# Without people, and without animals, as they have faces too. Only pictures that need no download.
SKIMAGE = (
    "brick",
    "coffee",
    "coins",
    "clock",
    "grass",
    "gravel",
    "hubble_deep_field",
    "moon",
    "page",
    "rocket",
    "text",
)
SKLEARN = ("china.jpg", "flower.jpg")


def blanks() -> Iterator[tuple[str, Image.Image]]:
    """Plain fields, noise, ramps and patterns."""
    for name, colour in (
        ("black", (0, 0, 0)),
        ("grey", (128, 128, 128)),
        ("white", (255, 255, 255)),
        ("skin", (224, 172, 140)),
    ):
        yield f"even {name}", Image.new("RGB", (SIDE, SIDE), colour)
    random = np.random.default_rng(0)
    fine = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    yield "noise uniform", Image.fromarray(fine)
    yield (
        "noise normal",
        Image.fromarray(np.clip(random.normal(128, 40, (SIDE, SIDE)), 0, 255).astype(np.uint8)).convert("RGB"),
    )
    yield "noise blurred", Image.fromarray(fine).filter(ImageFilter.GaussianBlur(6))
    yield "noise coarse", Image.fromarray(fine[:8, :8]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    down, right = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    ramps = {
        "ramp down": down,
        "ramp right": right,
        "ramp round": np.clip(1.4 * np.hypot(down - 0.5, right - 0.5), 0, 1),
        "stripes": (np.floor(right * 12) % 2),
        "squares": (np.floor(right * 8) + np.floor(down * 8)) % 2,
        "waves": 0.5 + 0.5 * np.sin(40 * right + 12 * down),
    }
    for name, values in ramps.items():
        yield name, Image.fromarray((255 * values).astype(np.uint8)).convert("RGB")


def photographs() -> Iterator[tuple[str, Image.Image]]:
    """The photographs of the installed packages; none is downloaded."""
    try:
        from sklearn.datasets import load_sample_image

        for name in SKLEARN:
            yield name, Image.fromarray(load_sample_image(name))
    except (ImportError, OSError, AttributeError):
        pass
    try:
        import skimage.data as pictures
    except ImportError:
        return
    from pathlib import Path

    folder = Path(pictures.__file__).parent
    for name in SKIMAGE:
        found = sorted(folder.glob(f"{name}.*"))
        files = [path for path in found if path.suffix in (".png", ".jpg", ".jpeg", ".gif", ".tiff")]
        if files:
            yield f"skimage {name}", Image.open(files[0]).convert("RGB")


def tiles(name: str, picture: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """Square crops of a photograph: its middle, and the four quarters of the middle."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    middle = picture.crop((left, top, left + side, top + side))
    yield name, middle
    half = side // 2
    for i, (x, y) in enumerate(((0, 0), (half, 0), (0, half), (half, half)), 1):
        yield f"{name} {i}/4", middle.crop((x, y, x + half, y + half))
