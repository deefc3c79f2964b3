"""The mini's third step: fits everything that is read off the trained network, and writes the model folder.

Linear maps of the same inputs (see models/face_readout.py), fitted in minutes:
- action units on faces coded by eye, with thresholds for "present", "sure enough to name" and "absent";
- their left-right differences on the teacher's blendshapes;
- the eight emotions on the votes;
- the distance from the training faces, and the temperature that rises with it, on held-out faces and spoilt copies.
"""

import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoreason.core.probabilities import correct_prior, softmax
from emoreason.data import read
from emoreason.data.check import copies_in
from emoreason.evidence.calibration import FARTHEST, USUAL, OperatingPoint, abstention_threshold, nll
from emoreason.evidence.meanings import FILE as WORDS_FILE
from emoreason.evidence.meanings import names_hash
from emoreason.knowledge.facs import SIDED
from emoreason.knowledge.words import lexicon
from emoreason.models.encoder import create_clip, fold_batch_norm
from emoreason.models.face_head import BLENDSHAPES
from emoreason.models.face_readout import FaceReadout
from emoreason.train.recipes.coded_faces import UNITS as CODED
from emoreason.train.recipes.coded_faces import read_coded
from emoreason.train.recipes.corruptions import corrupt, cover
from emoreason.train.recipes.face_targets import Landmarks, blendshape_ranges, mirrored_blendshapes, mirrored_points
from emoreason.train.recipes.mini_bundle import MEAN, SELECTIVE_ACCURACY, STD
from emoreason.train.recipes.mini_encoder import majority_scores
from emoreason.train.recipes.mini_eyes_config import ReadoutConfig, ReadoutFit
from emoreason.train.recipes.mini_faces import EMOTIONS, FerplusFaces, read_faces, split
from emoreason.train.recipes.mini_network import normalise
from emoreason.train.recipes.wild_faces import read_wild

SIDE_SHAPES = {"2": "browOuterUp", "4": "browDown", "5": "eyeWide", "7": "eyeSquint", "10": "mouthUpperUp",
               "12": "mouthSmile", "14": "mouthDimple", "15": "mouthFrown", "20": "mouthStretch",
               "43": "eyeBlink"}  # fmt: skip
POINTS = {"photo": 0.5, "accurate": 0.0, "balanced": 1.0}  # operating point -> share of the prior that is taken out
DEFAULT = "photo"
LEFT_OUT = {"23": "only seven of the coded training faces show it, too few to fit or to check it"}
UNITS = tuple(code for code in CODED if code not in LEFT_OUT)
HIDDEN = 256  # of the inputs, from the face head
SLOPES, TEMPERATURES = np.arange(0, 2.6, 0.1), np.arange(0.5, 1.6, 0.05)


@dataclass
class Inputs:
    """What the read-outs see of n faces."""

    mean: np.ndarray  # (n, F) of the face and its mirror image
    odd: np.ndarray  # (n, F) half their difference


