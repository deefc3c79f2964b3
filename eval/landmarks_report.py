"""Compares head pose and landmarks with the teacher's, on faces that no training saw.

    python eval/landmarks_report.py --data ferplus/validation.parquet --landmarks landmarks/validation.npz

The pose in degrees, as the mean absolute difference; the landmarks as the mean distance in percent of the distance
between the outer eye corners. Only faces on which the teacher found a face.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import emoreason
from emoreason.core.types import POSE
from emoreason.models.encoder import Features
from emoreason.train.recipes.face_targets import Landmarks, pose_degrees
from emoreason.train.recipes.mini_faces import read_faces

EYE_CORNERS = (33, 263)
SIDE = 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    teacher, faces = Landmarks.read(options.landmarks), read_faces(options.data)
    rows = np.flatnonzero(teacher.found)
    pixels = np.repeat(faces.pixels[rows][..., None], 3, axis=3)
    encoder = emoreason.load(options.model, explainer="none").reader.zeroshot.encoder
    parts = [encoder.encode_pixels(pixels[i : i + 128]) for i in range(0, len(pixels), 128)]
    read = Features.concatenate(parts).face
    assert read is not None
    pose = pose_degrees(teacher.rotation[rows])
    error = np.abs(read.pose - pose)
    points = teacher.points[rows][:, :, :2]
    distance = np.linalg.norm((read.points + 1) / 2 * SIDE - points, axis=2).mean(axis=1)
    apart = np.linalg.norm(points[:, EYE_CORNERS[0]] - points[:, EYE_CORNERS[1]], axis=1)
    report = {
        "revision": encoder.revision,
        "faces": len(rows),
        "pose": {name: round(float(error[:, i].mean()), 2) for i, name in enumerate(POSE)},
        "pose_within_5": {name: round(float((error[:, i] <= 5).mean()), 3) for i, name in enumerate(POSE)},
        "beyond_30_yaw": {"faces": int((np.abs(pose[:, 0]) > 30).sum()),
                          "yaw": round(float(error[np.abs(pose[:, 0]) > 30, 0].mean()), 2)},
        "landmarks_percent_of_eye_distance": round(float(100 * (distance / apart).mean()), 2),
    }  # fmt: skip
    print(json.dumps(report, indent=1))
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
