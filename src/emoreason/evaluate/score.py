"""Computes the figures of report.json from prediction rows. docs/evaluation.md describes the keys."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from emoreason.core.errors import EmoreasonError
from emoreason.evaluate import metrics
from emoreason.evaluate.predictions import Prediction

Target = str | Mapping[str, float] | None

DRAWS = 1000  # bootstrap replicates
COVERAGE = 0.8
SUM_TOLERANCE = 0.02  # probabilities further from a sum of 1 are not a distribution and count as missing
MAX_GROUPS = 20  # attributes with more values (such as subject ids) are not reported
MIN_GROUP = 30  # faces; smaller groups are listed but not used for gaps
MIN_CELL = 5  # faces; a recall over fewer is not used for gaps


def score(
    rows: Sequence[Prediction],
    labels: Sequence[str],
    target_of: Callable[[Prediction], Target],
    votes_of: Callable[[Prediction], Mapping[str, float] | None],
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of a report. `target_of` is the protocol (None: the row does not count), `votes_of` the votes."""
    if len(labels) < 2:
        raise EmoreasonError(f"the labels are {list(labels)}; expected two or more")
    counted = [(row, target) for row in rows if (target := target_of(row)) is not None]
    if not counted:
        raise EmoreasonError(
            f"none of the {len(rows)} samples counts: no target is among the labels {', '.join(labels)}. "
            "Check the data with `emoreason data check`, or choose another --protocol"
        )
    rows = [row for row, _ in counted]
    position = {label: i for i, label in enumerate(labels)}
    targets = np.stack([_distribution(t if isinstance(t, Mapping) else {t: 1.0}, position) for _, t in counted])
    failures = [_failure(row, position) for row in rows]
    answers = np.array(
        [-1 if failure else position[row.label or ""] for row, failure in zip(rows, failures, strict=True)]
    )
    # Without detection the whole crop is the face. If detection ran all the same, the score marks the detected faces.
    searched = any(row.face_score is not None for row in rows)
    faces = np.array([row.status in ("ok", "abstained") and not (searched and row.face_score is None) for row in rows])
    matrix = metrics.confusion(targets, answers)
    shares = targets.mean(0)
    present = shares > 0
    failed = Counter(filter(None, failures))
    return _plain(
        {
            "n": len(rows),
            "n_scored": int((answers >= 0).sum()),
            "n_failed": int((answers < 0).sum()),
            "n_no_face": failed["no_face"],
            "n_error": failed["error"],
            "n_unparsable": failed["unparsable"],
            "errors": Counter(row.error or "unknown" for row in rows if row.status == "error").most_common(5),
            **_headline(targets, answers, seed),
            "detected": {"n": int(faces.sum()), **_headline(targets[faces], answers[faces], seed)}
            if faces.any()
            else None,
            "majority": {
                "label": labels[int(shares.argmax())],
                "accuracy": shares.max(),
                "uar": 1 / present.sum(),
                "macro_f1": 2 * shares.max() / (1 + shares.max()) / present.sum(),
            },
            "ceiling": targets.max(1).mean(),
            "chance": {"accuracy": 1 / len(labels), "uar": 1 / len(labels)},
            "labels": list(labels),
            "per_class": _per_class(matrix, labels),
            "confusion": {"counts": matrix[:, :-1], "no_answer": matrix[:, -1]},
            **_probabilistic(rows, targets, answers, position, votes_of),
            "groups": _groups(rows, targets, answers, labels, seed),
        }
    )


def _failure(row: Prediction, position: Mapping[str, int]) -> str | None:
    if row.status in ("no_face", "error"):
        return row.status
    return None if row.label in position else "unparsable"


def _distribution(weights: Mapping[Any, float], position: Mapping[str, int]) -> np.ndarray:
    """Weights by name -> an array in label order that sums to 1, without names that are not labels."""
    array = np.zeros(len(position))
    for name, weight in weights.items():
        if name in position:
            array[position[name]] += weight
    return array / array.sum() if array.sum() > 0 else array


def _headline(targets: np.ndarray, answers: np.ndarray, seed: int) -> dict[str, dict[str, float]]:
    values = metrics.headline(metrics.confusion(targets, answers))
    low, high = metrics.bounds(targets, answers, DRAWS, seed)
    names = ("accuracy", "uar", "macro_f1")
    return {name: {"value": v, "low": a, "high": b} for name, v, a, b in zip(names, values, low, high, strict=True)}


