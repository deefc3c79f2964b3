"""Losses on logits (B, L) and soft targets (B, L), rows that sum to 1: one number a face, (B,)."""

import torch
import torch.nn.functional as F
from torch import Tensor

NO_VOTE = -4.0  # what the logarithm of a label without votes is taken to be in the reverse cross-entropy


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Its gradient is that of the KL divergence from the votes."""
    return -(target * F.log_softmax(logits, dim=1)).sum(dim=1)


def symmetric_cross_entropy(logits: Tensor, target: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha × cross-entropy + beta × the same with answer and target exchanged, which is bounded (Wang et al. 2019)."""
    logs = torch.log(target).clamp(min=NO_VOTE)
    reverse = -(logits.softmax(dim=1) * logs).sum(dim=1)
    return alpha * soft_cross_entropy(logits, target) + beta * reverse


def generalised_cross_entropy(logits: Tensor, target: Tensor, q: float) -> Tensor:
    """(1 - p^q) / q, from cross-entropy (q near 0) to the mean absolute error (q = 1) (Zhang and Sabuncu 2018)."""
    powers = torch.exp(q * F.log_softmax(logits, dim=1))  # p^q, whose gradient is finite for a p of 0
    return (target * (1 - powers)).sum(dim=1) / q


def class_weights(counts: Tensor, beta: float) -> Tensor:
    """(L,) weights by the effective number of faces (Cui et al. 2019), with mean 1 over the faces: a beta of 0 weighs
    all labels alike, one that comes near 1 by their inverse frequency."""
    effective = (1 - beta**counts) / (1 - beta) if beta < 1 else counts
    weights = torch.where(counts > 0, 1 / effective.clamp(min=1e-12), 0.0)
    return weights * counts.sum() / (weights * counts).sum()
