"""Runs the PyPI package `fer` for comparison: its predictions on FER+ faces and its speed. Setup: README.md.

It runs in its own environment without emoreason; the two exchange files and JSON.

    python fer_peer.py --parquet validation.parquet --out runs/fer/predictions.jsonl
    python fer_peer.py --bench crops/ --kind crops
"""

import argparse
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "not_a_face")
LABELS = VOTES[:8]
OURS = {"angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness", "sad": "sadness",
        "surprise": "surprise", "neutral": "neutral"}  # fmt: skip
BATCH = 64


def load() -> tuple[type, Any, list[str], float]:
    """fer's class, its Keras network, the names of its outputs in order, and the seconds for loading."""
    start = time.perf_counter()
    with redirect_stdout(sys.stderr):  # standard output is for the JSON
        from fer.fer import FER

        FER(use_tflite=False)
    logging.getLogger().setLevel(logging.ERROR)
    names = FER._get_labels()
    return FER, FER._model_cache, [names[i] for i in range(len(names))], time.perf_counter() - start


def prepared(grey: np.ndarray) -> np.ndarray:
    """A face preprocessed like fer does it: resized to 64x64 by OpenCV, grey values scaled to -1..1."""
    return (cv2.resize(grey, (64, 64)).astype("float32") / 255.0 - 0.5) * 2.0


def faces(parquet: Path) -> Iterator[tuple[str, bytes, dict[str, float]]]:
    """(id, encoded picture, votes by name) of every row."""
    import pyarrow.parquet as pq

    for row in pq.read_table(parquet, columns=["image", "votes"]).to_pylist():
        yield row["image"]["path"], row["image"]["bytes"], dict(zip(VOTES, map(float, row["votes"]), strict=True))


def predict(parquet: Path, out: Path, limit: int | None) -> None:
    """Writes a prediction row per face, and a run.json beside them, for `emoreason eval --predictions`."""
    _, network, names, _ = load()
    order = [names.index(theirs) for theirs in OURS]
    started, begin = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
    rows = list(faces(parquet))[:limit]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8") as file:
        for start in range(0, len(rows), BATCH):
            chunk = rows[start : start + BATCH]
            greys = [cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_GRAYSCALE) for _, raw, _ in chunk]
            answers = network.predict_on_batch(np.stack([prepared(grey) for grey in greys])[..., None])
            for (id, _, votes), answer in zip(chunk, np.asarray(answers, dtype=np.float64)[:, order], strict=True):
                probabilities = dict.fromkeys(LABELS, 0.0) | dict(zip(OURS.values(), map(float, answer), strict=True))
                row = {"id": id, "status": "ok", "label": max(probabilities, key=lambda name: probabilities[name]),
                       "error": None, "probabilities": probabilities, "votes": votes, "source": "ferplus"}  # fmt: skip
                file.write(json.dumps(row) + "\n")
    info = {
        "benchmark": "ferplus",
        "protocol": "majority",
        "split": parquet.stem,
        "labels": LABELS,
        "data": parquet.name,
        "limit": limit,
        "seed": 0,
        "model": f"fer {version('fer')}",
        "settings": {
            "network": "emotion_model.hdf5",
            "input": "grey, resized to 64x64, scaled to -1..1; no face search",
        },
        "command": f"fer_peer.py --parquet {parquet.name}",
        "started": started,
        "n_read": len(rows),
        "n_unreadable": 0,
        "seconds": round(time.monotonic() - begin, 2),
        "finished": True,
    }
    out.with_name("run.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")


def median_seconds(action: Callable[[], object], repeats: int) -> float:
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def bench(folder: Path, kind: str, repeats: int) -> dict[str, Any]:
    """Files per second through fer's public API, and on crops also through its bare network.

    On crops the public API runs in three ways: as it is (it searches for faces of 50 pixels or more with OpenCV's
    cascade), with the minimum lowered to 20 pixels, and with the whole picture given as the face."""
    FER, network, _, load_seconds = load()
    files = sorted(str(path) for path in folder.iterdir())
    detector = FER()
    found = [len(detector.detect_emotions(path)) for path in files]  # also the warm-up
    result: dict[str, Any] = {
        "fer": version("fer"),
        "files": len(files),
        "load_seconds": load_seconds,
        "faces_found": sum(found),
        "files_with_faces": sum(n > 0 for n in found),
        "api": len(files) / median_seconds(lambda: [detector.detect_emotions(path) for path in files], repeats),
    }
    if kind == "photos":
        return result
    lower = FER(min_face_size=20)
    found = [len(lower.detect_emotions(path)) for path in files]
    result["files_with_faces_min20"] = sum(n > 0 for n in found)
    result["api_min20"] = len(files) / median_seconds(lambda: [lower.detect_emotions(path) for path in files], repeats)

    def whole_picture(path: str) -> list[dict[str, Any]]:
        picture = cv2.imread(path)
        return detector.detect_emotions(picture, face_rectangles=[(0, 0, picture.shape[1], picture.shape[0])])

    result["api_whole"] = len(files) / median_seconds(lambda: [whole_picture(path) for path in files], repeats)
    greys = [cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in files]
    ready = np.stack([prepared(grey) for grey in greys])[..., None]
    batches = [ready[start : start + BATCH] for start in range(0, len(ready), BATCH)]
    for batch in {
        len(batch): batch for batch in batches
    }.values():  # the first use of a shape compiles the network for it
        network.predict_on_batch(batch)
    result["network"] = len(files) / median_seconds(lambda: [network.predict_on_batch(b) for b in batches], repeats)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--parquet", type=Path, help="FER+ faces to predict")
    task.add_argument("--bench", type=Path, metavar="FOLDER", help="files to time")
    parser.add_argument("--out", type=Path, help="predictions.jsonl; run.json is written beside it")
    parser.add_argument("--limit", type=int, help="only the first N faces")
    parser.add_argument("--kind", choices=("crops", "photos"), default="crops")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.parquet and not options.out:
        parser.error("--parquet needs --out predictions.jsonl")
    if options.parquet:
        predict(options.parquet, options.out, options.limit)
    else:
        print(json.dumps(bench(options.bench, options.kind, options.repeats)))


if __name__ == "__main__":
    main()
