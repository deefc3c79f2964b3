"""Smaller and faster weights: int8 and half precision on CPUs, 4 and 8 bits with bitsandbytes on CUDA.

Writing one token at a time, a language model is limited by reading its weights from memory: a quarter of the bytes is
up to four times as fast. Many rows at once (a prompt, all labels, a batch of faces) are limited by arithmetic. So a
`PackedLinear` stores its weight as int8 for few rows and as float16 for many. Unlike torch's dynamic quantization, it
never rounds activations to eight bits: Gemma's have outliers, which would change one greedy token in three without any
gain in speed.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.malloc import give_back_memory
from emoreason.models.fast_decoder import FastGemma, is_gemma
from emoreason.models.packed_linear import Level, PackedLinear

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig


def int8(model: nn.Module) -> nn.Module:
    """Pack the linear layers of a transformers causal language model on a CPU, in place. It is used as before.

    The head stays in half precision: with eight bits, the best tokens would tie.
    """
    return pack(model, "int8")


def pack(model: nn.Module, level: Level) -> nn.Module:
    """Pack all linear layers in place; Gemma 3 also gets a faster decoder. `half` changes no greedy text."""
    if (device := next(model.parameters()).device.type) != "cpu":
        raise UsageError(f"int8 works only on a CPU and this model is on {device}: use 4bit or 8bit there")
    if hasattr(model, "peft_config"):
        raise EmoreasonError("int8 packs plain weights and this model has a separate LoRA: call merge() first")
    give_back_memory()
    causal: Any = model.requires_grad_(False)
    head = causal.get_output_embeddings()
    if isinstance(head, nn.Linear):
        tied = head.weight is causal.get_input_embeddings().weight
        causal.set_output_embeddings(PackedLinear(head.weight, head.bias, "half" if level == "int8" else level, tied))
    if is_gemma(model):
        causal.model = FastGemma.packed(causal.model, level)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child.weight, child.bias, level))
    give_back_memory()
    return model.eval()


def step_bytes(model: nn.Module, rows: int = 1) -> int:
    """Bytes of weights that one step over this many rows reads: all except the embedding, which is a look-up."""
    total = 0
    for module in model.modules():
        if isinstance(module, PackedLinear):
            total += module.bytes_read(rows)
        elif not isinstance(module, nn.Embedding):
            total += sum(p.nbytes for p in module.parameters(recurse=False))
    return total


def bitsandbytes_config(level: str, dtype: torch.dtype) -> "BitsAndBytesConfig":
    """The transformers config for loading in `4bit` (nf4, double quantization) or `8bit`."""
    if level not in ("4bit", "8bit"):
        raise UsageError(f"bitsandbytes supports 4bit and 8bit, not {level!r}; on a CPU use int8")
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise EmoreasonError(f"{level} needs bitsandbytes: pip install bitsandbytes (or use --quantize int8 on a CPU)")
    from transformers import BitsAndBytesConfig

    if level == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
