"""Gemma 3's decoder for a processor: the numbers of transformers' `Gemma3TextModel` by fewer and larger operations.

With weights packed, half the time of a token of a 270M model is Python and small tensors. Here q, k and v are one
multiplication, gate and up another, keys and queries are normed and turned together, and the query heads that share a
key head stand in rows below one another, so that nothing is repeated. `emoreason.quantize`
puts it in place of `model.model`.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast

from emoreason.core.malloc import give_back_memory
from emoreason.models.cache import cache_argument, roomy_cache
from emoreason.models.packed_linear import Level, PackedLinear

# What transformers may pass along, and what changes no number here.
WITHOUT_EFFECT = ("cache_position", "logits_to_keep", "num_items_in_batch", "output_attentions", "output_hidden_states",
                  "return_dict")  # fmt: skip


def is_gemma(model: nn.Module) -> bool:
    """Whether FastGemma computes what this model does."""
    config: Any = getattr(model, "config", None)
    return (
        getattr(config, "model_type", "") == "gemma3_text"
        and type(getattr(model, "model", None)).__name__ == "Gemma3TextModel"
        and config.hidden_activation == "gelu_pytorch_tanh"
        and not (config.use_bidirectional_attention or config.attention_bias or config.attn_logit_softcapping)
    )


class _Layer(nn.Module):
    """The weights of one layer, those that read the same input joined."""

    def __init__(self, layer: Any, level: Level):
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.sliding = bool(attention.is_sliding)
        self.qkv = _joined([attention.q_proj, attention.k_proj, attention.v_proj], level)
        self.out = _joined([attention.o_proj], level)
        self.gate_up = _joined([mlp.gate_proj, mlp.up_proj], level)
        self.down = _joined([mlp.down_proj], level)
        heads = [
            attention.q_proj.out_features // attention.head_dim,
            attention.k_proj.out_features // attention.head_dim,
        ]
        norms = [_weight(attention.q_norm).expand(heads[0], -1), _weight(attention.k_norm).expand(heads[1], -1)]
        self.norm_qk = nn.Buffer(torch.cat(norms), persistent=False)  # (heads of q and k, D)
        self.before_attention = nn.Buffer(_weight(layer.input_layernorm), persistent=False)
        self.after_attention = nn.Buffer(_weight(layer.post_attention_layernorm), persistent=False)
        self.before_mlp = nn.Buffer(_weight(layer.pre_feedforward_layernorm), persistent=False)
        self.after_mlp = nn.Buffer(_weight(layer.post_feedforward_layernorm), persistent=False)


class FastGemma(nn.Module):
    """Takes the place of a Gemma3TextModel, whose layers are used up: it is emptied layer by layer to save memory."""

    def __init__(self, decoder: Any, level: Level):
        super().__init__()
        self.config = decoder.config
        self.embed_tokens = decoder.embed_tokens.float()
        self.rotary = decoder.rotary_emb
        self.norm = nn.Buffer(_weight(decoder.norm), persistent=False)
        self.layers = nn.ModuleList()
        for place, layer in enumerate(decoder.layers):
            self.layers.append(_Layer(layer, level))
            decoder.layers[place] = nn.Identity()
            give_back_memory()

    def get_decoder(self) -> "FastGemma":
        return self  # where transformers looks for the model without its head

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        past_key_values: Cache | None = None,  # the name of `cache` before transformers 5.24
        **others: Any,
    ) -> BaseModelOutputWithPast:
        """attention_mask: (B, past + T) of 0 and 1, with holes; or (B, 1, T, past + T), to add or true where seen."""
        if ignored := {name for name, value in others.items() if value is not None and name not in WITHOUT_EFFECT}:
            raise TypeError(f"FastGemma does not know {', '.join(sorted(ignored))}")
        config = self.config
        x = (self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds).float()  # (B, T, H)
        batch, length, _ = x.shape
        heads, shared, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        cache = cache if cache is not None else past_key_values
        if cache is None and use_cache is not False:
            cache = roomy_cache()
        past = cache.get_seq_length() if cache is not None else 0
        if position_ids is None:
            position_ids = torch.arange(past, past + length)[None]
        turn = {kind: self._turn(x, position_ids, kind) for kind in dict.fromkeys(config.layer_types)}
        masks = self._masks(attention_mask, batch, past, length)
        for place, layer in enumerate(cast(list[_Layer], self.layers)):
            cos, sin = turn["sliding_attention" if layer.sliding else "full_attention"]
            y = layer.qkv(self._norm(x, layer.before_attention)).view(batch, length, -1, width)
            qk, v = y[:, :, : heads + shared], y[:, :, heads + shared :].transpose(1, 2)  # v (B, S, T, D)
            qk = functional.rms_norm(qk, (width,), None, config.rms_norm_eps) * layer.norm_qk
            qk = torch.addcmul(qk * cos, qk.roll(width // 2, -1), sin).transpose(1, 2)  # (B, heads of q and k, T, D)
            q, k = qk[:, :heads].reshape(batch, shared, -1, width), qk[:, heads:]  # q (B, S, heads / S * T, D)
            if cache is not None:
                k, v = cache.update(k, v, place)
            mask = masks[layer.sliding]
            if mask is not None:
                mask = mask[..., -k.shape[2] :]  # a cache of transformers may have forgotten what is out of the window
            elif layer.sliding:
                k, v = k[:, :, -config.sliding_window :], v[:, :, -config.sliding_window :]
            a = functional.scaled_dot_product_attention(q, k, v, mask, scale=config.query_pre_attn_scalar**-0.5)
            a = a.view(batch, heads, length, width).transpose(1, 2).reshape(batch, length, -1)
            x = x + self._norm(layer.out(a), layer.after_attention)
            gate, up = layer.gate_up(self._norm(x, layer.before_mlp)).chunk(2, dim=-1)
            x = x + self._norm(layer.down(functional.gelu(gate, approximate="tanh") * up), layer.after_mlp)
        return BaseModelOutputWithPast(last_hidden_state=self._norm(x, self.norm), **cache_argument(cache))

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(x, weight.shape, weight, self.config.rms_norm_eps)

    def _turn(self, x: Tensor, positions: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Cosine and sine (B, T, 1, D), the sine negative in the first half: rolled by a half, x is then rotated."""
        cos, sin = self.rotary(x, positions, kind)
        first, second = sin.chunk(2, dim=-1)
        return cos[:, :, None], torch.cat([-first, second], dim=-1)[:, :, None]

    def _masks(self, given: Tensor | None, batch: int, past: int, length: int) -> tuple[Tensor | None, Tensor | None]:
        """To add to the scores of full and of sliding layers, (B, 1, heads / S * T, past + T); None: all is seen."""
        group = self.config.num_attention_heads // self.config.num_key_value_heads
        total = past + length
        if given is not None and given.ndim == 4:
            added = _added(given) if given.dtype == torch.bool else given.float()
            return (added.expand(batch, -1, -1, -1).repeat(1, 1, group, 1),) * 2
        if length == 1 and (given is None or bool(given.all())):
            return None, None
        rows, columns = torch.arange(past, total)[:, None], torch.arange(total)
        seen = (columns <= rows)[None]
        if given is not None:
            seen = seen & given[:, None, :].bool()
        near = seen & (columns > rows - self.config.sliding_window) if total > self.config.sliding_window else seen
        full = _added(seen)[:, None].repeat(1, 1, group, 1)
        return full, full if near is seen else _added(near)[:, None].repeat(1, 1, group, 1)


def _added(seen: Tensor) -> Tensor:
    # not minus infinity: a row that sees nothing (padding) is to become something finite that nobody looks at
    return torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)


def _weight(norm: Any) -> Tensor:
    return (1.0 + norm.weight.detach().float()).contiguous()  # Gemma stores what is added to one


def _joined(linears: list[Any], level: Level) -> PackedLinear:
    return PackedLinear(torch.cat([linear.weight.detach() for linear in linears]), None, level)
