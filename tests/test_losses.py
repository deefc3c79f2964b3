"""Every loss against its formula, on numbers small enough to be done by hand."""

import math

import pytest
import torch

from emoreason.train.heads.losses import (
    class_weights,
    generalised_cross_entropy,
    soft_cross_entropy,
    symmetric_cross_entropy,
)

P = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
LOGITS = P.log() + 3.0  # a constant changes nothing
HARD = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
SOFT = torch.tensor([[0.5, 0.5, 0.0]])


def test_soft_cross_entropy():
    assert soft_cross_entropy(LOGITS, HARD).tolist() == pytest.approx([-math.log(0.7), -math.log(0.1)])
    expected = -0.5 * math.log(0.7) - 0.5 * math.log(0.2)
    assert soft_cross_entropy(LOGITS[:1], SOFT).item() == pytest.approx(expected)


def test_symmetric_cross_entropy():
    """The logarithm of a label without votes counts as -4."""
    found = symmetric_cross_entropy(LOGITS, HARD, alpha=0.1, beta=2.0)
    expected = [-0.1 * math.log(p) + 2.0 * 4.0 * (1 - p) for p in (0.7, 0.1)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    soft = symmetric_cross_entropy(LOGITS[:1], SOFT, alpha=0.0, beta=1.0).item()
    assert soft == pytest.approx(0.9 * math.log(2) + 0.1 * 4.0)


def test_generalised_cross_entropy():
    found = generalised_cross_entropy(LOGITS, HARD, q=0.7)
    assert found.tolist() == pytest.approx([(1 - p**0.7) / 0.7 for p in (0.7, 0.1)], rel=1e-5)
    assert generalised_cross_entropy(LOGITS, HARD, q=1.0).tolist() == pytest.approx([0.3, 0.9])
    nearly = generalised_cross_entropy(LOGITS, HARD, q=1e-3)
    assert nearly.tolist() == pytest.approx(soft_cross_entropy(LOGITS, HARD).tolist(), rel=2e-3)


def test_a_wrong_label_pulls_less_than_under_cross_entropy():
    """The gradient of a face whose label the model finds very improbable, against one that it is undecided on."""
    logits = torch.tensor([[8.0, 0.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    target = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])

    def pull(loss: torch.Tensor) -> float:
        hopeless, undecided = torch.autograd.grad(loss.sum(), logits)[0].norm(dim=1).tolist()
        return hopeless / undecided

    assert pull(soft_cross_entropy(logits, target)) > 1.0
    assert pull(generalised_cross_entropy(logits, target, q=0.7)) < 0.1
    assert pull(symmetric_cross_entropy(logits, target, alpha=0.0, beta=1.0)) < 0.1


def test_gradients_are_finite_where_a_probability_is_nothing():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    target = torch.tensor([[0.0, 1.0]])
    for loss in (generalised_cross_entropy(logits, target, 0.7), symmetric_cross_entropy(logits, target, 0.1, 1.0)):
        assert torch.autograd.grad(loss.sum(), logits)[0].isfinite().all()


def test_class_weights_are_of_the_effective_number_of_faces():
    counts = torch.tensor([1000.0, 10.0, 0.0])
    weights = class_weights(counts, 0.99)
    effective = [(1 - 0.99**n) / 0.01 for n in (1000, 10)]
    assert (weights[1] / weights[0]).item() == pytest.approx(effective[0] / effective[1], rel=1e-4)
    assert (weights * counts).sum().item() == pytest.approx(1010)  # mean 1 over the faces
    assert weights[2] == 0
    assert class_weights(counts, 0.0)[:2].tolist() == pytest.approx([1.0, 1.0])
    inverse = class_weights(counts, 1.0)
    assert (inverse[1] / inverse[0]).item() == pytest.approx(100)
