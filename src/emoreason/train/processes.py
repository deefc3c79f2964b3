"""One process or several, by accelerate: who computes, and what its ways of spreading weights want to know."""

import os
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from emoreason.core.errors import EmoreasonError
from emoreason.train.settings import LoopSettings


def make_accelerator(compute: Any) -> Any:
    """One process, or those that `accelerate launch` started."""
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # an earlier training of this process may have computed in another number type
    low = "bf16" if compute.dtype == "bfloat16" else "fp16" if compute.dtype == "float16" else "no"
    return Accelerator(
        mixed_precision=os.environ.get("ACCELERATE_MIXED_PRECISION", low),
        cpu=compute.device == "cpu",
        # Objectives keep what they saw in buffers and add them up themselves.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )


def tell_deepspeed(accelerator: Any, rows: int, settings: LoopSettings) -> None:
    """It wants to know the size of its share before it begins, and steps after every backward."""
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    if plugin is None:
        return
    if settings.micro_batch:
        raise EmoreasonError("--loop.micro_batch is not for DeepSpeed: more processes, or a smaller batch a step")
    plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = max(1, rows // accelerator.num_processes)
    plugin.deepspeed_config["gradient_clipping"] = settings.clip_norm


def is_spread(accelerator: Any) -> bool:
    """Whether no process holds all weights."""
    return any(word in str(accelerator.distributed_type) for word in ("FSDP", "DEEPSPEED"))


def no_sync(accelerator: Any, model: nn.Module, wanted: bool) -> Any:
    return accelerator.no_sync(model) if wanted else nullcontext()


def peak_memory(device: torch.device) -> int:
    """The most memory that was in use: of the GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
