"""The mini's image tower: a squeeze-and-excitation ResNet for 48x48 faces.

2.8 M parameters, 227 M multiply-adds per face. The first block halves the resolution, because on a CPU the
full-resolution first stage of an ordinary ResNet causes more memory traffic than all later stages together.

Needs torch alone, so that the mini starts fast: timm, torchvision and open_clip take seconds to import. `register`
tells timm about it, which open_clip builds it with for training.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, what Pillow's "L" uses


class SqueezeExcite(nn.Module):
    """Weighs the channels of a picture by what it shows. timm's SEModule, with the same names of weights."""

    def __init__(self, channels: int, reduced: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, reduced, 1)
        self.fc2 = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * weights.sigmoid()


class DropPath(nn.Module):
    """In training, leaves a block out for a random part of the pictures. The same as timm's."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.rate or not self.training:
            return x
        keep = 1 - self.rate
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(keep).div_(keep)


class Block(nn.Module):
    """Two 3x3 convolutions, squeeze-and-excitation, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, drop_path: float):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.se = SqueezeExcite(outputs, max(8, (outputs // 8 + 4) // 8 * 8))
        self.drop_path = DropPath(drop_path)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.se(self.bn2(self.conv2(y)))
        return torch.relu(self.drop_path(y) + self.shortcut(x))


class FaceNet(nn.Module):
    """(B, 3, 48, 48) colour or (B, 1, 48, 48) grey -> (B, num_features).

    Colour is converted to luma, because the model was trained on grey faces."""

    luma: Tensor

    def __init__(
        self, widths=(64, 128, 256), depths=(2, 2, 2), stem: int = 32, drop_path_rate: float = 0.0, in_chans: int = 3
    ):
        super().__init__()
        self.num_features = widths[-1]
        self.default_cfg = {"pool_size": (6, 6), "input_size": (in_chans, 48, 48)}
        self.register_buffer("luma", torch.tensor(LUMA).view(1, 3, 1, 1), persistent=False)
        self.stem = nn.Sequential(nn.Conv2d(1, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
        rates = torch.linspace(0, drop_path_rate, sum(depths)).tolist()
        blocks: list[Block] = []
        inputs = stem
        for width, depth in zip(widths, depths, strict=True):
            for i in range(depth):
                blocks.append(Block(inputs, width, stride=2 if i == 0 else 1, drop_path=rates[len(blocks)]))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.checkpointing = False
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        if num_classes or global_pool != "avg":
            raise ValueError(f"FaceNet gives only pooled features, not num_classes={num_classes}, pool={global_pool!r}")

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass instead of storing activations: less memory, a third more time."""
        self.checkpointing = enable

    def forward_features(self, x: Tensor) -> Tensor:
        """-> (B, num_features, 6, 6), the input of the explainer's projector."""
        if x.shape[1] == 3:
            x = (x * self.luma).sum(dim=1, keepdim=True)
        x = self.stem(x)
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint_sequential(self.blocks, len(self.blocks), x, use_reentrant=False)
        return self.blocks(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_features(x).mean(dim=(2, 3))


class FaceTower(nn.Module):
    """FaceNet with a linear map into the joint space: what open_clip's TimmModel is, with the same names of weights."""

    preprocess_cfg: dict[str, Any]

    def __init__(self, width: int, drop: float = 0.0, drop_path: float = 0.0):
        super().__init__()
        self.trunk = FaceNet(drop_path_rate=drop_path)
        projection = nn.Linear(self.trunk.num_features, width, bias=False)
        self.head = nn.Sequential(OrderedDict(drop=nn.Dropout(drop), proj=projection))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.trunk.set_grad_checkpointing(enable)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


def emoreason_facenet(pretrained: bool = False, **kwargs) -> FaceNet:
    if pretrained:
        raise ValueError("emoreason_facenet has no weights in timm: use load('mini')")
    for unused in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        kwargs.pop(unused, None)
    return FaceNet(**kwargs)


def register() -> None:
    """Make the tower known to timm."""
    from timm.models import register_model

    register_model(emoreason_facenet)
