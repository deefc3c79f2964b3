"""Finds 478 facial landmarks on every face of a FER+ parquet file and writes them to one .npz file.

MediaPipe 0.10.21 ships its FaceMesh model in the wheel but needs numpy < 2, so use a separate environment:

    python -m venv .venv-landmarks
    .venv-landmarks/bin/pip install mediapipe==0.10.21 pyarrow pillow
    .venv-landmarks/bin/python finetune/landmarks.py ferplus/train.parquet landmarks/train.npz

It takes about 12 ms per face on one core. The output has, in the order of the file: `name` (FER+'s file name), `found`
(bool) and `points` (n, 478, 3) in pixels of the 48x48 picture, depth in the same unit; NaN if no face was found.
"""

import argparse
import io
import sys
from pathlib import Path

import mediapipe as mp
import numpy as np
import pyarrow.parquet as pq
from PIL import Image

ENLARGED = 192  # FaceMesh's own input size: a 48-pixel face is enlarged four times
BORDER = 64  # FER2013 crops are tight; a replicated border gives the detector the context it expects


def landmarks_of(mesh, face: np.ndarray) -> np.ndarray | None:
    """(48, 48) uint8 -> (478, 3) in pixels of that picture, or None if no face was found."""
    side = face.shape[0]
    enlarged = np.asarray(Image.fromarray(face).resize((ENLARGED, ENLARGED), Image.Resampling.BICUBIC))
    canvas = np.pad(enlarged, BORDER, mode="edge")
    found = mesh.process(np.repeat(canvas[:, :, None], 3, axis=2)).multi_face_landmarks
    if not found:
        return None
    points = np.array([(p.x, p.y, p.z) for p in found[0].landmark], dtype=np.float32) * canvas.shape[0]
    points[:, :2] -= BORDER
    return points * (side / ENLARGED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parquet", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()

    rows = pq.read_table(options.parquet, columns=["image"])["image"].to_pylist()
    names = [row["path"] for row in rows]
    points = np.full((len(rows), 478, 3), np.nan, dtype=np.float32)
    with mp.solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.2
    ) as mesh:
        for i, row in enumerate(rows):
            found = landmarks_of(mesh, np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("L")))
            if found is not None:
                points[i] = found
            if i % 1000 == 0:
                print(f"{i}/{len(rows)}", file=sys.stderr, flush=True)
    found = ~np.isnan(points[:, 0, 0])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.output, name=np.array(names), found=found, points=points.astype(np.float16))
    print(f"{found.sum()} of {len(rows)} faces found -> {options.output}")


if __name__ == "__main__":
    main()
