"""Helpers for training in one process or several with accelerate, DeepSpeed or FSDP."""

import os
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from emoreason.core.errors import EmoreasonError
from emoreason.train.settings import LoopSettings


def make_accelerator(compute: Any) -> Any:
    """An Accelerator for this process, or for all processes of `accelerate launch`."""
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # an earlier training in this process may have used another precision
    low = "bf16" if compute.dtype == "bfloat16" else "fp16" if compute.dtype == "float16" else "no"
    return Accelerator(
        mixed_precision=os.environ.get("ACCELERATE_MIXED_PRECISION", low),
        cpu=compute.device == "cpu",
        # Objectives collect values in buffers and reduce them over the processes themselves.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )


def configure_deepspeed(accelerator: Any, rows: int, settings: LoopSettings) -> None:
    """Give DeepSpeed its micro-batch size before it starts. It steps after every backward, so it cannot accumulate."""
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    if plugin is None:
        return
    if settings.micro_batch:
        raise EmoreasonError(
            "--loop.micro_batch does not work with DeepSpeed: use more processes or a smaller batch size"
        )
    plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = max(1, rows // accelerator.num_processes)
    plugin.deepspeed_config["gradient_clipping"] = settings.clip_norm


def is_sharded(accelerator: Any) -> bool:
    """Whether the weights are sharded, so that no process holds them all."""
    return any(word in str(accelerator.distributed_type) for word in ("FSDP", "DEEPSPEED"))


def no_sync(accelerator: Any, model: nn.Module, wanted: bool) -> Any:
    return accelerator.no_sync(model) if wanted else nullcontext()


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of the GPU, or of this process on other devices."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
