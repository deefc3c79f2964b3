"""Which device and number type to compute with, and why: the reason is printed, so that nobody has to guess."""

import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from emoreason.errors import UsageError

if TYPE_CHECKING:
    import torch


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
    """The best of this machine, or the asked device with the number type that suits it."""
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
        if torch.cuda.is_bf16_supported():
            return Compute(device, "bfloat16", f"{why}; it computes in bfloat16")
        return Compute(device, "float16", f"{why}; it has no bfloat16 units")
    if device == "mps":
        return Compute(device, "float32", f"{why}; float32 keeps its results equal to a CPU's")
    ratio = _bf16_speedup()
    if ratio > 1.5:
        return Compute("cpu", "bfloat16", f"{why}; bfloat16 measured {ratio:.1f} times as fast as float32 here")
    return Compute("cpu", "float32", f"{why}; bfloat16 measured {ratio:.2g} times as fast as float32 here")


def _check_present(device: str) -> None:
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first_line = str(error).splitlines()[0]
        raise UsageError(f"--device {device} cannot be used ({first_line}); use auto, cpu, cuda, cuda:1 or mps") from None


def _bf16_speedup(side: int = 384, repeats: int = 5) -> float:
    """float32 time over bfloat16 time of a matrix product: some 10 ms, where a wrong guess costs a factor of 100."""
    import torch

    def seconds(dtype: "torch.dtype") -> float:
        a = torch.ones(side, side, dtype=dtype)
        best = float("inf")
        for _ in range(repeats + 1):  # the first product also compiles its kernel
            start = time.perf_counter()
            a @ a
            best = min(best, time.perf_counter() - start)
            if best > 0.1:
                break  # no units for it: the answer is clear
        return best

    return seconds(torch.float32) / seconds(torch.bfloat16)
