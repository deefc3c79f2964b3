"""Augmentation of a whole batch of grey faces at once, as tensor arithmetic: (B, 1, H, W) floats in 0..1."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from emoreason.train.config import AugmentConfig


def _uniform(n: int, reach: float, rng: torch.Generator) -> Tensor:
    return (torch.rand(n, generator=rng) * 2 - 1) * reach


def augment(faces: Tensor, config: AugmentConfig, rng: torch.Generator) -> Tensor:
    """Mirror, move, blur, light, and cut out; every face draws its own."""
    n, _, height, width = faces.shape
    angle, size = _uniform(n, math.radians(config.rotate), rng), 1 + _uniform(n, config.scale, rng)
    mirror = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos() * size, angle.sin() * size
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, _uniform(n, 2 * config.shift, rng)], dim=1),
            torch.stack([sin * mirror, cos, _uniform(n, 2 * config.shift, rng)], dim=1),
        ],
        dim=1,
    )  # (B, 2, 3)
    grid = F.affine_grid(theta, [n, 1, height, width], align_corners=False)
    moved = F.grid_sample(faces, grid, padding_mode="reflection", align_corners=False)

    blurred = torch.rand(n, generator=rng) < config.blur
    if blurred.any():
        small = F.interpolate(moved[blurred], scale_factor=0.5, mode="bilinear", antialias=True)
        moved[blurred] = F.interpolate(small, size=(height, width), mode="bilinear")
    mean = moved.mean(dim=(2, 3), keepdim=True)
    contrast = 1 + _uniform(n, config.contrast, rng).view(n, 1, 1, 1)
    light = _uniform(n, config.brightness, rng).view(n, 1, 1, 1)
    moved = ((moved - mean) * contrast + mean + light * 0.5).clamp_(0, 1)
    return _cut_out(moved, config.cutout, rng)


def _cut_out(faces: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Paint one rectangle of 8 to 20 pixels a side in the face's mean grey, on a share of the faces."""
    n, _, height, width = faces.shape
    side_y = torch.randint(height // 6, height * 5 // 12, (n, 1), generator=rng)
    side_x = torch.randint(width // 6, width * 5 // 12, (n, 1), generator=rng)
    top = (torch.rand(n, 1, generator=rng) * (height - side_y)).long()
    left = (torch.rand(n, 1, generator=rng) * (width - side_x)).long()
    y, x = torch.arange(height).view(1, -1), torch.arange(width).view(1, -1)
    rows, columns = (y >= top) & (y < top + side_y), (x >= left) & (x < left + side_x)
    hit = rows[:, None, :, None] & columns[:, None, None, :]  # (B, 1, H, W)
    hit &= (torch.rand(n, generator=rng) < share).view(n, 1, 1, 1)
    return torch.where(hit, faces.mean(dim=(2, 3), keepdim=True), faces)


def mix(faces: Tensor, targets: list[Tensor], alpha: float, rng: torch.Generator) -> tuple[Tensor, list[Tensor]]:
    """Mixup or cutmix (half each) of a batch with its own shuffle; targets (B, …) are mixed in the same proportion."""
    n, _, height, width = faces.shape
    order = torch.randperm(n, generator=rng)
    seed = int(torch.randint(2**31, (1,), generator=rng))
    keep = float(torch.distributions.Beta(alpha, alpha).sample()) if alpha > 0 else 1.0
    keep = max(keep, 1 - keep)
    if seed % 2:
        mixed = keep * faces + (1 - keep) * faces[order]
    else:
        cut_h, cut_w = round(height * math.sqrt(1 - keep)), round(width * math.sqrt(1 - keep))
        top, left = seed // 2 % (height - cut_h + 1), seed // 128 % (width - cut_w + 1)
        mixed = faces.clone()
        mixed[:, :, top : top + cut_h, left : left + cut_w] = faces[order, :, top : top + cut_h, left : left + cut_w]
        keep = 1 - cut_h * cut_w / (height * width)
    return mixed, [keep * t + (1 - keep) * t[order] for t in targets]
