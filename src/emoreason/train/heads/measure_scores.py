"""How good measured action units, valence and arousal are: pure functions of arrays, and the table that tells it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from emoreason.evaluate.metrics import auroc

DRAWS = 300


def ccc(answers: np.ndarray, truth: np.ndarray) -> float:
    """Lin's concordance correlation coefficient: correlation that also asks for the same mean and spread."""
    off = answers.var() + truth.var() + (answers.mean() - truth.mean()) ** 2
    return 2 * _together(answers, truth) / off if off > 1e-12 else float("nan")


def pearson(answers: np.ndarray, truth: np.ndarray) -> float:
    spread = float(answers.std() * truth.std())
    return _together(answers, truth) / spread if spread > 1e-12 else float("nan")


def _together(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a - a.mean()) * (b - b.mean())).mean())


def f1(answered: np.ndarray, shown: np.ndarray) -> float:
    """Of two arrays of booleans; 0 where nothing is answered, NaN where there is nothing to find."""
    return float(2 * (answered & shown).sum() / (answered.sum() + shown.sum())) if shown.any() else float("nan")


def interval(score: Callable[..., float], *arrays: np.ndarray, seed: int) -> list[float | None]:
    """95 % bootstrap interval over faces."""
    random, n = np.random.default_rng(seed), len(arrays[0])
    drawn = [score(*(array[rows] for array in arrays)) for rows in (random.integers(0, n, n) for _ in range(DRAWS))]
    known = [value for value in drawn if not np.isnan(value)]
    return [rounded(float(np.percentile(known, q))) if known else None for q in (2.5, 97.5)]


def best_threshold(answers: np.ndarray, shown: np.ndarray) -> float:
    """The threshold with the highest F1: half-way between two answers, so that it stands for no single face."""
    order = np.argsort(-answers, kind="stable")
    found = np.cumsum(shown[order])  # hits when the first 1, 2, … n are answered
    scores = 2 * found / (np.arange(1, len(order) + 1) + shown.sum())
    last = np.append(np.diff(answers[order]) < 0, True)  # equal answers fall on one side
    best = int(np.where(last, scores, -1).argmax())
    below = answers[order[best + 1]] if best + 1 < len(order) else 0.0
    return float((answers[order[best]] + below) / 2)


def point_scores(answers: np.ndarray, truth: np.ndarray, seed: int) -> dict[str, Any]:
    return {
        "ccc": rounded(ccc(answers, truth)),
        "ccc_interval": interval(ccc, answers, truth, seed=seed),
        "pearson": rounded(pearson(answers, truth)),
        "rmse": rounded(float(np.sqrt(((answers - truth) ** 2).mean()))),
    }


def unit_scores(answers: np.ndarray, shown: np.ndarray, threshold: float, seed: int) -> dict[str, Any]:
    answered = answers >= threshold
    return {
        "threshold": rounded(threshold),
        "f1": rounded(f1(answered, shown)),
        "f1_interval": interval(f1, answered, shown, seed=seed),
        "auc": rounded(auroc(answers, shown.astype(float))),
    }


def rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4) + 0.0  # and never -0.0


def table(metrics: Mapping[str, Any]) -> str:
    """Markdown for the card of a run."""
    parts = []
    points = [name for name in ("valence", "arousal") if name in metrics]
    if points:
        lines = ["| | faces | CCC | Pearson | RMSE |", "| --- | ---: | --- | ---: | ---: |"]
        for name in points:
            for who, words in (("trained", name), ("derived", "derived from the labels"), ("constant", "constant")):
                if (row := metrics[name].get(who)) is not None:
                    lines.append(
                        f"| {words} | {metrics[name]['n']} | {_number(row['ccc'])}{_between(row['ccc_interval'])} | "
                        f"{_number(row['pearson'])} | {_number(row['rmse'])} |"
                    )
        parts.append("\n".join(lines))
    if units := metrics.get("action_units"):
        lines = ["| action unit | faces | shown | F1 | AUC | F1 of always yes | base model's F1 | its AUC |",
                 "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
        for code, row in units.items():
            trained, base = row["trained"], row.get("base") or {}
            lines.append(
                f"| {code} | {row['n']} | {100 * row['base_rate']:.0f} % | {_number(trained['f1'])}"
                f"{_between(trained['f1_interval'])} | {_number(trained['auc'])} | {_number(row['always']['f1'])} | "
                f"{_number(base.get('f1'))} | {_number(base.get('auc'))} |"
            )
        means = {who: _number(metrics["mean_f1"].get(who)) for who in ("trained", "always", "base")}
        lines.append(f"| mean | | | {means['trained']} | | {means['always']} | {means['base']} | |")
        parts.append("\n".join(lines))
    if metrics["left_out"]:
        parts.append("Not trained: " + "; ".join(f"{name}: {why}" for name, why in metrics["left_out"].items()) + ".")
    return "\n\n".join(parts)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _between(limits: list[float | None]) -> str:
    return "" if None in limits else f" [{limits[0]:.3f}, {limits[1]:.3f}]"
