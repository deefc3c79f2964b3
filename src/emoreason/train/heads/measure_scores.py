"""Scores of trained action units, valence and arousal, as pure functions of arrays, and their Markdown table."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from emoreason.evaluate.metrics import auroc

DRAWS = 300  # bootstrap samples


def ccc(answers: np.ndarray, truth: np.ndarray) -> float:
    """Lin's concordance correlation coefficient: correlation that also requires equal mean and spread."""
    total = answers.var() + truth.var() + (answers.mean() - truth.mean()) ** 2
    return 2 * _covariance(answers, truth) / total if total > 1e-12 else float("nan")


def pearson(answers: np.ndarray, truth: np.ndarray) -> float:
    spread = float(answers.std() * truth.std())
    return _covariance(answers, truth) / spread if spread > 1e-12 else float("nan")


def _covariance(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a - a.mean()) * (b - b.mean())).mean())


def f1(answered: np.ndarray, shown: np.ndarray) -> float:
    """F1 of two boolean arrays; 0 if nothing is answered, NaN if `shown` is never true."""
    return float(2 * (answered & shown).sum() / (answered.sum() + shown.sum())) if shown.any() else float("nan")


def interval(score: Callable[..., float], *arrays: np.ndarray, seed: int) -> list[float | None]:
    """95 % bootstrap interval over faces."""
    rng, n = np.random.default_rng(seed), len(arrays[0])
    drawn = [score(*(array[rows] for array in arrays)) for rows in (rng.integers(0, n, n) for _ in range(DRAWS))]
    valid = [value for value in drawn if not np.isnan(value)]
    return [rounded(float(np.percentile(valid, q))) if valid else None for q in (2.5, 97.5)]


def best_threshold(answers: np.ndarray, shown: np.ndarray) -> float:
    """The threshold with the highest F1, half-way between two answers so that it depends on no single face."""
    order = np.argsort(-answers, kind="stable")
    hits = np.cumsum(shown[order])  # hits if the first 1, 2, … n faces are answered with yes
    scores = 2 * hits / (np.arange(1, len(order) + 1) + shown.sum())
    last = np.append(np.diff(answers[order]) < 0, True)  # equal answers stay on one side
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
    return None if np.isnan(value) else round(value, 4) + 0.0  # + 0.0 turns -0.0 into 0.0


def table(metrics: Mapping[str, Any]) -> str:
    """The scores as Markdown tables for the card."""
    parts = []
    points = [name for name in ("valence", "arousal") if name in metrics]
    if points:
        lines = ["| | faces | CCC | Pearson | RMSE |", "| --- | ---: | --- | ---: | ---: |"]
        for name in points:
            for who, title in (("trained", name), ("derived", "derived from the labels"), ("constant", "constant")):
                if (row := metrics[name].get(who)) is not None:
                    lines.append(
                        f"| {title} | {metrics[name]['n']} | {_fixed(row['ccc'])}{_brackets(row['ccc_interval'])} | "
                        f"{_fixed(row['pearson'])} | {_fixed(row['rmse'])} |"
                    )
        parts.append("\n".join(lines))
    if units := metrics.get("action_units"):
        lines = ["| action unit | faces | shown | F1 | AUC | F1 of always yes | base model's F1 | its AUC |",
                 "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
        for code, row in units.items():
            trained, base = row["trained"], row.get("base") or {}
            lines.append(
                f"| {code} | {row['n']} | {100 * row['base_rate']:.0f} % | {_fixed(trained['f1'])}"
                f"{_brackets(trained['f1_interval'])} | {_fixed(trained['auc'])} | {_fixed(row['always']['f1'])} | "
                f"{_fixed(base.get('f1'))} | {_fixed(base.get('auc'))} |"
            )
        means = {who: _fixed(metrics["mean_f1"].get(who)) for who in ("trained", "always", "base")}
        lines.append(f"| mean | | | {means['trained']} | | {means['always']} | {means['base']} | |")
        parts.append("\n".join(lines))
    if metrics["left_out"]:
        parts.append("Not trained: " + "; ".join(f"{name}: {why}" for name, why in metrics["left_out"].items()) + ".")
    return "\n\n".join(parts)


def _fixed(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _brackets(limits: list[float | None]) -> str:
    return "" if None in limits else f" [{limits[0]:.3f}, {limits[1]:.3f}]"
