"""Smaller and faster weights: int8 and half precision on a processor, 4 and 8 bits by bitsandbytes on CUDA.

One token at a time, a language model waits for its weights to come from memory: a quarter of the bytes is up to four
times the speed. Many rows at once (a prompt, all labels, a batch of faces) wait for arithmetic instead. So a
`PackedLinear` holds its weight as int8 for a few rows and as float16 for many. Activations are never rounded to eight
bits, as torch's dynamic quantization does: Gemma's have outliers, and it would change one greedy token in three for no
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
    """A transformers causal language model on a processor, its linear layers packed in place; the same calls as before.

    The head stays in half precision: eight bits of its result would tie the best tokens.
    """
    return pack(model, "int8")


def pack(model: nn.Module, level: Level) -> nn.Module:
    """Linear layers of this level, in place; Gemma 3 gets a slimmer forward as well. `half` changes no greedy text."""
    if (device := next(model.parameters()).device.type) != "cpu":
        raise UsageError(f"int8 is for processors and this model is on {device}: use 4bit or 8bit there")
    if hasattr(model, "peft_config"):
        raise EmoreasonError("int8 packs plain weights and this model has LoRA beside them: call merge() first")
    give_back_memory()
    causal: Any = model.requires_grad_(False)
    head = causal.get_output_embeddings()
    if isinstance(head, nn.Linear):
        tied = head.weight is causal.get_input_embeddings().weight
        causal.set_output_embeddings(PackedLinear(head.weight, head.bias, "half" if level == "int8" else level, tied))
    if is_gemma(model):
        causal.model = FastGemma(causal.model, level)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child.weight, child.bias, level))
    give_back_memory()
    return model.eval()


def step_bytes(model: nn.Module, rows: int = 1) -> int:
    """Bytes of weights that one step over so many rows reads: the embedding is looked up, the rest is read whole."""
    total = 0
    for module in model.modules():
        if isinstance(module, PackedLinear):
            total += module.bytes_read(rows)
        elif not isinstance(module, nn.Embedding):
            total += sum(p.nbytes for p in module.parameters(recurse=False))
    return total


def bitsandbytes_config(level: str, dtype: torch.dtype) -> "BitsAndBytesConfig":
    """The quantization that transformers loads a model with: `4bit` (nf4, double quantization) or `8bit`."""
    if level not in ("4bit", "8bit"):
        raise UsageError(f"bitsandbytes knows 4bit and 8bit, not {level!r}; int8 is the one for processors")
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise EmoreasonError(
            f"{level} needs bitsandbytes: pip install bitsandbytes (or --quantize int8 on a processor)"
        )
    from transformers import BitsAndBytesConfig

    if level == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
