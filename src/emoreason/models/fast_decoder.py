"""A faster Gemma 3 decoder for CPUs: same numbers as transformers' `Gemma3TextModel`, fewer and larger operations.

With packed weights, a 270M model spends half of each token on Python and small tensors. Here q, k and v are one matrix
multiplication, gate and up another, keys and queries are normed and rotated together, and query heads that share a key
head are stacked as rows, so that keys and values are not repeated. `quantize.pack` replaces `model.model` with it.
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

# Arguments that transformers may pass and that change no number here.
WITHOUT_EFFECT = ("cache_position", "logits_to_keep", "num_items_in_batch", "output_attentions", "output_hidden_states",
                  "return_dict")  # fmt: skip


def is_gemma(model: nn.Module) -> bool:
    """Whether FastGemma can replace the decoder of this model."""
    config: Any = getattr(model, "config", None)
    return (
        getattr(config, "model_type", "") == "gemma3_text"
        and type(getattr(model, "model", None)).__name__ == "Gemma3TextModel"
        and config.hidden_activation == "gelu_pytorch_tanh"
        and not (config.use_bidirectional_attention or config.attention_bias or config.attn_logit_softcapping)
    )


class _Layer(nn.Module):
    """The weights of one layer; matrices with the same input are concatenated."""

    def __init__(self, layer: Any, level: Level):
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.sliding = bool(attention.is_sliding)
        self.qkv = _concatenated([attention.q_proj, attention.k_proj, attention.v_proj], level)
        self.out = _concatenated([attention.o_proj], level)
        self.gate_up = _concatenated([mlp.gate_proj, mlp.up_proj], level)
        self.down = _concatenated([mlp.down_proj], level)
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
    """Replaces a Gemma3TextModel and consumes it: its layers are dropped one by one to save memory."""

    def __init__(self, decoder: Any, level: Level):
        super().__init__()
        self.config = decoder.config
        self.embed_tokens = decoder.embed_tokens.float()
        self.rotary = decoder.rotary_emb
        self.norm = nn.Buffer(_weight(decoder.norm), persistent=False)
        self.layers = nn.ModuleList()
        for index, layer in enumerate(decoder.layers):
            self.layers.append(_Layer(layer, level))
            decoder.layers[index] = nn.Identity()
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
        """attention_mask: (B, past + T) of 0 and 1, gaps allowed; or (B, 1, T, past + T), added to the scores, or true
        where attended."""
        if unknown := {name for name, value in others.items() if value is not None and name not in WITHOUT_EFFECT}:
            raise TypeError(f"FastGemma does not support {', '.join(sorted(unknown))}")
        config = self.config
        x = (self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds).float()  # (B, T, H)
        batch, length, _ = x.shape
        heads, kv_heads, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        cache = cache if cache is not None else past_key_values
        if cache is None and use_cache is not False:
            cache = roomy_cache()
        past = cache.get_seq_length() if cache is not None else 0
        if position_ids is None:
            position_ids = torch.arange(past, past + length)[None]
        rotations = {kind: self._rotation(x, position_ids, kind) for kind in dict.fromkeys(config.layer_types)}
        masks = self._masks(attention_mask, batch, past, length)
        for index, layer in enumerate(cast(list[_Layer], self.layers)):
            cos, sin = rotations["sliding_attention" if layer.sliding else "full_attention"]
            y = layer.qkv(self._norm(x, layer.before_attention)).view(batch, length, -1, width)
            qk, v = y[:, :, : heads + kv_heads], y[:, :, heads + kv_heads :].transpose(1, 2)  # v (B, S, T, D)
            qk = functional.rms_norm(qk, (width,), None, config.rms_norm_eps) * layer.norm_qk
            qk = torch.addcmul(qk * cos, qk.roll(width // 2, -1), sin).transpose(1, 2)  # (B, heads of q and k, T, D)
            q, k = qk[:, :heads].reshape(batch, kv_heads, -1, width), qk[:, heads:]  # q (B, S, heads / S * T, D)
            if cache is not None:
                k, v = cache.update(k, v, index)
            mask = masks[layer.sliding]
            if mask is not None:
                mask = mask[..., -k.shape[2] :]  # a transformers cache may have dropped tokens outside the window
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

    def _rotation(self, x: Tensor, positions: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Cosine and sine (B, T, 1, D) of the rotary embedding, the sine negated in its first half.

        Then x * cos + x.roll(D // 2) * sin is the rotated x."""
        cos, sin = self.rotary(x, positions, kind)
        first, second = sin.chunk(2, dim=-1)
        return cos[:, :, None], torch.cat([-first, second], dim=-1)[:, :, None]

    def _masks(
        self, attention_mask: Tensor | None, batch: int, past: int, length: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Masks to add to the scores of full and of sliding layers, (B, 1, heads / S * T, past + T); None: no mask."""
        group = self.config.num_attention_heads // self.config.num_key_value_heads
        total = past + length
        if attention_mask is not None and attention_mask.ndim == 4:
            mask = _additive(attention_mask) if attention_mask.dtype == torch.bool else attention_mask.float()
            return (mask.expand(batch, -1, -1, -1).repeat(1, 1, group, 1),) * 2
        if length == 1 and (attention_mask is None or bool(attention_mask.all())):
            return None, None
        rows, columns = torch.arange(past, total)[:, None], torch.arange(total)
        visible = (columns <= rows)[None]
        if attention_mask is not None:
            visible = visible & attention_mask[:, None, :].bool()
        window = self.config.sliding_window
        near = visible & (columns > rows - window) if total > window else visible
        full = _additive(visible)[:, None].repeat(1, 1, group, 1)
        return full, full if near is visible else _additive(near)[:, None].repeat(1, 1, group, 1)


def _additive(visible: Tensor) -> Tensor:
    # Not minus infinity: it would turn rows that attend to nothing (padding) into NaN.
    return torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)


def _weight(norm: Any) -> Tensor:
    return (1.0 + norm.weight.detach().float()).contiguous()  # Gemma stores the weight minus one


def _concatenated(linears: list[Any], level: Level) -> PackedLinear:
    return PackedLinear(torch.cat([linear.weight.detach() for linear in linears]), None, level)
