"""Faces drawn by the computer, so that fine-tuning can be tested without a data set: what differs is the mouth."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

MOUTHS = {"engaged": "up", "bored": "flat", "confused": "round"}


def drawn(mouth: str, seed: int, size: int = 96) -> Image.Image:
    """One face; place, size, light and noise differ by the seed."""
    rng = np.random.default_rng(seed)
    light = int(rng.integers(150, 220))
    image = Image.new("L", (size, size), int(rng.integers(20, 90)))
    pen = ImageDraw.Draw(image)
    s, dx, dy = size / 96 * rng.uniform(0.92, 1.05), *rng.uniform(-3, 3, 2)

    def box(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        return x0 * s + dx, y0 * s + dy, x1 * s + dx, y1 * s + dy

    pen.ellipse(box(12, 2, 84, 96), fill=light)
    for x in (32, 62):
        pen.ellipse(box(x - 7, 34, x + 7, 42), fill=light + 30)
        pen.ellipse(box(x - 3, 35, x + 3, 41), fill=30)
        pen.line(box(x - 9, 27, x + 9, 26), fill=60, width=3)
    pen.line(box(48, 42, 45, 60), fill=light - 50, width=2)
    if mouth == "up":
        pen.chord(box(30, 56, 66, 84), 10, 170, fill=60)
        pen.chord(box(33, 60, 63, 78), 15, 165, fill=240)
    elif mouth == "flat":
        pen.line(box(35, 74, 61, 74), fill=70, width=3)
    else:
        pen.ellipse(box(41, 66, 55, 86), fill=25)
    noise = rng.normal(0, 8, (size, size))
    return Image.fromarray(
        np.clip(np.asarray(image.filter(ImageFilter.GaussianBlur(1))) + noise, 0, 255).astype("uint8")
    )


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(folder: Path, each: int = 12, seed: int = 0, size: int = 96) -> Path:
    """An ImageFolder of three labels."""
    for k, (label, mouth) in enumerate(MOUTHS.items()):
        (folder / label).mkdir(parents=True)
        for i in range(each):
            drawn(mouth, 1000 * (seed + k) + i, size).save(folder / label / f"{label}{i}.png")
    return folder
