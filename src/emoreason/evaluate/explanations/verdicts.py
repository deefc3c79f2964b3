"""Scores several sets of answers on the same faces, and the paired differences between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emoreason.evaluate import metrics
from emoreason.evaluate.explanations.cases import Row
from emoreason.evaluate.explanations.intervals import DRAWS, Figure


def scored(
    faces: Sequence[Row], columns: Mapping[str, Sequence[str | None]], seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Accuracy, UAR and macro-F1 of every column of answers, and the gain of each over the first column."""
    labels = faces[0].requested_labels
    targets = np.eye(len(labels))[[labels.index(row.target or "") for row in faces]]
    answers = {
        name: np.array([labels.index(label) if label in labels else -1 for label in column])
        for name, column in columns.items()
    }
    first, *others = answers
    return (
        {name: headline(targets, column, seed) for name, column in answers.items()},
        {name: paired(targets, answers[first], answers[name], seed) for name in others},
    )


def headline(targets: np.ndarray, answers: np.ndarray, seed: int) -> dict[str, Any]:
    """Accuracy, UAR and macro-F1 with the stratified bootstrap intervals of the evaluation."""
    values = metrics.headline(metrics.confusion(targets, answers))
    low, high = metrics.bounds(targets, answers, DRAWS, seed)
    return {
        name: {"value": float(v), "low": float(a), "high": float(b), "n": len(targets)}
        for name, v, a, b in zip(("accuracy", "uar", "macro_f1"), values, low, high, strict=True)
    }


def paired(targets: np.ndarray, first: np.ndarray, second: np.ndarray, seed: int) -> dict[str, Figure]:
    """second - first in accuracy and UAR, both scored on the same resampled faces, stratified by class."""
    gains = np.zeros((DRAWS, 2))
    random, recalls = np.random.default_rng(seed), np.zeros((DRAWS, 2, targets.shape[1]))
    classes = targets.argmax(1)
    present = np.unique(classes)
    for k in present:
        chosen = classes == k
        pairs, counts = np.unique(
            np.column_stack([first[chosen] == k, second[chosen] == k]), axis=0, return_counts=True
        )
        drawn = random.multinomial(counts.sum(), counts / counts.sum(), size=DRAWS)
        recalls[:, :, k] = drawn @ pairs
    sizes = np.bincount(classes, minlength=targets.shape[1])
    gains[:, 0] = (recalls[:, 1] - recalls[:, 0]).sum(1) / len(targets)
    gains[:, 1] = ((recalls[:, 1] - recalls[:, 0])[:, present] / sizes[present]).mean(1)
    a, b = (metrics.headline(metrics.confusion(targets, answers)) for answers in (first, second))
    low, high = np.percentile(gains, (2.5, 97.5), axis=0)
    return {
        name: {"value": float(b[i] - a[i]), "low": float(low[i]), "high": float(high[i]), "n": len(targets)}
        for i, name in enumerate(("accuracy", "uar"))
    }
