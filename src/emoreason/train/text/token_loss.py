"""Cross-entropy of the words that are learned, without ever holding the logits of all of them.

A vocabulary is wide: for 1,200 words of 27,870 possible ones, logits, their logarithms and two gradients are half a
gigabyte. A frozen head needs none of them after the loss: what goes back into the language model is (m, H).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from emoreason.models.vlm import VisionLanguageModel

AT_ONCE = 2**22  # logits: 16 MiB in float32


def token_loss(vlm: VisionLanguageModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """hidden (m, H), targets (m,) -> the sum over all words."""
    if any(parameter.requires_grad for parameter in vlm.language.get_output_embeddings().parameters()):
        return F.cross_entropy(vlm.head(hidden), targets, reduction="sum")
    return _Loss.apply(hidden, targets, vlm)


class _Loss(torch.autograd.Function):
    """The gradient is computed with the loss, some words at a time, and waits until it is asked for."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, vlm: VisionLanguageModel) -> Tensor:
        size = max(1, AT_ONCE // vlm.language.config.vocab_size)
        total, gradients = hidden.new_zeros((), dtype=torch.float32), []
        for words, wanted in zip(hidden.split(size), targets.split(size), strict=True):
            with torch.set_grad_enabled(ctx.needs_input_grad[0]):
                words = words.detach().requires_grad_(ctx.needs_input_grad[0])
                loss = F.cross_entropy(vlm.head(words), wanted, reduction="sum")
            if ctx.needs_input_grad[0]:
                gradients += torch.autograd.grad(loss, words)
            total += loss.detach()
        ctx.save_for_backward(*([torch.cat(gradients)] if gradients else [torch.zeros_like(hidden)]))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0].to(gradient.dtype), None, None
