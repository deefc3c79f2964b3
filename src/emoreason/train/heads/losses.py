"""Losses of logits (B, L) against soft targets (B, L) whose rows sum to 1; they return one number per face, (B,)."""

import torch
import torch.nn.functional as F
from torch import Tensor

NO_VOTE = -4.0  # stands for log 0, of a label without votes, in the reverse cross-entropy


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with soft targets; it has the gradient of the KL divergence from the votes."""
    return -(target * F.log_softmax(logits, dim=1)).sum(dim=1)


def symmetric_cross_entropy(logits: Tensor, target: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha × cross-entropy + beta × reverse cross-entropy (answer and target swapped, bounded; Wang et al. 2019)."""
    logs = torch.log(target).clamp(min=NO_VOTE)
    reverse = -(logits.softmax(dim=1) * logs).sum(dim=1)
    return alpha * soft_cross_entropy(logits, target) + beta * reverse


def generalised_cross_entropy(logits: Tensor, target: Tensor, q: float) -> Tensor:
    """(1 - p^q) / q, from cross-entropy (q near 0) to the mean absolute error (q = 1) (Zhang and Sabuncu 2018)."""
    powers = torch.exp(q * F.log_softmax(logits, dim=1))  # p^q, with a finite gradient at p = 0
    return (target * (1 - powers)).sum(dim=1) / q


def class_weights(counts: Tensor, beta: float) -> Tensor:
    """(L,) weights by the effective number of faces (Cui et al. 2019), with mean 1 over the faces.

    beta 0 weights all labels equally; towards 1 the weights approach the inverse frequency."""
    effective = (1 - beta**counts) / (1 - beta) if beta < 1 else counts
    weights = torch.where(counts > 0, 1 / effective.clamp(min=1e-12), 0.0)
    return weights * counts.sum() / (weights * counts).sum()
