"""Trains action units, valence and arousal from columns of the data, as linear heads on features, and scores them.

Strength of the regularisation, thresholds and spread are chosen on the held-out part. Scores are for the report part,
beside baselines that need no training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from emoreason.data.schema import Sample
from emoreason.evidence.measures import LOWEST, POINT, Measures
from emoreason.knowledge.emotions import valence_arousal
from emoreason.knowledge.facs import ACTION_UNITS
from emoreason.train.heads.measure_scores import best_threshold, f1, point_scores, rounded, unit_scores

MIN_POINTS = {"train": 30, "holdout": 10}  # faces with a valence or arousal; a fit to fewer would be noise
MIN_FACES = {"train": 10, "holdout": 3}  # faces that show a unit, and faces that do not
PRESENT = 0.4  # a graded unit counts as shown from 2 of 5 on, as usual for DISFA
STRENGTHS = tuple(float(10.0**k) for k in np.arange(1, -5.5, -0.5))  # L2 penalties on standardised features
Columns = dict[str, np.ndarray]  # valence, arousal or the code of a unit -> (n,), NaN where unknown


def fit_measures(
    samples: Sequence[Sample],
    features: np.ndarray,
    parts: tuple[np.ndarray, np.ndarray, np.ndarray],
    folder: Path,
    seed: int,
    *,
    distributions: Sequence[Mapping[str, float]] | None = None,
    base_units: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any] | None:
    """Train a head for each column of the samples and write measures.safetensors. Returns the metrics, or None.

    features: (n, D), in the order of the samples; parts: the train, holdout and report rows
    distributions: label probabilities of each face; valence and arousal derived from them are a baseline
    base_units: code -> (n,), the base model's own action units, a second baseline
    """
    columns = _columns(samples)
    if not columns:
        return None
    train, holdout, report = (np.asarray(rows, dtype=np.int64) for rows in parts)
    reasons = {name: _too_few(name, values, {"train": train, "holdout": holdout}) for name, values in columns.items()}
    kept = {name: values for name, values in columns.items() if not reasons[name]}
    metrics: dict[str, Any] = {"left_out": {_title(name): why for name, why in reasons.items() if why}}
    points, codes = [name for name in POINT if name in kept], [name for name in kept if name not in POINT]
    if not kept:
        return metrics

    centre, spread = features[train].mean(axis=0), features[train].std(axis=0) + 1e-6
    x = ((features - centre) / spread).astype(np.float32)
    by_point = [_fit_point(x, kept[name], train, holdout) for name in points]
    by_unit = [_fit_units(x, kept, codes, train, holdout)] if codes else []
    width = features.shape[1]

    def unscaled(weights: list[np.ndarray], biases: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Convert weights on standardised features to weights on the raw features."""
        weight = np.concatenate([w.reshape(-1, width) for w in weights] or [np.empty((0, width))]) / spread
        return weight, np.concatenate([np.ravel(b) for b in biases] or [np.empty(0)]) - weight @ centre

    measures = Measures(
        folder.resolve().name, "", tuple(codes),
        *unscaled([w for w, _, _ in by_unit], [b for _, b, _ in by_unit]), np.full(len(codes), LOWEST),
        tuple(points), *unscaled([w for w, _, _ in by_point], [b for _, b, _ in by_point]),
    )  # fmt: skip

    derived = _derived(distributions)
    answers = measures.valence_arousal(features)
    for name, (_, _, strength) in zip(points, by_point, strict=True):
        column, rows = POINT.index(name), _known(kept[name], report)
        assert answers is not None
        predictions = {"trained": answers[rows, column], "constant": np.full(len(rows), np.nanmean(kept[name][train]))}
        if derived is not None and not np.isnan(derived[rows, column]).any():
            predictions["derived"] = derived[rows, column]
        metrics[name] = {"n": len(rows), "strength": float(f"{strength:.3g}")} | {
            who: point_scores(values, kept[name][rows], seed) for who, values in predictions.items() if len(rows)
        }

    raw, thresholds = measures.raw_units(features), []
    units: dict[str, Any] = {}
    for at, code in enumerate(codes):
        shown, rows = kept[code] >= PRESENT, _known(kept[code], report)
        predictions = {"trained": raw[:, at]} | (
            {"base": base_units[code]} if base_units and code in base_units else {}
        )
        chosen = _known(kept[code], holdout)
        limits = {who: best_threshold(values[chosen], shown[chosen]) for who, values in predictions.items()}
        thresholds.append(LOWEST if _graded(kept[code]) else limits["trained"])
        units[code] = {
            "n": len(rows),
            "base_rate": rounded(float(shown[rows].mean())) if len(rows) else None,
            "graded": _graded(kept[code]),
            "strength": float(f"{by_unit[0][2][at]:.3g}"),
            "always": {"f1": rounded(f1(np.full(len(rows), True), shown[rows]))},
        } | {
            who: unit_scores(values[rows], shown[rows], limits[who], seed)
            for who, values in predictions.items()
            if len(rows)
        }
    if units:
        metrics["action_units"] = units
        metrics["mean_f1"] = {who: _mean_f1(units, who) for who in ("trained", "always", "base")}
    replace(measures, knee=np.clip(thresholds, 0.01, 0.99)).save(folder)
    return metrics


