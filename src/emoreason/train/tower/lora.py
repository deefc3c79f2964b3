"""The image tower with a label head, fine-tuned as a whole or with LoRA.

Batch norms are folded into their convolutions before tuning, so a face's result does not depend on the rest of its
batch, and micro-batches and several processes give the same result. Only a tower trained from random weights keeps its
batch norms; they are folded at the end.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoreason.core.errors import UsageError
from emoreason.models.bundle import find_bundle
from emoreason.models.encoder import Encoder, create_clip, fold_batch_norm
from emoreason.models.image_tower import FaceNet
from emoreason.train.finetune_config import LoraSettings
from emoreason.train.heads.objectives import TowerOutput


class Tower(nn.Module):
    """An image tower and a linear label head on its embedding."""

    def __init__(self, visual: Any, weight: np.ndarray, bias: np.ndarray):
        """weight: (L, D) including the logit scale; bias: (L,)."""
        super().__init__()
        self.visual = visual
        self.head_weight = nn.Parameter(torch.from_numpy(weight).float())
        self.head_bias = nn.Parameter(torch.from_numpy(bias).float())

    def forward(self, faces: Tensor) -> TowerOutput:
        """faces: (B, 3, S, S), normalised."""
        visual = self.visual
        grid = None
        if isinstance(getattr(visual, "trunk", None), FaceNet):
            grid = visual.trunk.forward_features(faces)
            pooled = grid.mean(dim=(2, 3))
            embedding = F.normalize(visual.head(pooled).float(), dim=1)
        else:
            embedding = F.normalize(visual(faces).float(), dim=1)
            pooled = embedding
        return TowerOutput(grid, pooled, embedding, embedding @ self.head_weight.T + self.head_bias)


def make_tower(encoder: Encoder, what: str, lora: LoraSettings, weight: np.ndarray, bias: np.ndarray) -> Tower:
    """The encoder's own tower, made trainable as `full` or `lora`. Training changes the encoder."""
    visual: Any = encoder.visual.requires_grad_(what == "full")
    if what == "lora":
        visual = add_lora(visual, lora)
    return Tower(visual, weight, bias).float()


def fresh_tower(model: str, weight: np.ndarray, bias: np.ndarray) -> Tower:
    """A tower of the same architecture with random weights, for experiments and for very large data sets."""
    bundle = find_bundle(model)
    clip, _ = create_clip(bundle.spec["clip"] if bundle else model.partition("/")[0])
    return Tower(clip.visual.requires_grad_(True), weight, bias)


def add_lora(visual: nn.Module, settings: LoraSettings) -> Any:
    """Add LoRA to all convolutions and linear layers, or to the layers that settings.targets names."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it, and it logs missing GPU kernels
    from peft import LoraConfig, get_peft_model

    kinds = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)
    named = [name for name, module in visual.named_modules() if isinstance(module, kinds)]
    inside = {name for name in named if any(name.startswith(f"{other}.") for other in named)}  # parts of an attention
    targets = [name for name in named if name not in inside]
    if settings.targets != "all-linear":
        wanted = [word.strip() for word in settings.targets.split(",")]
        targets = [name for name in targets if any(name == word or name.endswith(f".{word}") for word in wanted)]
    if not targets:
        raise UsageError(
            f"lora.targets {settings.targets!r} matches no layer of the image tower; it has {', '.join(named[:8])}"
        )
    config = LoraConfig(r=settings.r, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=targets)
    return get_peft_model(visual, config)


def merged(visual: Any) -> nn.Module:
    """The tower as plain layers, with LoRA merged and batch norms folded."""
    plain = visual.merge_and_unload() if hasattr(visual, "merge_and_unload") else visual
    plain = plain.eval()
    fold_batch_norm(plain)
    return plain.requires_grad_(False)


def save_adapter(visual: Any, folder: Path) -> None:
    """Save adapter/ in PEFT's layout."""
    visual.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty template
