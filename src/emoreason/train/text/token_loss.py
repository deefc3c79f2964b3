"""Cross-entropy of the learned tokens in small chunks, so that the logits of all tokens never exist at once.

Vocabularies are large: for 1,200 tokens out of 27,870, the logits, their logarithms and two gradients take half a
gigabyte. With a frozen head none of this is needed after the loss; the gradient for the language model is only (m, H).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from emoreason.models.vlm import VisionLanguageModel

AT_ONCE = 2**22  # logits per chunk: 16 MiB in float32


def token_loss(vlm: VisionLanguageModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """hidden (m, H), targets (m,) -> the loss summed over all tokens."""
    if any(parameter.requires_grad for parameter in vlm.language.get_output_embeddings().parameters()):
        return F.cross_entropy(vlm.head(hidden), targets, reduction="sum")
    return _Loss.apply(hidden, targets, vlm)


class _Loss(torch.autograd.Function):
    """Computes the gradient together with the loss, chunk by chunk, and keeps it for the backward pass."""

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
