"""Estimates the GPU memory of explainer training from the shapes of the models, without loading them.

An upper estimate, accurate to about a GiB. The figures in the headers of recipes in finetune/ come from here.
"""

from dataclasses import dataclass
from typing import Any

from emoreason.train.text.config import ExplainerConfig
from emoreason.train.text.token_loss import AT_ONCE

GIB = 2**30
NF4 = (4 + 8 / 64 + 32 / (64 * 256)) / 8  # bytes a weight: 4 bits, a scale for 64, and a scale for 256 of those scales
LEARNED = 16  # bytes: float32 weight, its gradient, and AdamW's two moments
CONTEXT = 1.0  # GiB: CUDA itself, kernels, and fragmentation


@dataclass(frozen=True)
class ImageEncoder:
    """The sizes of the image encoder that matter here."""

    parameters: int  # of the whole CLIP model
    channels: int  # of its feature grid


VIT_L_14 = ImageEncoder(427_616_513, 1024)


def linears(language: Any) -> dict[str, tuple[int, int]]:
    """name -> (in, out) of the linear layers in one block, from a transformers config."""
    width, inner = language.hidden_size, language.intermediate_size
    head = getattr(language, "head_dim", None) or width // language.num_attention_heads
    q, kv = head * language.num_attention_heads, head * language.num_key_value_heads
    return {"q_proj": (width, q), "k_proj": (width, kv), "v_proj": (width, kv), "o_proj": (q, width),
            "gate_proj": (width, inner), "up_proj": (width, inner), "down_proj": (inner, width)}  # fmt: skip


def lora_parameters(language: Any, config: ExplainerConfig) -> int:
    layers = linears(language)
    wanted = layers if config.lora.targets == "all-linear" else config.lora.targets.replace(" ", "").split(",")
    return language.num_hidden_layers * sum(config.lora.r * sum(layers[name]) for name in wanted)


def projector_parameters(language: Any, encoder: ImageEncoder) -> int:
    """The number of parameters of vlm.Projector: two norms and two linear layers."""
    channels, width = 4 * encoder.channels, language.hidden_size
    return 2 * channels + (channels + 1) * 2 * width + (2 * width + 1) * width + 2 * width


def memory(
    config: ExplainerConfig, language: Any, encoder: ImageEncoder, answer_share: float = 0.5
) -> dict[str, float]:
    """GiB by purpose. language: a transformers config; answer_share: share of the tokens that are learned."""
    blocks = language.num_hidden_layers * sum(a * b for a, b in linears(language).values())
    table = language.vocab_size * language.hidden_size * (1 if language.tie_word_embeddings else 2)
    tokens = (config.loop.micro_batch or config.tune.batch_size) * config.run.max_tokens
    width, layers, learned = language.hidden_size, language.num_hidden_layers, answer_share * tokens
    # kept per block for the backward pass, in bfloat16: inputs, norms, q k v o, and five tensors of the inner width
    block = 2 * tokens * (6 * width + sum(out for _, out in list(linears(language).values())[:3]))
    block += 2 * tokens * 5 * language.intermediate_size
    kept = 2 * tokens * width * layers + block if config.run.checkpointing else block * layers
    found = {
        "blocks": blocks * (NF4 if config.quantize == "4bit" else 1 if config.quantize == "8bit" else 2),
        "embedding and head": 2 * table,
        "image encoder": 4 * encoder.parameters,
        "LoRA": LEARNED * lora_parameters(language, config),
        "projector": LEARNED * projector_parameters(language, encoder),
        "activations": kept + 2 * max(a * b for a, b in linears(language).values()),  # plus one dequantized layer
        # in chunks: logits, their logarithms and the gradient in float32; plus the gradient for the model, (m, H)
        "logits": 3 * 4 * min(learned * language.vocab_size, AT_ONCE) + 2 * learned * width,
    }
    gib = {name: value / GIB for name, value in found.items()} | {"CUDA": CONTEXT}
    return gib | {"all": sum(gib.values())}
