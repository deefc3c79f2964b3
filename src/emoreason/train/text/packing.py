"""Attention for several texts packed into one row, where each text attends only to itself.

Linear layers see one long row without padding. For the attention, the texts are rearranged into a small batch with one
text per row. A mask over the long row would instead compute the attention between all texts and throw it away.
"""

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAME = "emoreason_packed"


def use_packed(language: Any) -> bool:
    """Switch the model to packed rows, without masks, if it supports them. Returns whether it does."""
    from transformers import AttentionInterface

    causal = language.get_base_model() if hasattr(language, "get_base_model") else language  # without PEFT
    config = causal.config
    kinds = set(getattr(config, "layer_types", None) or ())  # other layers would carry state between texts
    if not getattr(causal, "_supports_attention_backend", False) or kinds - {"full_attention", "sliding_attention"}:
        return False
    if hasattr(config, "attention_chunk_size"):
        return False
    AttentionInterface.register(NAME, attention)
    config._attn_implementation = NAME
    return True


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    position_ids: Tensor | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """query (R, H, n, D), key and value (R, K, n, D), position_ids (R, n) from 0 in each text -> (R, n, H, D)."""
    assert position_ids is not None and attention_mask is None
    rows, heads, length, width = query.shape
    places, back = _places(position_ids)
    q, k, v = (x.transpose(1, 2).flatten(0, 1)[places].transpose(1, 2) for x in (query, key, value))  # (N, ., L, D)
    near = None
    if sliding_window is not None and places.shape[1] > sliding_window:
        at = torch.arange(places.shape[1], device=query.device)
        near = (at[None] <= at[:, None]) & (at[None] > at[:, None] - sliding_window)
    if query.device.type == "cpu" and dropout == 0.0:
        out = _plain(q, k, v, near, scaling)
    else:
        out = F.scaled_dot_product_attention(
            q, k, v, near, dropout, near is None, scale=scaling, enable_gqa=heads != k.shape[1]
        )
    return out.transpose(1, 2).flatten(0, 1)[back].view(rows, length, heads, width), None


def _plain(q: Tensor, k: Tensor, v: Tensor, near: Tensor | None, scaling: float | None) -> Tensor:
    """The same with two matrix products, three times as fast on a CPU for such short texts.

    q (N, H, L, D), k and v (N, K, L, D), near (L, L) -> (N, H, L, D). The query heads of one key head are stacked."""
    texts, heads, length, width = q.shape
    groups = k.shape[1]
    if near is None:
        near = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
    folded = (texts * groups, heads // groups, length)
    q = (q * (width**-0.5 if scaling is None else scaling)).reshape(folded[0], -1, width)
    scores = torch.bmm(q, k.reshape(folded[0], length, width).transpose(1, 2)).view(*folded, length)
    weights = scores.float().masked_fill(~near, -torch.inf).softmax(dim=-1).to(v.dtype)
    out = torch.bmm(weights.view(folded[0], -1, length), v.reshape(folded[0], length, width))
    return out.view(texts, heads, length, width)


@lru_cache(maxsize=2)  # computed once for all layers; tensors are hashed by identity
def _places(position_ids: Tensor) -> tuple[Tensor, Tensor]:
    """(N, L) the index of each text's tokens in the flattened rows, and (R * n,) the inverse index.

    Short texts are padded with their last token. Earlier tokens cannot attend to this padding, and nothing reads it."""
    flat = position_ids.flatten()
    starts = (flat == 0).nonzero()[:, 0]
    lengths = torch.diff(starts, append=starts.new_tensor([len(flat)]))
    longest = int(lengths.max())
    steps = torch.arange(longest, device=flat.device)
    places = starts[:, None] + torch.minimum(steps[None], lengths[:, None] - 1)
    number = (flat == 0).cumsum(0) - 1
    return places, number * longest + flat