def fit_readout(config: ReadoutConfig) -> Path:
    """Fit and write the model folder. Returns it."""
    from safetensors.torch import load_file, save_file

    out, run = Path(config.out), Path(config.run)
    out.mkdir(parents=True, exist_ok=True)
    trained = load_file(run / "weights.safetensors")
    network = _Network(config.model, trained)
    landmarks = Landmarks.read(Path(config.data.landmarks) / "train.npz")
    ranges = blendshape_ranges(landmarks.blendshapes)
    everything = read_faces(Path(config.data.train))
    copies = copies_in(read(config.data.train), read(config.data.validation))
    faces, holdout, dropped = split(everything, copies, config.data.holdout)
    if config.limit:
        faces = faces.take(np.arange(config.limit))
    train = network.inputs(faces.pixels)
    held = network.inputs(holdout.pixels)
    spoilt = network.inputs(_spoilt(holdout.pixels, config.seed))

    centre, scale = train.mean.mean(axis=0), train.mean.std(axis=0) + 1e-6
    report: dict[str, Any] = {}
    emotions = fit_softmax((train.mean - centre) / scale, faces.distribution, config.fit.emotion_penalty)
    report["emotions"] = _shares_of(train, held, faces, holdout, centre, scale, config.fit)
    row_of = {name: i for i, name in enumerate(landmarks.names)}
    rows = np.array([row_of[name] for name in faces.names])
    sides = _fit_sides(train.odd, landmarks.blendshapes[rows] / ranges)
    coded_x, coded = _coded(config, network, everything)
    units, knots, report["units"] = _fit_units((coded_x - centre) / scale, coded, config.fit)
    whiten = _whitening((train.mean - centre) / scale, config.fit.shift_rank)
    usual = float(np.quantile(_distance(held.mean, centre, scale, whiten), 0.95))
    whiten = whiten / usual

    readout = network.readout_with(len(UNITS), len(SIDED), config.fit.shift_rank)
    with torch.no_grad():
        _set_linear(readout.emotions, *emotions, centre, scale)
        _set_linear(readout.units, *units, centre, scale)
        readout.sides.weight.copy_(torch.from_numpy(sides.T))
        readout.knots.copy_(torch.from_numpy(knots))
        readout.mirror.copy_(torch.from_numpy(mirrored_points(landmarks)))
        readout.shift_mean.copy_(torch.from_numpy(centre))
        readout.shift_whiten.copy_(torch.from_numpy(whiten / scale[:, None]))
    tensors = {k: v for k, v in trained.items() if k.startswith("visual.") or k == "logit_scale"}
    tensors |= {f"readout.{k}": v.contiguous() for k, v in readout.state_dict().items()}
    save_file(tensors, out / "weights.safetensors")
    _write_words(config.model, out)

    prior = faces.distribution.mean(axis=0)
    logits = {name: _apply(emotions, (x.mean - centre) / scale) for name, x in (("held", held), ("spoilt", spoilt))}
    shifts = {name: _distance(x.mean, centre, scale, whiten) for name, x in (("held", held), ("spoilt", spoilt))}
    calibration = _calibrate(logits, shifts, holdout, prior, config.fit)
    words = out / WORDS_FILE
    spec = {
        "name": config.name,
        "clip": config.model,
        "mirror": True,
        "image_size": holdout.pixels.shape[1],
        "preprocess": {"mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic", "resize_mode": "squash"},
        "units": list(UNITS),
        "sided_units": list(SIDED),
        "sha256": _sha256(out / "weights.safetensors"),
        "files": {words.name: _sha256(words)},
        "parameters": int(sum(v.numel() for k, v in tensors.items() if "running" not in k)),
        "trained_on": json.loads((run / "run.json").read_text()) | {"coded_faces": len(coded)},
        "headline": "",
        "calibration": calibration,
    }
    (out / "model.json").write_text(json.dumps(spec, indent=2) + "\n")
    (out / "readout.json").write_text(json.dumps(report, indent=1) + "\n")
    return out


# ---- the network -----------------------------------------------------------------------------------------------------


class _Network:
    """The trained network, giving the inputs of the read-outs exactly as the encoder computes them."""

    def __init__(self, model: str, trained: dict[str, Tensor]):
        clip, _ = create_clip(model)
        self.visual: Any = clip.visual.eval()
        missing, _ = self.visual.load_state_dict(
            {k.removeprefix("visual."): v for k, v in trained.items() if k.startswith("visual.")}, strict=False
        )
        assert not [name for name in missing if "num_batches" not in name], missing
        fold_batch_norm(self.visual)
        self.visual.to(memory_format=torch.channels_last)
        self.face = {k.removeprefix("face."): v for k, v in trained.items() if k.startswith("face.")}
        self.readout = self.readout_with(len(UNITS), len(SIDED), 1)

    def readout_with(self, units: int, sides: int, rank: int) -> FaceReadout:
        readout = FaceReadout(self.visual.trunk.num_features, units, sides, rank).requires_grad_(False).eval()
        readout.face.load_state_dict(self.face)
        return readout

    @torch.inference_mode()
    def inputs(self, pixels: np.ndarray, batch: int = 256) -> Inputs:
        """(n, 48, 48) uint8 -> Inputs."""
        means, odds = [], []
        for start in range(0, len(pixels), batch):
            faces = normalise(torch.from_numpy(pixels[start : start + batch]).unsqueeze(1).float() / 255)
            views = []
            for view in (faces, faces.flip(3)):
                grid = self.visual.trunk.forward_features(view.to(memory_format=torch.channels_last)).float()
                views.append(FaceReadout.inputs(grid, self.readout.face(grid)))
            means.append(((views[0] + views[1]) / 2).numpy())
            odds.append(((views[0] - views[1]) / 2).numpy())
        return Inputs(np.concatenate(means), np.concatenate(odds))