def _columns(samples: Sequence[Sample]) -> Columns:
    """The columns that the samples have, in the order valence, arousal, action units by number."""
    columns = {name: [getattr(sample, name) for sample in samples] for name in POINT}
    columns |= {code: [(sample.units or {}).get(code) for sample in samples] for code in ACTION_UNITS}
    as_numbers = {name: np.array([np.nan if v is None else v for v in values]) for name, values in columns.items()}
    return {name: values for name, values in as_numbers.items() if not np.isnan(values).all()}


def _known(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return rows[~np.isnan(values[rows])]


def _graded(values: np.ndarray) -> bool:
    """Whether the values are intensities and not only 0 and 1."""
    return bool(np.setdiff1d(values[~np.isnan(values)], (0.0, 1.0)).size)


def _title(name: str) -> str:
    return name if name in POINT else f"AU {name}"


def _too_few(name: str, values: np.ndarray, parts: Mapping[str, np.ndarray]) -> str:
    """Why a column cannot be trained; empty if it can."""
    for part, rows in parts.items():
        known = values[_known(values, rows)]
        if name in POINT and len(known) < MIN_POINTS[part]:
            return f"{len(known)} faces of the {part} part have it, at least {MIN_POINTS[part]} are needed"
        shown = int((known >= PRESENT).sum())
        if name not in POINT and min(shown, len(known) - shown) < MIN_FACES[part]:
            return (
                f"{shown} faces of the {part} part show it and {len(known) - shown} do not, "
                f"at least {MIN_FACES[part]} of each are needed"
            )
        if name in POINT and known.std() == 0:
            return f"it is {known[0]:g} in all faces of the {part} part"
    return ""


def _fit_point(
    x: np.ndarray, values: np.ndarray, train: np.ndarray, holdout: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Ridge regression: weight (D,), bias (), strength.

    Its answers are stretched to the spread of the held-out faces, because a ridge stays too close to the mean and the
    concordance correlation penalises that."""
    rows, held = _known(values, train), _known(values, holdout)
    mean, target = values[rows].mean(), values[held]
    gram = x[rows].T.astype(np.float64) @ x[rows] / len(rows)
    eigenvalues, basis = np.linalg.eigh(gram)
    projected = basis.T @ (x[rows].T @ (values[rows] - mean) / len(rows))
    candidates = [
        (0.0, np.zeros(x.shape[1]), mean, STRENGTHS[0])
    ]  # used if no candidate agrees with the held-out faces
    for strength in STRENGTHS:
        weight = basis @ (projected / (np.maximum(eigenvalues, 0) + strength))
        predicted = x[held] @ weight
        stretch = target.std() / predicted.std() if predicted.std() > 0 else 1.0
        fit = float(np.corrcoef(predicted, target)[0, 1]) if predicted.std() > 0 else -1.0
        candidates.append((fit, weight * stretch, target.mean() - stretch * predicted.mean(), strength))
    best = max(candidates, key=lambda candidate: candidate[0])
    return best[1], np.asarray(best[2]), best[3]


def _fit_units(
    x: np.ndarray, columns: Columns, codes: Sequence[str], train: np.ndarray, holdout: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Logistic regressions for all units at once: weight (U, D), bias (U,), and the best strength for each unit."""
    table = torch.from_numpy(np.stack([columns[code] for code in codes], axis=1)).float()  # (n, U)
    known, target = ~table.isnan(), table.nan_to_num()
    parts = [(torch.from_numpy(x[rows]), target[rows], known[rows]) for rows in (train, holdout)]
    rate = (parts[0][1].sum(dim=0) / parts[0][2].sum(dim=0)).clamp(1e-4, 1 - 1e-4)
    weight = torch.zeros(len(codes), x.shape[1], requires_grad=True)
    bias = rate.logit().requires_grad_()
    best = torch.full((len(codes),), torch.inf)
    kept_weight, kept_bias, kept_strength = weight.detach().clone(), bias.detach().clone(), [0.0] * len(codes)
    for strength in STRENGTHS:  # from strong to weak, each starting from the previous solution
        _minimise(weight, bias, *parts[0], strength)
        with torch.no_grad():
            held = _losses(weight, bias, *parts[1])
            better = held < best
            best = torch.where(better, held, best)
            kept_weight[better], kept_bias[better] = weight[better], bias[better]
        kept_strength = [strength if b else old for b, old in zip(better.tolist(), kept_strength, strict=True)]
    return kept_weight.numpy(), kept_bias.numpy(), kept_strength


def _losses(weight: Tensor, bias: Tensor, inputs: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """(U,) mean cross-entropy over the faces whose value is known."""
    each = F.binary_cross_entropy_with_logits(inputs @ weight.T + bias, target, reduction="none") * known
    return each.sum(dim=0) / known.sum(dim=0)


def _minimise(weight: Tensor, bias: Tensor, inputs: Tensor, target: Tensor, known: Tensor, strength: float) -> None:
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = _losses(weight, bias, inputs, target, known).sum() + strength / 2 * weight.square().sum()
        loss.backward()
        return loss.item()

    optimizer.step(closure)


def _derived(distributions: Sequence[Mapping[str, float]] | None) -> np.ndarray | None:
    """(n, 2) valence and arousal of the label distributions, NaN where a label has no point on the circumplex."""
    if distributions is None:
        return None
    return np.array([valence_arousal(shares) or (np.nan, np.nan) for shares in distributions])


def _mean_f1(units: Mapping[str, Any], who: str) -> float | None:
    """Mean F1 of the units shown in the report part; None if `who` lacks some of them."""
    scores = [row.get(who, {}).get("f1") for row in units.values() if row["always"]["f1"] is not None]
    return rounded(float(np.mean(scores))) if scores and None not in scores else None
