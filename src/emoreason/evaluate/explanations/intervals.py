"""Shares and means with their confidence intervals, for the figures of the explanation benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import Any

import numpy as np

DRAWS = 1000

Numbers = Sequence[float] | np.ndarray
Figure = dict[str, Any]  # value, low, high, n; without rows n is 0 and the others are None


def share(hits: Numbers, of: Numbers | None = None, seed: int = 0) -> Figure:
    """The sum of `hits` divided by the sum of `of` (default: the number of rows), with a bootstrap over the rows.

    A row is a face or a question, so everything in one text is drawn together. `n` is the divisor.
    """
    part = np.asarray(hits, dtype=float)
    whole = np.ones(len(part)) if of is None else np.asarray(of, dtype=float)
    total = float(whole.sum())
    if total <= 0:
        return {"value": None, "low": None, "high": None, "n": 0}
    value = float(part.sum()) / total
    low, high = _interval(part, whole, value, seed)
    return {"value": value, "low": low, "high": high, "n": int(round(total))}


def mean(values: Numbers, seed: int = 0) -> Figure:
    """The mean of values that are not shares, such as changes of log p, with its interval."""
    rows = np.asarray(values, dtype=float)
    if not len(rows):
        return {"value": None, "low": None, "high": None, "n": 0}
    low, high = np.percentile(_replicates(rows, np.ones(len(rows)), seed), (2.5, 97.5))
    return {"value": float(rows.mean()), "low": float(low), "high": float(high), "n": len(rows)}


def _interval(part: np.ndarray, whole: np.ndarray, value: float, seed: int) -> tuple[float, float]:
    """A bootstrap interval. If the share is 0 or 1 there is nothing to resample, so the rule of three is used."""
    if value in (0.0, 1.0):
        width = min(1.0, 3 / float(whole.sum()))
        return (1 - width, 1.0) if value else (0.0, width)
    low, high = np.nanpercentile(_replicates(part, whole, seed), (2.5, 97.5))
    return float(low), float(high)


def _replicates(part: np.ndarray, whole: np.ndarray, seed: int) -> np.ndarray:
    """(DRAWS,): the ratio for resampled rows. Equal rows are drawn together, so a large n costs little."""
    rows, counts = np.unique(np.column_stack([part, whole]), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=DRAWS)
    above, below = (drawn @ rows).T
    return np.divide(above, below, out=np.full(DRAWS, np.nan), where=below > 0)


def sign_test(wins: int, losses: int) -> float | None:
    """Two-sided p of the sign test, without ties; None without pairs."""
    n = wins + losses
    if not n:
        return None
    fewer = min(wins, losses)
    return min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n)
