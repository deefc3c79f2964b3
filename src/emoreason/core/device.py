"""Choose the device and number type to compute with, and give the reason, which is shown to users."""

import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from emoreason.core.errors import UsageError, first_line

if TYPE_CHECKING:
    import torch

# Without these instructions, a CPU is a hundred times slower in bfloat16 than in float32. They are read from the
# processor: a benchmark would vary from run to run on a busy machine, and so would the numbers in the rows.
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
    """The best device of this machine, or the given one, with the number type that suits it. Deterministic."""
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            device, reason = "cuda", "a CUDA device is present"
        elif torch.backends.mps.is_available():
            device, reason = "mps", "Apple's GPU is present"
        else:
            device, reason = "cpu", "no GPU was found"
    else:
        reason = "asked for"
        _check_present(device)
    if device.startswith("cuda"):
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        if native:
            return Compute(device, "bfloat16", f"{reason}; it computes in bfloat16")
        return Compute(device, "float16", f"{reason}; it has no bfloat16 units")
    if device == "mps":
        return Compute(device, "float32", f"{reason}; float32 keeps its results equal to a CPU's")
    if units := bf16_units():
        return Compute("cpu", "bfloat16", f"{reason}; this processor has bfloat16 units ({', '.join(units)})")
    return Compute("cpu", "float32", f"{reason}; this processor has no bfloat16 units")


def bf16_units() -> tuple[str, ...]:
    """The bfloat16 matrix instructions of this processor, if torch was built to use them."""
    import torch

    if not torch.backends.mkldnn.is_available():
        return ()
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return tuple(unit for unit in BF16_UNITS if capabilities.get(unit))
    return tuple(unit for unit, supported in BF16_UNITS.items() if getattr(torch.cpu, supported, bool)())


def _check_present(device: str) -> None:
    import torch

    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise UsageError(f"there is no --device {device}; use auto, cpu, cuda, cuda:1 or mps")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {device} cannot be used ({first_line(error)[:200]}); use auto, or cpu") from None


def wait_asleep() -> None:
    """Let torch's threads sleep while they wait for each other, if torch is not imported yet.

    By default they count in circles. While other programs use the cores, most of the processor time of a short command
    goes into that."""
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def cores() -> int:
    """The number of CPU cores that this process may use, which in a container is often less than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
