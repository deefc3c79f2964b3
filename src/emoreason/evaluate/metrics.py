"""The metrics of a report, as pure functions of arrays.

A target is a row of `targets` (n, K) that sums to 1: one-hot under the hard protocols, the votes under the probability
protocol. An answer is an index into the K labels, or -1 if the model gave none. All class figures come from one
confusion matrix with K rows and K + 1 columns (the last one: no answer), so hard and soft targets, point estimates and
bootstrap replicates share the same code. With soft targets, accuracy is the expected accuracy: the probability that a
random annotator agrees with the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 15
FEW_ROWS = 100  # with fewer rows, intervals by resampling alone are too narrow
EPSILON = 1e-7  # floor of a probability inside a logarithm: the resolution of float32


def confusion(targets: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """(K, K + 1): the weight of target k answered with label j. The last column holds missing answers."""
    k = targets.shape[1]
    return targets.T @ np.eye(k + 1)[np.where(answers < 0, k, answers)]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def class_scores(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Figures per label, each (…, K). NaN if undefined: recall without targets, precision without answers."""
    k = matrix.shape[-2]
    square = matrix[..., :k]
    hits = np.diagonal(square, axis1=-2, axis2=-1)
    support, predicted = matrix.sum(-1), square.sum(-2)
    # F1 from counts, not from precision and recall: a label that is never answered has no precision, but F1 = 0.
    f1 = np.where(support > 0, _ratio(2 * hits, support + predicted), np.nan)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": f1,
        "support": support,
        "predicted": predicted,
    }


def headline(matrix: np.ndarray) -> np.ndarray:
    """(…, 3): accuracy (= WAR), UAR, macro-F1. UAR and macro-F1 are means over the classes present in the targets."""
    k = matrix.shape[-2]
    scores = class_scores(matrix)
    present = scores["support"] > 0
    n_present = present.sum(-1)
    accuracy = np.trace(matrix[..., :k], axis1=-2, axis2=-1) / matrix.sum((-2, -1))
    uar = np.where(present, scores["recall"], 0).sum(-1) / n_present
    macro_f1 = np.where(present, scores["f1"], 0).sum(-1) / n_present
    return np.stack([accuracy, uar, macro_f1], axis=-1)


def bootstrap(
    targets: np.ndarray, answers: np.ndarray, draws: int = 1000, seed: int = 0, doubt: float = 0.0
) -> np.ndarray:
    """(draws, 3): `headline` of resampled data, stratified by target class (soft targets: by their largest share).

    Without strata, a replicate may hold none of the 9 faces of a rare class, and its UAR would be a mean over other
    classes than the reported one. Equal rows are drawn together from a multinomial, which has the same distribution as
    drawing row by row, but needs no loop and does not depend on their order. `doubt`: how many right answers, and how
    many wrong ones, are added to each class before drawing.
    """
    n, k = targets.shape
    random = np.random.default_rng(seed)
    matrices = np.zeros((draws, k, k + 1))
    strata = targets.argmax(1)
    for stratum in np.unique(strata):
        chosen = strata == stratum
        rows, counts = np.unique(np.column_stack([targets[chosen], answers[chosen]]), axis=0, return_counts=True)
        weights = counts.astype(float)
        if doubt:
            rows = np.concatenate([rows, np.column_stack([np.eye(k)[np.full(k, stratum)], np.arange(k)])])
            weights = np.concatenate([weights, np.where(np.arange(k) == stratum, doubt, doubt / (k - 1))])
        drawn = random.multinomial(counts.sum(), weights / weights.sum(), size=draws)
        answered = np.eye(k + 1)[rows[:, -1].astype(int)]  # -1 takes the last column: no answer
        cells = rows[:, :k, None] * answered[:, None, :]
        matrices += (drawn @ cells.reshape(len(rows), -1)).reshape(matrices.shape)
    return headline(matrices)


