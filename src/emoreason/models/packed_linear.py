"""A linear layer for CPUs with its weight packed as int8, float16 or float32."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Level = Literal["float32", "half", "int8"]  # float32 gains only from concatenated layers and the faster decoder
FEW_ROWS = 4  # up to this many rows int8 is faster than float16, measured with AVX2 and AVX-512
# Only torch's x86 builds multiply float16 weights with float32 inputs. Elsewhere, int8 weights are converted to float32
# when there are many rows.
PACKED_HALF = "fbgemm" in torch.backends.quantized.supported_engines


class PackedLinear(nn.Module):
    """A linear layer for CPUs: packed weight, float32 input and output. It cannot be trained or moved to a GPU."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, level: Level = "int8", keep: bool = False):
        """keep: also store the original as `.weight`, which costs nothing if an embedding shares it."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else bias.detach().float()
        self.weight = weight.detach() if keep else None
        self._float: Tensor | None = None  # the level decides which of these are set
        self._half: Any = None
        self._int8: tuple[Tensor, Tensor] | None = None  # weight, scale of each output
        full = weight.detach().float().contiguous()
        if level == "int8" and (self.in_features % 64 or self.out_features % 16):
            level = "half"  # the kernel reads whole blocks, past the end of other sizes
        if level == "int8":
            # the kernel's scale is bfloat16: rounding it before dividing keeps that rounding out of the error
            scale = (full.abs().amax(1).clamp(min=1e-12) / 127).bfloat16()
            self._int8 = (full / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8), scale
        if level != "float32" and PACKED_HALF:
            self._half = torch.ops.quantized.linear_prepack_fp16(full, None)
        elif level != "int8":
            self._float = full

    def tensors(self) -> dict[str, Tensor]:
        """The packed weight, to be stored, without a kept original."""
        found: dict[str, Tensor] = {}
        if self._half is not None:
            found["half"] = torch.ops.quantized.linear_unpack_fp16(self._half)[0].half()
        if self._int8 is not None:
            found |= {"int8": self._int8[0], "scale": self._int8[1]}
        if self._float is not None:
            found["float"] = self._float
        return found if self.bias is None else found | {"bias": self.bias}

    @classmethod
    def restored(cls, tensors: dict[str, Tensor], weight: Tensor | None = None) -> "PackedLinear":
        """The layer whose `tensors` were stored, with the same numbers. They may be mapped from a file and are copied.

        In a file they begin anywhere. The int8 kernel reads whole blocks from where torch lets them begin, and crashes
        on others; in float32, the last bit of a product depends on it.

        weight: the original, if it was kept."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer.out_features, layer.in_features = next(t.shape for t in tensors.values() if t.ndim == 2)
        layer.bias, layer.weight = tensors.get("bias"), weight
        layer._float = tensors["float"].clone() if "float" in tensors else None
        layer._int8 = (tensors["int8"].clone(), tensors["scale"].clone()) if "int8" in tensors else None
        layer._half = None
        if "half" in tensors:  # the kernel's own order of the numbers cannot be stored
            layer._half = torch.ops.quantized.linear_prepack_fp16(tensors["half"].float(), None)
        return layer

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
            assert self._float is not None
            y = functional.linear(x, self._float)
        return y if self.bias is None else y + self.bias

    def __deepcopy__(self, memo: dict[int, Any]) -> "PackedLinear":
        return self  # it is immutable, and torch cannot copy packed weights

    def nbytes(self) -> int:
        """Bytes of the packed weights, without a kept original, which belongs to the embedding."""
        packed = 2 * self.out_features * self.in_features if self._half is not None else 0
        return packed + sum(t.nbytes for t in (*(self._int8 or ()), self._float, self.bias) if t is not None)

    def bytes_read(self, rows: int = 1) -> int:
        """Bytes of weights that one pass over this many rows reads from memory."""
        width = 2 if self._half is not None else 4
        if self._int8 is not None and (rows <= FEW_ROWS or self._half is None):
            width = 1
        return width * self.out_features * self.in_features

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, int8={self._int8 is not None}"
