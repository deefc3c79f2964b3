"""Which device and number type to compute with, and why: the reason is printed, so that nobody has to guess."""

import os
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from emoreason.core.errors import UsageError

if TYPE_CHECKING:
    import torch

# A CPU without them is a hundred times slower in bfloat16 than in float32. Read from the processor and not timed:
# timings of a busy machine differ from run to run, and so would the numbers in the rows.
BF16_UNITS = {"amx_bf16": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}


@dataclass(frozen=True)
class Compute:
    device: str
    dtype: str  # "float32", "bfloat16" or "float16"
    reason: str

    @property
    def torch_dtype(self) -> "torch.dtype":
        import torch

        return getattr(torch, self.dtype)


@cache
def choose(device: str = "auto") -> Compute:
    """The best of this machine, or the asked device, with the number type that suits it; always the same one."""
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            device, why = "cuda", "a CUDA device is present"
        elif torch.backends.mps.is_available():
            device, why = "mps", "Apple's GPU is present"
        else:
            device, why = "cpu", "no GPU was found"
    else:
        why = "asked for"
        _check_present(device)
    if device.startswith("cuda"):
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        if native:
            return Compute(device, "bfloat16", f"{why}; it computes in bfloat16")
        return Compute(device, "float16", f"{why}; it has no bfloat16 units")
    if device == "mps":
        return Compute(device, "float32", f"{why}; float32 keeps its results equal to a CPU's")
    if units := bf16_units():
        return Compute("cpu", "bfloat16", f"{why}; this processor has bfloat16 units ({', '.join(units)})")
    return Compute("cpu", "float32", f"{why}; this processor has no bfloat16 units")


def bf16_units() -> tuple[str, ...]:
    """The instructions of this processor that multiply bfloat16 matrices, where torch was built to use them."""
    import torch

    if not torch.backends.mkldnn.is_available():
        return ()
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return tuple(unit for unit in BF16_UNITS if found.get(unit))
    return tuple(unit for unit, supported in BF16_UNITS.items() if getattr(torch.cpu, supported, bool)())


def _check_present(device: str) -> None:
    import torch

    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise UsageError(f"there is no --device {device}; use auto, cpu, cuda, cuda:1 or mps")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UsageError(f"--device {device} cannot be used ({first_line}); use auto, or cpu") from None


def cores() -> int:
    """The cores that this process may use; a container often has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
