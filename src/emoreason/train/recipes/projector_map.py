"""Keeps a trained projector in use with a newer image tower: a linear map from the new features to the old ones.

The explainer's language model learned to read the old tower's features. A ridge regression on training faces gives the
map, which is stored with the projector.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch


def map_projector(old: Any, new: Any, pixels: np.ndarray, source: Path, target: Path, penalty: float = 1e-3) -> float:
    """Write the projector of `source` with the map to `target`; returns the explained share of the variance.

    old, new: image trunks with `forward_features`; pixels: (n, 1, 48, 48) normalised floats."""
    from safetensors.torch import load_file, save_file

    with torch.inference_mode():
        batches = [torch.from_numpy(pixels[start : start + 128]) for start in range(0, len(pixels), 128)]
        wanted = torch.cat([_cells(old, batch) for batch in batches]).double()
        given = torch.cat([_cells(new, batch) for batch in batches]).double()
    given_mean, wanted_mean = given.mean(dim=0), wanted.mean(dim=0)
    x, y = given - given_mean, wanted - wanted_mean
    gram = x.T @ x
    ridge = penalty * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    weight = torch.linalg.solve(gram + ridge, x.T @ y)
    explained = 1 - float((y - x @ weight).square().sum() / y.square().sum())
    state = {k: v for k, v in load_file(source).items() if not k.startswith("adapt.")}
    dtype = state["inner.weight"].dtype
    state["adapt.weight"] = weight.T.contiguous().to(dtype)[:, :, None, None].contiguous()
    state["adapt.bias"] = (wanted_mean - given_mean @ weight).to(dtype)
    save_file(state, target)
    return explained


def _cells(trunk: Any, batch: torch.Tensor) -> torch.Tensor:
    """(n, 1, 48, 48) -> (n * 36, C)."""
    grid = trunk.forward_features(batch.to(memory_format=torch.channels_last)).float()
    return grid.permute(0, 2, 3, 1).reshape(-1, grid.shape[1])