def bounds(targets: np.ndarray, answers: np.ndarray, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """(2, 3): the 95 % interval of `headline`. Twelve right answers out of twelve do not mean that all faces will be
    right, so with few rows half a right and half a wrong answer per class are added (Jeffreys' prior)."""
    replicates = bootstrap(targets, answers, draws, seed, doubt=0.5 if len(targets) < FEW_ROWS else 0.0)
    low, high = np.percentile(replicates, (2.5, 97.5), axis=0)
    value = headline(confusion(targets, answers))
    return np.stack([np.minimum(low, value), np.maximum(high, value)])


@dataclass(frozen=True)
class Bins:
    """A reliability diagram: edges, count, mean confidence and mean correctness (NaN if empty) of each bin."""

    low: np.ndarray
    high: np.ndarray
    n: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    def ece(self) -> float:
        """Expected calibration error: the gap between confidence and accuracy, weighted by the counts."""
        filled = self.n > 0
        return float((self.n * np.abs(self.confidence - self.accuracy))[filled].sum() / max(1, self.n.sum()))


def equal_width_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Bins:
    """Bins (0, 1/15], (1/15, 2/15] …; a confidence of exactly 0 falls into the first."""
    edges = np.linspace(0, 1, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    n = np.bincount(index, minlength=bins)
    return Bins(
        edges[:-1],
        edges[1:],
        n,
        _ratio(np.bincount(index, confidence, bins), n),
        _ratio(np.bincount(index, correct, bins), n),
    )


def equal_mass_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Bins:
    """Bins of equal count for the adaptive ECE. Ties are ordered by correctness, whatever the order of rows."""
    order = np.lexsort((correct, confidence))
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return Bins(
        np.array([confidence[part].min() for part in parts]),
        np.array([confidence[part].max() for part in parts]),
        np.array([len(part) for part in parts]),
        np.array([confidence[part].mean() for part in parts]),
        np.array([correct[part].mean() for part in parts]),
    )


def brier(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The squared difference, summed over classes and averaged over rows: 0 to 2."""
    return float(((probabilities - targets) ** 2).sum(1).mean())


def cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean cross-entropy in nats. With one-hot targets it is the negative log likelihood."""
    return float(-(targets * np.log(np.maximum(probabilities, EPSILON))).sum(1).mean())


def kl(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean KL(targets || probabilities) in nats."""
    floor = np.maximum(probabilities, EPSILON)
    ratio = np.divide(targets, floor, out=np.ones_like(floor), where=targets > 0)
    return float((targets * np.log(ratio)).sum(1).mean())


def js(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean Jensen-Shannon divergence in nats: 0 to log 2."""
    middle = (targets + probabilities) / 2

    def to_middle(rows: np.ndarray) -> np.ndarray:
        ratio = np.divide(rows, middle, out=np.ones_like(rows), where=rows > 0)
        return (rows * np.log(ratio)).sum(1)

    return float(((to_middle(targets) + to_middle(probabilities)) / 2).mean())


def top2_hit(votes: np.ndarray, answers: np.ndarray) -> float:
    """The share of rows whose answer is one of the two emotions with the most votes (and has any vote)."""
    voted = np.where(answers >= 0, votes[np.arange(len(votes)), answers], 0)
    second = np.sort(votes, axis=1)[:, -2]
    return float(((voted > 0) & (voted >= second)).mean())


def auroc(confidence: np.ndarray, correct: np.ndarray) -> float:
    """The probability that a right answer has a higher confidence than a wrong one; ties count half."""
    _, group = np.unique(confidence, return_inverse=True)
    right, wrong = np.bincount(group, correct), np.bincount(group, 1 - correct)
    if right.sum() <= 0 or wrong.sum() <= 0:
        return float("nan")
    below = np.cumsum(wrong) - wrong
    return float((right * (below + wrong / 2)).sum() / (right.sum() * wrong.sum()))


def risk_curve(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """(n,): the error rate among the 1, 2, … n most confident rows. Ties give the mean over all their orders."""
    _, group = np.unique(-confidence, return_inverse=True)
    expected = (np.bincount(group, correct) / np.bincount(group))[np.sort(group)]
    return 1 - np.cumsum(expected) / np.arange(1, len(confidence) + 1)


def risk_at(curve: np.ndarray, coverage: float) -> float:
    """The error rate if at least this share of the rows is answered, the most confident first."""
    return float(curve[max(1, int(np.ceil(round(coverage * len(curve), 6)))) - 1])
