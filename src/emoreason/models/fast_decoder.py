"""A faster Gemma 3 decoder for CPUs: same numbers as transformers' `Gemma3TextModel`, fewer and larger operations.

With packed weights, a 270M model spends half of each token on Python and small tensors. Here q, k and v are one matrix
multiplication, gate and up another, keys and queries are normed and rotated together, and query heads that share a key
head are stacked as rows, so that keys and values are not repeated. `quantize.pack` replaces `model.model` with it.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from emoreason.core.malloc import give_back_memory
from emoreason.models.cache import roomy_cache
from emoreason.models.packed_linear import Level, PackedLinear

# Arguments that transformers may pass and that change no number here.
WITHOUT_EFFECT = ("cache_position", "logits_to_keep", "num_items_in_batch", "output_attentions", "output_hidden_states",
                  "return_dict")  # fmt: skip
ROTATIONS = ("default", "linear")  # the kinds of rotary embedding whose frequencies are fixed and that scale nothing
# What is read of a config.
SETTINGS = ("model_type", "vocab_size", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
            "sliding_window", "query_pre_attn_scalar", "rms_norm_eps", "layer_types",
            "final_logit_softcapping")  # fmt: skip
LINEARS = ("qkv", "out", "gate_up", "down")
NORMS = ("norm_qk", "before_attention", "after_attention", "before_mlp", "after_mlp")


def is_gemma(model: nn.Module) -> bool:
    """Whether FastGemma can replace the decoder of this model."""
    config: Any = getattr(model, "config", None)
    return (
        getattr(config, "model_type", "") == "gemma3_text"
        and type(getattr(model, "model", None)).__name__ == "Gemma3TextModel"
        and config.hidden_activation == "gelu_pytorch_tanh"
        and not (config.use_bidirectional_attention or config.attention_bias or config.attn_logit_softcapping)
        and all(kind in ROTATIONS for kind in cast(Any, model).model.rotary_emb.rope_type.values())
    )


@dataclass
class DecoderOutput:
    """What a decoder returns, with the names of transformers' BaseModelOutputWithPast before and after 5.24."""

    last_hidden_state: Tensor
    cache: Any = None
    hidden_states: None = None
    attentions: None = None

    @property
    def past_key_values(self) -> Any:
        return self.cache


class ScaledEmbedding(nn.Embedding):
    """Gemma's embedding of tokens."""

    def __init__(self, weight: Tensor):
        super().__init__(weight.shape[0], weight.shape[1], _weight=weight)
        self.weight.requires_grad_(False)
        self.scale = nn.Buffer(torch.tensor(weight.shape[1] ** 0.5), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows) * self.scale


class _Layer(nn.Module):
    """The weights of one layer; matrices with the same input are concatenated."""

    qkv: PackedLinear
    out: PackedLinear
    gate_up: PackedLinear
    down: PackedLinear
    norm_qk: Tensor  # (heads of q and k, D)
    before_attention: Tensor
    after_attention: Tensor
    before_mlp: Tensor
    after_mlp: Tensor

    def __init__(self, sliding: bool, linears: dict[str, PackedLinear], norms: dict[str, Tensor]):
        super().__init__()
        self.sliding = sliding
        for name in LINEARS:
            setattr(self, name, linears[name])
        for name in NORMS:
            self.register_buffer(name, norms[name], persistent=False)

    @classmethod
    def packed(cls, layer: Any, level: Level) -> "_Layer":
        """From a layer of transformers."""
        attention, mlp = layer.self_attn, layer.mlp
        linears = {
            "qkv": _concatenated([attention.q_proj, attention.k_proj, attention.v_proj], level),
            "out": _concatenated([attention.o_proj], level),
            "gate_up": _concatenated([mlp.gate_proj, mlp.up_proj], level),
            "down": _concatenated([mlp.down_proj], level),
        }
        heads = [
            attention.q_proj.out_features // attention.head_dim,
            attention.k_proj.out_features // attention.head_dim,
        ]
        norms = [_weight(attention.q_norm).expand(heads[0], -1), _weight(attention.k_norm).expand(heads[1], -1)]
        return cls(bool(attention.is_sliding), linears, {
            "norm_qk": torch.cat(norms),
            "before_attention": _weight(layer.input_layernorm),
            "after_attention": _weight(layer.post_attention_layernorm),
            "before_mlp": _weight(layer.pre_feedforward_layernorm),
            "after_mlp": _weight(layer.post_feedforward_layernorm),
        })  # fmt: skip


