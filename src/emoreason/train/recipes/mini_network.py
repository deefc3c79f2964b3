"""The mini's image tower with its heads for training, and saving and loading of its weights."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoreason.train.recipes.mini_bundle import MEAN, STD
from emoreason.train.recipes.mini_faces import EMOTIONS
from emoreason.train.recipes.mini_geometry import UNITS


class EncoderWithHeads(nn.Module):
    """The image tower, the action-unit head that ships with it, and a linear head that only helps training."""

    def __init__(self, visual: Any, logit_scale: float = 20.0):
        super().__init__()
        self.visual: Any = visual  # open_clip's TimmModel: trunk and head
        width = visual.trunk.num_features
        self.units = nn.Linear(width, len(UNITS))
        self.helper = nn.Linear(width, len(EMOTIONS))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(logit_scale)))

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 1, 48, 48) -> embedding (B, D) of unit length, unit logits (B, U), helper logits (B, 8)."""
        pooled = self.visual.trunk(faces)
        dropped = F.dropout(pooled, 0.2, self.training)
        return (
            F.normalize(self.visual.head(pooled).float(), dim=1),
            self.units(dropped).float(),
            self.helper(dropped).float(),
        )


def normalise(faces: Tensor) -> Tensor:
    """Normalise floats in 0..1 for the image tower; the model's preprocessing has the same numbers."""
    return (faces - MEAN) / STD


def unit_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy with intensities, over the units that are determined."""
    known = ~target.isnan()
    return F.binary_cross_entropy_with_logits(logits[known], target[known]) if known.any() else logits.sum() * 0


@torch.inference_mode()
def embed_faces(model: EncoderWithHeads, pixels: np.ndarray, bf16: bool, batch: int = 256) -> tuple[Tensor, Tensor]:
    """(n, 48, 48) uint8 -> embedding (n, D) and action units (n, U), averaged over the face and its mirror image."""
    model.eval()
    embeddings, units = [], []
    for start in range(0, len(pixels), batch):
        faces = normalise(torch.from_numpy(pixels[start : start + batch]).float().unsqueeze(1) / 255)
        faces = faces.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            embedding, unit, _ = (sum(pair) / 2 for pair in zip(model(faces), model(faces.flip(3)), strict=True))
        embeddings.append(F.normalize(embedding, dim=1))
        units.append(unit.sigmoid())
    return torch.cat(embeddings), torch.cat(units)


def save_weights(model: EncoderWithHeads, path: Path) -> None:
    """Save the weights that are shipped, without the helper head and batch-norm counters."""
    from safetensors.torch import save_file

    weights = {k: v.contiguous() for k, v in model.state_dict().items() if "num_batches" not in k and "helper" not in k}
    save_file(weights, path)


def load_weights(model: EncoderWithHeads, path: Path) -> None:
    from safetensors.torch import load_file

    missing, unexpected = model.load_state_dict(load_file(path), strict=False)
    if unexpected or [k for k in missing if "num_batches" not in k and "helper" not in k]:
        raise ValueError(f"{path} does not fit the model: missing {missing}, unexpected {unexpected}")
