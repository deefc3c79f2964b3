"""Reads a face off the image tower's feature grid: action units with sides, emotions, landmarks, pose, and how unlike
the training faces it looks.

Everything is a linear map of the same numbers, the pooled grid and the face head's last layer; so a read-out can be
fitted in seconds on a trained network.
"""

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from emoreason.models.face_head import BLENDSHAPES, POINTS, FaceHead, FaceMeasures

KNOTS = (0.1, 0.2, 0.4, 0.85)  # intensities at which a unit is no longer absent, present, sure enough to name, strong


@dataclass(frozen=True)
class FaceFeatures:
    """What is read off B crops."""

    emotions: np.ndarray  # (B, 8) logits, in the order of knowledge.words.EMOTIONS
    sides: np.ndarray  # (B, S) intensity on the person's left minus that on the right, for the sided units
    points: np.ndarray  # (B, 478, 2) landmarks in the crop: -1 is the left or upper border, 1 the right or lower one
    blendshapes: np.ndarray  # (B, 52) 0..1
    pose: np.ndarray  # (B, 3) yaw, pitch, roll in degrees
    seen: np.ndarray  # (B, 3) probability of an upright face, of visible eyes, of a visible mouth
    shift: np.ndarray  # (B,) distance from the training faces; 1 is a distance that 5 % of clean faces exceed

    @classmethod
    def concatenate(cls, parts: "list[FaceFeatures]") -> "FaceFeatures":
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


class FaceReadout(nn.Module):
    """Feature grids of a batch, and of its mirror image if the model uses it -> units and FaceFeatures as tensors."""

    mirror: Tensor
    knots: Tensor
    shift_mean: Tensor
    shift_whiten: Tensor

    def __init__(self, channels: int, units: int, sides: int, shift_rank: int, hidden: int = 256):
        super().__init__()
        width = channels + hidden
        self.face = FaceHead(channels, hidden=hidden)
        self.units = nn.Linear(width, units)
        self.sides = nn.Linear(width, sides, bias=False)
        self.emotions = nn.Linear(width, 8)
        self.register_buffer("mirror", torch.arange(POINTS))  # the point that takes each point's place in a mirror
        self.register_buffer("knots", torch.tensor([[0.1, 0.5, 0.7, 0.9]] * units))  # the probabilities at KNOTS
        self.register_buffer("shift_mean", torch.zeros(width))
        self.register_buffer("shift_whiten", torch.zeros(width, shift_rank))
        swapped = [name.replace("Left", "?").replace("Right", "Left").replace("?", "Right") for name in BLENDSHAPES]
        self.swapped = [BLENDSHAPES.index(name) for name in swapped]

    def forward(self, grids: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """One grid, or that of the picture and that of its mirror image -> (B, U) intensities, FaceFeatures' fields."""
        views = [self.face(grid) for grid in grids]
        inputs = [self.inputs(grid, view) for grid, view in zip(grids, views, strict=True)]
        mean, odd = inputs[0], torch.zeros_like(inputs[0])
        first = views[0]
        points, shapes, pose, seen = first.points, first.blendshapes, first.pose, first.seen
        if len(views) == 2:
            mean, odd = (inputs[0] + inputs[1]) / 2, (inputs[0] - inputs[1]) / 2
            other = views[1]
            points = (points + other.points[:, self.mirror] * points.new_tensor([-1.0, 1.0])) / 2
            shapes = (shapes + other.blendshapes[:, self.swapped]) / 2
            pose = (pose + other.pose * pose.new_tensor([-1.0, 1.0, -1.0])) / 2
            seen = (seen + other.seen) / 2
        distance = ((mean - self.shift_mean) @ self.shift_whiten).square().mean(dim=1).sqrt()
        return scaled(self.units(mean).sigmoid(), self.knots), {
            "emotions": self.emotions(mean),
            "sides": self.sides(odd),
            "points": points,
            "blendshapes": shapes.sigmoid(),
            "pose": pose,
            "seen": seen.sigmoid(),
            "shift": distance,
        }

    @staticmethod
    def inputs(grid: Tensor, view: FaceMeasures) -> Tensor:
        """(B, C + H) what every read-out sees."""
        return torch.cat([grid.float().mean(dim=(2, 3)), view.hidden], dim=1)


def scaled(probability: Tensor, knots: Tensor) -> Tensor:
    """(B, U) probabilities -> intensities, piecewise linear through KNOTS at each unit's own four probabilities."""
    starts = [torch.zeros_like(knots[:, 0]), *knots.unbind(1)]
    ends = [*knots.unbind(1), torch.ones_like(knots[:, 0])]
    total = torch.zeros_like(probability)
    for start, end, (low, high) in zip(starts, ends, pairwise((0.0, *KNOTS, 1.0)), strict=True):
        total = total + (high - low) * ((probability - start) / (end - start)).clamp(0.0, 1.0)
    return total
