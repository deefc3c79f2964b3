"""Turns a finished mini run into a model folder, with calibration and abstention fitted on held-out faces."""

import hashlib
import json
from pathlib import Path

import numpy as np

from emoreason.core import device
from emoreason.evidence.calibration import OperatingPoint, abstention_threshold
from emoreason.evidence.zeroshot import TextCache, ZeroShot, load_label_prompts
from emoreason.models.encoder import Features, load_encoder
from emoreason.train.heads.operating_points import fit_points
from emoreason.train.recipes.config import Config
from emoreason.train.recipes.mini_faces import EMOTIONS, FerplusFaces
from emoreason.train.recipes.mini_geometry import UNITS

MEAN, STD = 0.5, 0.25  # of grey values in 0..1; stored in the model, so that training and use are the same
SELECTIVE_ACCURACY = 0.9  # accuracy of the non-abstained answers on held-out faces, by the protocol argmax8


def make_bundle(folder: Path, config: Config, holdout: FerplusFaces, prior: np.ndarray) -> None:
    """Write `model.json` beside the run's weights.safetensors."""
    weights = folder / "weights.safetensors"
    unfitted = {
        "name": config.name,
        "clip": config.model,
        "mirror": True,
        "image_size": holdout.pixels.shape[1],
        "preprocess": {"mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic", "resize_mode": "squash"},
        "units": [unit.code for unit in UNITS],
        "unit_grades": {unit.code: unit.grade for unit in UNITS},
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "parameters": _count(weights),
        "trained_on": json.loads((folder / "run.json").read_text()),
        "headline": "",
        "calibration": {"labels": list(EMOTIONS), "prior": {}, "points": {"accurate": {}}, "abstain_below": 0.0},
    }
    _write(folder, unfitted)  # so that the encoder can be loaded as users load it
    logits = holdout_logits(folder, holdout, folder / "text_cache")
    _write(folder, unfitted | {"calibration": fit(logits, holdout, prior)})


def holdout_logits(folder: Path, faces: FerplusFaces, cache: Path) -> np.ndarray:
    """(n, 8) logits, computed as for users: crops through the encoder, with the prompts of prompts/labels.yaml."""
    encoder = load_encoder(str(folder), device.choose("cpu"))
    zeroshot = ZeroShot(encoder, load_label_prompts(), TextCache(cache))
    pixels = np.repeat(faces.pixels[..., None], 3, axis=3)
    parts = [encoder.encode_pixels(pixels[start : start + 128]).embedding for start in range(0, len(pixels), 128)]
    return zeroshot.logits(Features(np.concatenate(parts), None), EMOTIONS)


def fit(logits: np.ndarray, holdout: FerplusFaces, prior: np.ndarray) -> dict:
    """Fit the calibration: temperatures, the balanced point, and the abstention threshold.

    Temperatures use the majority protocol, the balanced point maximises accuracy + UAR over all votes, and the
    abstention threshold reaches SELECTIVE_ACCURACY.
    """
    points = fit_points(logits, holdout.majority, holdout.distribution, prior)
    probabilities = OperatingPoint(**points["accurate"]).probabilities(logits, prior)
    right = probabilities.argmax(axis=1) == holdout.votes[:, :8].argmax(axis=1)
    return {
        "labels": list(EMOTIONS),
        "prior": {name: round(float(p), 6) for name, p in zip(EMOTIONS, prior, strict=True)},
        "points": points,
        "abstain_below": round(abstention_threshold(probabilities.max(axis=1), right, SELECTIVE_ACCURACY), 4),
        "fitted_on": f"{len(holdout)} faces held out of train, {int((holdout.majority >= 0).sum())} of them with a "
        "majority",
    }


def _count(weights: Path) -> int:
    from safetensors import safe_open

    with safe_open(weights, "np") as file:
        shapes = [file.get_slice(key).get_shape() for key in file.keys() if "running" not in key]  # noqa: SIM118
    return int(sum(np.prod(shape) for shape in shapes))


def _write(folder: Path, spec: dict) -> None:
    temporary = folder / "model.json.tmp"
    temporary.write_text(json.dumps(spec, indent=2) + "\n")
    temporary.replace(folder / "model.json")