class FastGemma(nn.Module):
    """Replaces a Gemma3TextModel."""

    norm: Tensor

    def __init__(self, config: Any, embedding: nn.Module, norm: Tensor, frequencies: dict[str, Tensor]):
        """frequencies: of the rotary embedding, for each kind of layer. The layers are appended."""
        super().__init__()
        self.config = config
        self.embed_tokens = embedding
        self.register_buffer("norm", norm, persistent=False)
        self.layers = nn.ModuleList()
        self.kinds = tuple(frequencies)
        for kind, values in frequencies.items():
            self.register_buffer(f"{kind}_frequencies", values, persistent=False)

    @classmethod
    def packed(cls, decoder: Any, level: Level) -> "FastGemma":
        """From a Gemma3TextModel, which is consumed: its layers are dropped one by one to save memory."""
        rotary = decoder.rotary_emb
        frequencies = {kind: getattr(rotary, f"{kind}_inv_freq").float() for kind in rotary.layer_types}
        fast = cls(decoder.config, decoder.embed_tokens.float(), _weight(decoder.norm), frequencies)
        for index, layer in enumerate(decoder.layers):
            fast.layers.append(_Layer.packed(layer, level))
            decoder.layers[index] = nn.Identity()
            give_back_memory()
        return fast

    def get_decoder(self) -> "FastGemma":
        return self  # where transformers looks for the model without its head

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        past_key_values: Any = None,  # the name of `cache` before transformers 5.24
        **others: Any,
    ) -> DecoderOutput:
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
        rotations = {kind: self._rotation(position_ids, kind) for kind in self.kinds}
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
        return DecoderOutput(self._norm(x, self.norm), cache)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(x, weight.shape, weight, self.config.rms_norm_eps)

    def _rotation(self, positions: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Cosine and sine (B, T, 1, D) of the rotary embedding, the sine negated in its first half.

        Then x * cos + x.roll(D // 2) * sin is the rotated x."""
        angles = positions[..., None].float() * getattr(self, f"{kind}_frequencies")  # (B, T, D // 2)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([cos, cos], dim=-1)[:, :, None], torch.cat([-sin, sin], dim=-1)[:, :, None]

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


@dataclass
class LanguageOutput:
    logits: Tensor
    cache: Any = None

    @property
    def past_key_values(self) -> Any:
        return self.cache


class PackedGemma(nn.Module):
    """FastGemma with its head: what is used here of a packed Gemma3ForCausalLM, without transformers.

    It is stored as tensors and restored from them."""

    def __init__(self, model: FastGemma, head: PackedLinear):
        super().__init__()
        self.config, self.model, self.lm_head = model.config, model, head

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> PackedLinear:
        return self.lm_head

    def get_decoder(self) -> FastGemma:
        return self.model

    def forward(self, input_ids: Tensor | None = None, **options: Any) -> LanguageOutput:
        output = self.model(input_ids, **options)
        logits = self.lm_head(output.last_hidden_state)
        if cap := self.config.final_logit_softcapping:
            logits = torch.tanh(logits / cap) * cap
        return LanguageOutput(logits, output.cache)

    def tensors(self) -> dict[str, Tensor]:
        """All weights, by name. The head's original is the embedding."""
        model = self.model
        found = {"embedding": cast(Tensor, model.embed_tokens.weight), "norm": model.norm}
        found |= {f"frequencies.{kind}": getattr(model, f"{kind}_frequencies") for kind in model.kinds}
        # packed as float32, the head is the embedding itself
        shared = found["embedding"].data_ptr()
        found |= {f"head.{name}": t for name, t in self.lm_head.tensors().items() if t.data_ptr() != shared}
        for index, layer in enumerate(model.layers):
            found |= {f"{index}.{name}": getattr(layer, name) for name in NORMS}
            for name in LINEARS:
                found |= {f"{index}.{name}.{part}": t for part, t in getattr(layer, name).tensors().items()}
        return found

    def settings(self) -> dict[str, Any]:
        return {name: getattr(self.config, name) for name in SETTINGS}

    @classmethod
    def restored(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> "PackedGemma":
        """The model with these `settings` and `tensors`; the tensors may be mapped from a file."""
        config, groups = SimpleNamespace(**settings), dict[str, dict[str, Tensor]]()
        for name, tensor in tensors.items():
            group, _, part = name.rpartition(".")
            groups.setdefault(group, {})[part] = tensor
        model = FastGemma(config, ScaledEmbedding(tensors["embedding"]), tensors["norm"], groups["frequencies"])
        for index, kind in enumerate(config.layer_types):
            linears = {name: PackedLinear.restored(groups[f"{index}.{name}"]) for name in LINEARS}
            model.layers.append(_Layer(kind == "sliding_attention", linears, groups[str(index)]))
        embedding = cast(Tensor, model.embed_tokens.weight)
        return cls(model, PackedLinear.restored(groups.get("head", {"float": embedding}), embedding)).eval()


def _additive(visible: Tensor) -> Tensor:
    # Not minus infinity: it would turn rows that attend to nothing (padding) into NaN.
    return torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)


def _weight(norm: Any) -> Tensor:
    return (1.0 + norm.weight.detach().float()).contiguous()  # Gemma stores the weight minus one


def _concatenated(linears: list[Any], level: Level) -> PackedLinear:
    return PackedLinear(torch.cat([linear.weight.detach() for linear in linears]), None, level)
