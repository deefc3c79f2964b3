"""Augments a whole batch of faces at once with tensor operations: (B, C, H, W) floats in 0..1."""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from emoreason.train.settings import AugmentConfig


def _uniform(n: int, limit: float, rng: torch.Generator) -> Tensor:
    """(n,) numbers between -limit and limit."""
    return (torch.rand(n, generator=rng) * 2 - 1) * limit


@dataclass(frozen=True)
class Draws:
    """The random numbers for n faces. They are drawn for a whole step, so any process can compute any part of it."""

    theta: Tensor  # (n, 2, 3) affine map: mirror, rotation, scale, shift
    blur: Tensor  # (n,) bool
    contrast: Tensor  # (n,)
    light: Tensor  # (n,)
    cut: Tensor  # (n,) bool: a rectangle is cut out
    sides: Tensor  # (n, 2) height and width of the rectangle
    corner: Tensor  # (n, 2) its top and left

    def take(self, rows: Tensor) -> "Draws":
        return Draws(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw(n: int, height: int, width: int, config: AugmentConfig, rng: torch.Generator) -> Draws:
    angle, size = _uniform(n, math.radians(config.rotate), rng), 1 + _uniform(n, config.scale, rng)
    mirror = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos() * size, angle.sin() * size
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, _uniform(n, 2 * config.shift, rng)], dim=1),
            torch.stack([sin * mirror, cos, _uniform(n, 2 * config.shift, rng)], dim=1),
        ],
        dim=1,
    )
    blur = torch.rand(n, generator=rng) < config.blur
    contrast, light = 1 + _uniform(n, config.contrast, rng), _uniform(n, config.brightness, rng)
    side_y = torch.randint(height // 6, height * 5 // 12, (n, 1), generator=rng)
    side_x = torch.randint(width // 6, width * 5 // 12, (n, 1), generator=rng)
    top = (torch.rand(n, 1, generator=rng) * (height - side_y)).long()
    left = (torch.rand(n, 1, generator=rng) * (width - side_x)).long()
    cut = torch.rand(n, generator=rng) < config.cutout
    return Draws(theta, blur, contrast, light, cut, torch.cat([side_y, side_x], dim=1), torch.cat([top, left], dim=1))


def augment(faces: Tensor, config: AugmentConfig, rng: torch.Generator) -> Tensor:
    """Mirror, move, blur, relight and cut out, with random numbers of its own for each face."""
    return apply(faces, draw(len(faces), faces.shape[2], faces.shape[3], config, rng))


def apply(faces: Tensor, draws: Draws) -> Tensor:
    n, _, height, width = faces.shape
    grid = F.affine_grid(draws.theta.to(faces.device), [n, 1, height, width], align_corners=False)
    moved = F.grid_sample(faces, grid, padding_mode="reflection", align_corners=False)
    if draws.blur.any():
        blurred = draws.blur.to(faces.device)
        small = F.interpolate(moved[blurred], scale_factor=0.5, mode="bilinear", antialias=True)
        moved[blurred] = F.interpolate(small, size=(height, width), mode="bilinear")
    mean = moved.mean(dim=(2, 3), keepdim=True)
    contrast, light = (column.to(faces.device).view(n, 1, 1, 1) for column in (draws.contrast, draws.light))
    moved = ((moved - mean) * contrast + mean + light * 0.5).clamp_(0, 1)
    return _cut_out(moved, draws)


def _cut_out(faces: Tensor, draws: Draws) -> Tensor:
    """Fill one rectangle with the face's mean colour, on the faces with `draws.cut`."""
    n, _, height, width = faces.shape
    (side_y, side_x), (top, left) = draws.sides.split(1, dim=1), draws.corner.split(1, dim=1)
    y, x = torch.arange(height).view(1, -1), torch.arange(width).view(1, -1)
    rows, columns = (y >= top) & (y < top + side_y), (x >= left) & (x < left + side_x)
    hit = rows[:, None, :, None] & columns[:, None, None, :] & draws.cut.view(n, 1, 1, 1)  # (n, 1, H, W)
    return torch.where(hit.to(faces.device), faces.mean(dim=(2, 3), keepdim=True), faces)


def mix(faces: Tensor, targets: list[Tensor], alpha: float, rng: torch.Generator) -> tuple[Tensor, list[Tensor]]:
    """Mix a batch with a shuffled copy of itself, by mixup or cutmix (half each).

    The targets (B, …) are mixed in the same proportion."""
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
