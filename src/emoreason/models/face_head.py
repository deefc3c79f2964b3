"""The mini's face head: landmarks, blendshapes, head pose and visibility from the image tower's feature grid.

A blendshape is one facial movement on 0..1, such as mouthSmileLeft; names and order are those of MediaPipe's Face
Landmarker, the teacher. Left and right are the person's own.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoreason.core.types import POSE

_SIDED = ("browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp",
          "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress", "mouthSmile",
          "mouthStretch", "mouthUpperUp", "noseSneer")  # fmt: skip
_WHOLE = ("_neutral", "browInnerUp", "cheekPuff", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose",
          "mouthFunnel", "mouthLeft", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper",
          "mouthShrugLower", "mouthShrugUpper")  # fmt: skip
BLENDSHAPES = tuple(sorted((*_WHOLE, *(f"{name}{side}" for name in _SIDED for side in ("Left", "Right")))))
SEEN = (
    "face",
    "eyes",
    "mouth",
)  # probability that the crop is an upright face, and that its eyes and mouth are visible
POINTS = 478
DEGREES = 30.0  # one unit of the pose outputs


@dataclass
class FaceMeasures:
    """What the face head measures on B crops."""

    hidden: Tensor  # (B, H) its last layer, which the action units are read from
    points: Tensor  # (B, 478, 2) in the crop: -1 is the left or upper border, 1 the right or lower one
    blendshapes: Tensor  # (B, 52) logits
    pose: Tensor  # (B, 3) degrees
    seen: Tensor  # (B, 3) logits


class FaceHead(nn.Module):
    """Feature grid (B, C, h, w) -> FaceMeasures. The points are a mean face plus `modes` linear modes of variation."""

    mean: Tensor
    basis: Tensor

    def __init__(self, channels: int = 256, cells: int = 36, hidden: int = 256, modes: int = 64):
        super().__init__()
        self.reduce = nn.Conv2d(channels, 32, 1)
        self.hidden = nn.Linear(32 * cells + channels, hidden)
        self.modes = nn.Linear(hidden, modes)
        self.blendshapes = nn.Linear(hidden, len(BLENDSHAPES))
        self.pose = nn.Linear(hidden, len(POSE))
        self.seen = nn.Linear(hidden, len(SEEN))
        self.register_buffer("mean", torch.zeros(POINTS * 2))
        self.register_buffer("basis", torch.zeros(modes, POINTS * 2))

    def forward(self, grid: Tensor) -> FaceMeasures:
        local = F.relu(self.reduce(grid)).flatten(1)
        hidden = F.relu(self.hidden(torch.cat([local, grid.mean(dim=(2, 3))], dim=1)))
        points = self.mean + self.modes(hidden).float() @ self.basis
        return FaceMeasures(
            hidden.float(),
            points.unflatten(1, (POINTS, 2)),
            self.blendshapes(hidden).float(),
            self.pose(hidden).float() * DEGREES,
            self.seen(hidden).float(),
        )
