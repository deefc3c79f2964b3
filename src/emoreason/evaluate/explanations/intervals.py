"""Shares and means with an interval: what every figure of the battery is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

DRAWS = 1000

Numbers = Sequence[float] | np.ndarray
Figure = dict[str, Any]  # value, low, high, n; all None but n where there is nothing to count


def share(hits: Numbers, of: Numbers | None = None, seed: int = 0) -> Figure:
    """The sum of `hits` over the sum of `of` (by default: over the number of rows), resampled row by row.

    A row is a face or a question, so that what stands in one text is drawn together. `n` counts what is divided by.
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
    """The mean of figures that are no shares, such as a change of log p."""
    rows = np.asarray(values, dtype=float)
    if not len(rows):
        return {"value": None, "low": None, "high": None, "n": 0}
    low, high = np.percentile(_replicates(rows, np.ones(len(rows)), seed), (2.5, 97.5))
    return {"value": float(rows.mean()), "low": float(low), "high": float(high), "n": len(rows)}


def _interval(part: np.ndarray, whole: np.ndarray, value: float, seed: int) -> tuple[float, float]:
    """The bootstrap's; where every row is alike it has nothing to draw, and the rule of three says what n allows."""
    if value in (0.0, 1.0):
        room = min(1.0, 3 / float(whole.sum()))
        return (1 - room, 1.0) if value else (0.0, room)
    low, high = np.nanpercentile(_replicates(part, whole, seed), (2.5, 97.5))
    return float(low), float(high)


def _replicates(part: np.ndarray, whole: np.ndarray, seed: int) -> np.ndarray:
    """(DRAWS,): the ratio of resampled rows. Equal rows are drawn together, so a large n costs little."""
    rows, counts = np.unique(np.column_stack([part, whole]), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=DRAWS)
    above, below = (drawn @ rows).T
    return np.divide(above, below, out=np.full(DRAWS, np.nan), where=below > 0)


def sign_test(wins: int, losses: int) -> float | None:
    """Two-sided p of as uneven a split of the pairs by chance; ties are left out before."""
    from math import comb

    n = wins + losses
    if not n:
        return None
    least = min(wins, losses)
    return min(1.0, 2 * sum(comb(n, k) for k in range(least + 1)) / 2**n)