def _spoilt(pixels: np.ndarray, seed: int) -> np.ndarray:
    """Faces made worse in the ways of recipes/corruptions.py, some of them covered."""
    rng = torch.Generator().manual_seed(seed)
    faces = corrupt(torch.from_numpy(pixels).unsqueeze(1).float() / 255, rng)
    eyes, mouth = (torch.tensor([box]).repeat(len(faces), 1) for box in ([10.0, 16, 38, 23], [14.0, 32, 34, 43]))
    covered, _ = cover(faces, eyes, mouth, 0.35, rng)
    return (covered[:, 0] * 255).byte().numpy()


# ---- fitting ---------------------------------------------------------------------------------------------------------


def fit_softmax(x: np.ndarray, target: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """(n, F) and soft targets (n, L) -> weight (L, F) and bias (L,)."""
    inputs, wanted = torch.from_numpy(x).double(), torch.from_numpy(target).double()
    weight = torch.zeros(target.shape[1], x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(target.shape[1], dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        return (
            -(wanted * (inputs @ weight.T + bias).log_softmax(dim=1)).sum(dim=1).mean()
            + penalty * weight.square().sum()
        )

    _minimise(loss, [weight, bias])
    return weight.detach().numpy(), bias.detach().numpy()


def _shares_of(
    train: Inputs, held: Inputs, faces: FerplusFaces, holdout: FerplusFaces, centre: np.ndarray, scale: np.ndarray,
    fit: ReadoutFit,
) -> dict[str, Any]:  # fmt: skip
    """What embedding and face measures are each worth: held-out scores of the emotions read from parts of them."""
    width = train.mean.shape[1] - HIDDEN
    prior = faces.distribution.mean(axis=0)
    scores = {}
    for name, columns in (("embedding", slice(0, width)), ("face measures", slice(width, None)), ("both", slice(None))):
        linear = fit_softmax(((train.mean - centre) / scale)[:, columns], faces.distribution, fit.emotion_penalty)
        logits = _apply(linear, ((held.mean - centre) / scale)[:, columns])
        scores[name] = {point: majority_scores(correct_prior(logits, prior, strength), holdout)
                        for point, strength in POINTS.items()}  # fmt: skip
    return scores


def fit_logistic(x: np.ndarray, target: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """(n, F) and targets (n,) on 0..1, NaN left out -> weight (F,) and bias."""
    known = ~np.isnan(target)
    inputs, wanted = torch.from_numpy(x[known]).double(), torch.from_numpy(target[known]).double()
    weight = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(1, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        logits = inputs @ weight + bias
        fit = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        return fit + penalty * weight.square().sum()

    _minimise(loss, [weight, bias])
    return weight.detach().numpy(), float(bias.detach())


def _minimise(loss: Any, parameters: list[Tensor]) -> None:
    optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)


def _fit_sides(odd: np.ndarray, blendshapes: np.ndarray) -> np.ndarray:
    """(n, F) and the teacher's blendshapes (n, 52) -> (F, S): left minus right on the intensity scale. Ridge."""
    left = [BLENDSHAPES.index(f"{SIDE_SHAPES[code]}Left") for code in SIDED]
    right = [BLENDSHAPES.index(f"{SIDE_SHAPES[code]}Right") for code in SIDED]
    difference = blendshapes[:, left] - blendshapes[:, right]
    found = ~np.isnan(difference[:, 0])
    swapped = mirrored_blendshapes()
    assert [swapped[i] for i in left] == right
    x, y = odd[found].astype(np.float64), difference[found]
    ridge = 0.05 * np.trace(x.T @ x) / x.shape[1] * np.eye(x.shape[1])
    return np.linalg.solve(x.T @ x + ridge, x.T @ y).astype(np.float32)


def _coded(config: ReadoutConfig, network: _Network, everything: FerplusFaces) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and codes of the training faces coded by eye. Wild faces of people kept for reports are left out."""
    path = Path(config.codes) / "train.csv"
    names, codes = read_coded(path)
    with path.open(newline="") as file:
        sources = [row["source"] for row in csv.DictReader(file)]
    ferplus = dict(zip(everything.names, everything.pixels, strict=True))
    pixels_of: dict[str, np.ndarray] = {
        name: ferplus[name] for name, s in zip(names, sources, strict=True) if s == "ferplus"
    }
    if config.data.wild:
        landmarks = Path(config.data.landmarks) / "wild.npz"
        wild = read_wild(Path(config.data.wild), landmarks, np.ones(len(BLENDSHAPES)))
        hashed = [hashlib.sha256(name.encode()).hexdigest()[:16] for name in wild.names]
        pixels_of |= dict(zip(hashed, wild.pixels, strict=True))
    kept = [i for i, name in enumerate(names) if name in pixels_of]
    return network.inputs(np.stack([pixels_of[names[i]] for i in kept])).mean, codes[kept]


def _fit_units(
    x: np.ndarray, codes: np.ndarray, fit: ReadoutFit, folds: int = 5
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, dict[str, Any]]:
    """(n, F) and codes (n, U) -> weight and bias, knots (U, 4), and figures by unit.

    The knots come from answers for faces that were left out of the fit, one fold at a time."""
    fold = np.random.default_rng(0).permutation(len(x)) % folds
    weights, biases, knots, figures = [], [], [], {}
    for code, target in zip(CODED, codes.T, strict=True):
        if code in LEFT_OUT:
            continue
        answers = np.empty(len(x))
        for k in range(folds):
            weight, bias = fit_logistic(x[fold != k], target[fold != k], fit.unit_penalty)
            answers[fold == k] = 1 / (1 + np.exp(-(x[fold == k] @ weight + bias)))
        weight, bias = fit_logistic(x, target, fit.unit_penalty)
        weights.append(weight)
        biases.append(bias)
        knots.append(unit_knots(answers, target, fit))
        figures[code] = {"present": int((target == 1).sum()), "knots": [round(float(k), 4) for k in knots[-1]]}
    return (np.stack(weights), np.array(biases)), np.array(knots, np.float32), figures


def unit_knots(answers: np.ndarray, target: np.ndarray, fit: ReadoutFit) -> tuple[float, float, float, float]:
    """Probabilities from which a unit counts as: absent (below), present, sure enough to name, strong."""
    clear = ~np.isnan(target) & (target != 0.5)
    p, truth = answers[clear], target[clear] == 1
    candidates = np.unique(np.round(p, 3))
    scores = [2 * (truth & (p >= c)).sum() / max(truth.sum() + (p >= c).sum(), 1) for c in candidates]
    present = float(np.clip(candidates[int(np.argmax(scores))], 0.05, 0.9))
    falling = np.argsort(-p)
    precision = np.cumsum(truth[falling]) / np.arange(1, len(p) + 1)
    good = np.flatnonzero((precision >= fit.sure) & (np.arange(1, len(p) + 1) >= 10))
    sure = float(p[falling[good[-1]]]) if len(good) else 0.98
    rising = np.argsort(p)
    missed = np.cumsum(truth[rising]) / np.arange(1, len(p) + 1)
    low = np.flatnonzero(missed <= fit.missed)
    absent = float(p[rising[low[-1]]]) if len(low) else 0.01
    absent = float(np.clip(absent, 0.005, present - 0.02))
    sure = float(np.clip(max(sure, fit.sure_from), present + 0.01, 0.98))
    usual = float(np.quantile(p[truth], 0.85)) if truth.any() else 1.0
    strong = float(np.clip(usual, sure + 0.005, 0.995))
    return absent, present, sure, strong


def _whitening(x: np.ndarray, rank: int) -> np.ndarray:
    """(n, F) standardised -> (F, rank): the main directions, each with unit spread."""
    values, vectors = np.linalg.eigh(np.cov(x.T))
    return (vectors[:, ::-1][:, :rank] / np.sqrt(values[::-1][:rank])).astype(np.float32)


def _distance(x: np.ndarray, centre: np.ndarray, scale: np.ndarray, whiten: np.ndarray) -> np.ndarray:
    return np.sqrt((((x - centre) / scale @ whiten) ** 2).mean(axis=1))


def _apply(linear: tuple[np.ndarray, np.ndarray], x: np.ndarray) -> np.ndarray:
    return x @ linear[0].T + linear[1]


def _set_linear(layer: Any, weight: np.ndarray, bias: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> None:
    """Copy a map fitted on standardised inputs into a layer that sees them as they are."""
    layer.weight.copy_(torch.from_numpy(weight / scale))
    layer.bias.copy_(torch.from_numpy(bias - weight @ (centre / scale)))


def _calibrate(
    logits: dict[str, np.ndarray],
    shifts: dict[str, np.ndarray],
    holdout: FerplusFaces,
    prior: np.ndarray,
    fit: ReadoutFit,
) -> dict[str, Any]:
    """Temperature and its slope for each operating point, the abstention threshold, and the distance called home."""
    clear = holdout.majority >= 0
    target = holdout.majority[clear]
    points = {}
    for name, strength in POINTS.items():
        removed = {part: correct_prior(values, prior, strength)[clear] for part, values in logits.items()}

        def cost(temperature: float, slope: float, removed: dict = removed) -> float:
            total = 0.0
            for part, values in removed.items():
                away = np.clip(shifts[part][clear] - USUAL, 0, FARTHEST)
                total += nll(softmax(values, (temperature * np.exp(slope * away))[:, None]), target)
            return total

        _, temperature, slope = min((cost(t, s), t, s) for t in TEMPERATURES for s in SLOPES)
        points[name] = {"temperature": round(float(temperature), 4), "prior_strength": strength,
                        "shift_slope": round(float(slope), 2)}  # fmt: skip
    probabilities = OperatingPoint(**points[DEFAULT]).probabilities(logits["held"], prior, shifts["held"])
    right = probabilities.argmax(axis=1) == holdout.votes[:, :8].argmax(axis=1)
    return {
        "labels": list(EMOTIONS),
        "prior": {name: round(float(p), 6) for name, p in zip(EMOTIONS, prior, strict=True)},
        "points": points,
        "default": DEFAULT,
        "abstain_below": round(abstention_threshold(probabilities.max(axis=1), right, SELECTIVE_ACCURACY), 4),
        "home": round(float(np.quantile(shifts["held"], fit.home)), 4),
        "fitted_on": f"{len(holdout)} faces held out of train and spoilt copies, {int(clear.sum())} with a majority",
    }


def _write_words(model: str, out: Path) -> None:
    """The sentence encoder's vectors of the lexicon's entries."""
    from safetensors.numpy import save_file

    clip, tokenizer = create_clip(model)
    names = [word.name for word in lexicon().values()]
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(names), 128):
            encoded = clip.encode_text(tokenizer(names[start : start + 128])).float()
            vectors.append(torch.nn.functional.normalize(encoded, dim=1).half().numpy())
    save_file({"vectors": np.concatenate(vectors)}, out / WORDS_FILE, {"names": names_hash()})


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
