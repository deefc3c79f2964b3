"""Smaller and faster weights: int8 and half precision on a processor, 4 and 8 bits by bitsandbytes on CUDA.

One token at a time, a language model waits for its weights to come from memory: a quarter of the bytes is up to four
times the speed. Many rows at once (a prompt, all labels, a batch of faces) wait for arithmetic instead. So a
`PackedLinear` holds its weight as int8 for a few rows and as float16 for many. Activations are never rounded to eight
bits, as torch's dynamic quantization does: Gemma's have outliers, and it would change one greedy token in three for no
gain in speed.
"""

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.malloc import give_back_memory

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

Level = Literal["float32", "half", "int8"]  # of float32, only the joined layers and the slimmer forward

FEW_ROWS = 4  # up to here int8 is faster than float16, measured with AVX2 and with AVX-512
# float16 weights for float32 inputs: in torch's x86 builds; elsewhere the int8 weights are widened for many rows
PACKED_HALF = "fbgemm" in torch.backends.quantized.supported_engines


class PackedLinear(nn.Module):
    """A linear layer on a processor: float32 in and out, its weight packed. It cannot be trained or moved to a GPU."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, level: Level = "int8", keep: bool = False):
        """keep: hold the given weight as `.weight` too, where an embedding keeps it in memory anyway."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else bias.detach().float()
        self.weight = weight.detach() if keep else None
        self._whole: Tensor | None = None  # which of these are there depends on the level
        self._half: Any = None
        self._int8: tuple[Tensor, Tensor] | None = None  # weight, scale of each output
        exact = weight.detach().float().contiguous()
        if level == "int8" and (self.in_features % 64 or self.out_features % 16):
            level = "half"  # the kernel reads whole blocks, beyond the end of such a weight
        if level == "int8":
            # the kernel multiplies by a bfloat16 scale: rounded first, it takes no part in the error
            scale = (exact.abs().amax(1).clamp(min=1e-12) / 127).bfloat16()
            self._int8 = (exact / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8), scale
        if level != "float32" and PACKED_HALF:
            self._half = torch.ops.quantized.linear_prepack_fp16(exact, None)
        elif level != "int8":
            self._whole = exact

    def forward(self, x: Tensor) -> Tensor:
        if self._int8 is not None and x.numel() <= FEW_ROWS * self.in_features:
            rows = x.reshape(-1, self.in_features).bfloat16()
            y = torch._weight_int8pack_mm(rows, *self._int8).float().view(*x.shape[:-1], -1)
        elif self._half is not None:
            y = torch.ops.quantized.linear_dynamic_fp16(x.contiguous(), self._half)
        elif self._int8 is not None:
            weight, scale = self._int8
            y = functional.linear(x, weight.float()) * scale.float()
        else:
            assert self._whole is not None
            y = functional.linear(x, self._whole)
        return y if self.bias is None else y + self.bias

    def __deepcopy__(self, memo: dict[int, Any]) -> "PackedLinear":
        return self  # it never changes, and torch cannot copy the packed weight

    def nbytes(self) -> int:
        """Bytes of the packed weights; a kept one belongs to the embedding."""
        packed = 2 * self.out_features * self.in_features if self._half is not None else 0
        return packed + sum(t.nbytes for t in (*(self._int8 or ()), self._whole, self.bias) if t is not None)

    def bytes_read(self, rows: int = 1) -> int:
        """Bytes of weights that one pass over so many rows reads from memory."""
        wide = 2 if self._half is not None else 4
        if self._int8 is not None and (rows <= FEW_ROWS or self._half is None):
            wide = 1
        return wide * self.out_features * self.in_features

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, int8={self._int8 is not None}"


def int8(model: nn.Module) -> nn.Module:
    """A transformers causal language model on a processor, its linear layers packed in place; the same calls as before.

    The head stays in half precision: eight bits of its result would tie the best tokens.
    """
    return pack(model, "int8")


def pack(model: nn.Module, level: Level) -> nn.Module:
    """Linear layers of this level, in place; Gemma 3 gets a slimmer forward as well. `half` changes no greedy text."""
    from emoreason.models.fast_decoder import FastGemma, is_gemma

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
