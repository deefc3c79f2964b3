"""How much memory the training of an explainer takes on a GPU, from shapes alone: nothing is loaded.

An estimate from above that is good to a GiB or so; the headers of recipes in finetune/ have their figures from here.
"""

from dataclasses import dataclass
from typing import Any

from emoreason.train.text.config import ExplainerConfig
from emoreason.train.text.token_loss import AT_ONCE

GIB = 2**30
NF4 = (4 + 8 / 64 + 32 / (64 * 256)) / 8  # bytes a weight: 4 bits, a scale for 64, and a scale for 256 of those scales
LEARNED = 16  # bytes: float32 weight, its gradient, and AdamW's two moments
CONTEXT = 1.0  # GiB: CUDA itself, kernels, what the allocator cannot use


@dataclass(frozen=True)
class Eye:
    """The image encoder as the projector sees it."""

    parameters: int  # of the whole CLIP
    channels: int  # of its grid


VIT_L_14 = Eye(427_616_513, 1024)


def linears(language: Any) -> dict[str, tuple[int, int]]:
    """name -> (in, out) of the linear layers of one block, from a transformers config."""
    width, inner = language.hidden_size, language.intermediate_size
    head = getattr(language, "head_dim", None) or width // language.num_attention_heads
    q, kv = head * language.num_attention_heads, head * language.num_key_value_heads
    return {"q_proj": (width, q), "k_proj": (width, kv), "v_proj": (width, kv), "o_proj": (q, width),
            "gate_proj": (width, inner), "up_proj": (width, inner), "down_proj": (inner, width)}  # fmt: skip


def lora_parameters(language: Any, config: ExplainerConfig) -> int:
    layers = linears(language)
    wanted = layers if config.lora.targets == "all-linear" else config.lora.targets.replace(" ", "").split(",")
    return language.num_hidden_layers * sum(config.lora.r * sum(layers[name]) for name in wanted)


def projector_parameters(language: Any, eye: Eye) -> int:
    """Of vlm.Projector: two norms and two linear layers."""
    channels, width = 4 * eye.channels, language.hidden_size
    return 2 * channels + (channels + 1) * 2 * width + (2 * width + 1) * width + 2 * width


def memory(config: ExplainerConfig, language: Any, eye: Eye, answer_share: float = 0.5) -> dict[str, float]:
    """GiB by what it is for. language: a transformers config. answer_share: of the tokens, how many are learned."""
    blocks = language.num_hidden_layers * sum(a * b for a, b in linears(language).values())
    table = language.vocab_size * language.hidden_size * (1 if language.tie_word_embeddings else 2)
    tokens = (config.loop.micro_batch or config.tune.batch_size) * config.run.max_tokens
    width, layers, learned = language.hidden_size, language.num_hidden_layers, answer_share * tokens
    # what one block keeps for its backward pass, in bfloat16: its inputs, norms, q k v o, and five of the inner width
    block = 2 * tokens * (6 * width + sum(out for _, out in list(linears(language).values())[:3]))
    block += 2 * tokens * 5 * language.intermediate_size
    kept = 2 * tokens * width * layers + block if config.run.checkpointing else block * layers
    found = {
        "blocks": blocks * (NF4 if config.quantize == "4bit" else 1 if config.quantize == "8bit" else 2),
        "embedding and head": 2 * table,
        "image encoder": 4 * eye.parameters,
        "LoRA": LEARNED * lora_parameters(language, config),
        "projector": LEARNED * projector_parameters(language, eye),
        "activations": kept + 2 * max(a * b for a, b in linears(language).values()),  # and one layer, unpacked
        # some words at a time: themselves, their logarithms and the gradient in float32; then what goes back, (m, H)
        "logits": 3 * 4 * min(learned * language.vocab_size, AT_ONCE) + 2 * learned * width,
    }
    gib = {name: value / GIB for name, value in found.items()} | {"CUDA": CONTEXT}
    return gib | {"all": sum(gib.values())}