def _per_class(matrix: np.ndarray, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    scores = metrics.class_scores(matrix)
    return {
        label: {name: _whole_count(name, values[i]) for name, values in scores.items()}
        for i, label in enumerate(labels)
    }


def _whole_count(name: str, value: float) -> float:
    """Counts as integers, if they are whole (under soft targets they may not be)."""
    return int(value) if name in ("support", "predicted") and value == round(value) else value


def _probabilistic(
    rows: Sequence[Prediction],
    targets: np.ndarray,
    answers: np.ndarray,
    position: Mapping[str, int],
    votes_of: Callable[[Prediction], Mapping[str, float] | None],
) -> dict[str, Any]:
    """Calibration, distance to the votes and selective prediction, over the answered rows with a distribution."""
    values = [[row.probabilities.get(label, 0.0) for label in position] for row in rows]
    p = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=float)
    usable = (answers >= 0) & (np.abs(p.sum(1) - 1) <= SUM_TOLERANCE) & (p >= 0).all(1)
    correct = np.where(answers >= 0, targets[np.arange(len(rows)), answers], 0.0)
    figures: dict[str, Any] = dict.fromkeys(
        ("ece", "ece_adaptive", "brier", "nll", "auroc", "kl", "js", "soft_cross_entropy", "top2_hit", "aurc")
    )
    figures |= {"n_probabilities": int(usable.sum()), "n_votes": 0, "reliability": [], "risk_coverage": []}
    figures |= {"selective": None, "abstention": _abstention(rows, correct)}
    if not usable.any():
        return figures

    p = np.where(usable[:, None], p, 0.0)
    p[usable] /= p[usable].sum(1, keepdims=True)
    confidence = np.where(usable, p[np.arange(len(rows)), answers], 0.0)
    bins = metrics.equal_width_bins(confidence[usable], correct[usable])
    # Missing answers come last, so coverage is a share of all faces.
    ordering = np.where(answers >= 0, confidence, -1.0)
    curve = metrics.risk_curve(ordering, correct)
    figures |= {
        "ece": bins.ece(),
        "ece_adaptive": metrics.equal_mass_bins(confidence[usable], correct[usable]).ece(),
        "brier": metrics.brier(p[usable], targets[usable]),
        "nll": metrics.cross_entropy(targets[usable], p[usable]),
        "auroc": metrics.auroc(confidence[usable], correct[usable]),
        "aurc": curve.mean(),
        "selective": {"coverage": COVERAGE, "accuracy": 1 - metrics.risk_at(curve, COVERAGE)},
        "reliability": [
            {
                "low": bins.low[i],
                "high": bins.high[i],
                "n": bins.n[i],
                "confidence": bins.confidence[i],
                "accuracy": bins.accuracy[i],
            }
            for i in range(len(bins.n))
        ],
        "risk_coverage": [{"coverage": c / 100, "risk": metrics.risk_at(curve, c / 100)} for c in range(1, 101)],
    }
    votes = [votes_of(row) if use else None for row, use in zip(rows, usable, strict=True)]
    voted = np.array([v is not None and _distribution(v, position).sum() > 0 for v in votes])
    if voted.any():
        shares = np.stack([_distribution(v, position) for v, has in zip(votes, voted, strict=True) if has and v])
        figures |= {
            "n_votes": int(voted.sum()),
            "kl": metrics.kl(shares, p[voted]),
            "js": metrics.js(shares, p[voted]),
            "soft_cross_entropy": metrics.cross_entropy(shares, p[voted]),
            "top2_hit": metrics.top2_hit(shares, answers[voted]),
        }
    return figures


def _abstention(rows: Sequence[Prediction], correct: np.ndarray) -> dict[str, Any]:
    """The model's own operating point: how often it abstained, and how often it was right otherwise."""
    abstained = np.array([row.status == "abstained" for row in rows])
    answered = np.array([row.status == "ok" for row in rows])
    return {
        "n": int(abstained.sum()),
        "coverage": answered.mean(),
        "accuracy": correct[answered].mean() if answered.any() else None,
    }


def _groups(
    rows: Sequence[Prediction], targets: np.ndarray, answers: np.ndarray, labels: Sequence[str], seed: int
) -> dict[str, Any]:
    """Counts, accuracy, UAR and recalls per attribute and value, and the gaps between values with enough faces.

    The UAR of a value is over its own classes. A gap only covers the classes that have enough faces in every compared
    value, as means over different classes cannot be compared.
    """
    attributes = sorted({name for row in rows for name in row.groups})
    report: dict[str, Any] = {}
    for attribute in attributes:
        row_values = np.array([str(row.groups.get(attribute, "")) for row in rows])
        names = [name for name in np.unique(row_values) if name]
        if len(names) > MAX_GROUPS:
            continue
        values, recalls, supports = {}, [], []
        for name in names:
            chosen = row_values == name
            scores = metrics.class_scores(metrics.confusion(targets[chosen], answers[chosen]))
            values[str(name)] = {
                "n": int(chosen.sum()),
                **_headline(targets[chosen], answers[chosen], seed),
                "recall": dict(zip(labels, scores["recall"], strict=True)),
                "support": {
                    label: _whole_count("support", s) for label, s in zip(labels, scores["support"], strict=True)
                },
            }
            if chosen.sum() >= MIN_GROUP:
                recalls.append(np.nan_to_num(scores["recall"]))
                supports.append(scores["support"])
        report[attribute] = {
            "values": values,
            "n_unknown": int((row_values == "").sum()),
            **_gaps(recalls, supports, labels),
        }
    return report


def _gaps(recalls: list[np.ndarray], supports: list[np.ndarray], labels: Sequence[str]) -> dict[str, Any]:
    if len(recalls) < 2:
        return {"compared": [], "uar_gap": None, "tpr_gap": {}}
    recall = np.stack(recalls)
    common = np.stack(supports).min(0) >= MIN_CELL
    tpr_gap = recall.max(0) - recall.min(0)
    means = recall[:, common].mean(1) if common.any() else None
    return {
        "compared": [label for label, is_common in zip(labels, common, strict=True) if is_common],
        "uar_gap": None if means is None else means.max() - means.min(),
        "tpr_gap": {label: tpr_gap[i] for i, label in enumerate(labels) if common[i]},
    }


def _plain(value: Any) -> Any:
    """The value for JSON: Python numbers instead of numpy's, whole counts as integers, None instead of NaN."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        whole = bool(np.isfinite(value).all() and (value == np.round(value)).all())
        return _plain((value.astype(int) if whole else value).tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
