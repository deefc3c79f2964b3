"""What happens to pictures of faces, as tensor operations on a batch: the student sees it, the teacher did not.

Faces are (B, 1, H, W) floats in 0..1. Every function draws for each face on its own.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

COVERED = 0.5  # an area counts as hidden from this share on
SHARE = 0.12  # of the faces, for each kind of corruption
ANY = 0.65  # of the faces may be corrupted at all


def corrupt(faces: Tensor, rng: torch.Generator) -> Tensor:
    """Blur, motion, fewer pixels, noise, darkness, brightness, low contrast and JPEG, each on some of the faces."""
    n, may = len(faces), torch.rand(len(faces), generator=rng) < ANY
    for change in (_blur, _motion, _fewer_pixels, _light, _contrast, _noise, _jpeg):
        rows = (may & (torch.rand(n, generator=rng) < SHARE)).nonzero()[:, 0]
        if len(rows):
            faces[rows] = change(faces[rows], rng)
    return faces.clamp_(0, 1)


def _random(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, 1, 1, 1, generator=rng)


def _convolve(faces: Tensor, kernels: Tensor) -> Tensor:
    """(n, 1, H, W) with a kernel (k, k) for each face."""
    n, _, height, width = faces.shape
    k = kernels.shape[-1]
    padded = F.pad(faces, (k // 2,) * 4, mode="replicate").view(1, n, height + k - 1, width + k - 1)
    return F.conv2d(padded, kernels.view(n, 1, k, k), groups=n).view(n, 1, height, width)


def _blur(faces: Tensor, rng: torch.Generator) -> Tensor:
    sigma = _random(len(faces), 0.4, 2.4, rng)
    offset = torch.arange(-5, 6).float()
    square = (offset[:, None] ** 2 + offset[None] ** 2).view(1, 1, 11, 11)
    kernel = torch.exp(-square / (2 * sigma**2))
    return _convolve(faces, kernel / kernel.sum(dim=(2, 3), keepdim=True))


def _motion(faces: Tensor, rng: torch.Generator) -> Tensor:
    angle, length = _random(len(faces), 0, np.pi, rng), _random(len(faces), 1.5, 5, rng)
    offset = torch.arange(-5, 6).float()
    x, y = offset.view(1, 1, 1, 11), offset.view(1, 1, 11, 1)
    along, across = x * angle.cos() + y * angle.sin(), -x * angle.sin() + y * angle.cos()
    kernel = torch.sigmoid(4 * (length - along.abs())) * torch.exp(-(across**2) * 2)
    return _convolve(faces, kernel / kernel.sum(dim=(2, 3), keepdim=True))


def _fewer_pixels(faces: Tensor, rng: torch.Generator) -> Tensor:
    side = int(torch.randint(12, 37, (), generator=rng))
    small = F.interpolate(faces, size=(side, side), mode="bilinear", antialias=True)
    mode = "bicubic" if torch.rand((), generator=rng) < 0.7 else "nearest"
    return F.interpolate(small, size=faces.shape[2:], mode=mode)


def _light(faces: Tensor, rng: torch.Generator) -> Tensor:
    """Gamma and gain: from nearly black to burnt out, on some faces stronger on one side."""
    gamma, gain = 2 ** _random(len(faces), -1.3, 1.3, rng), 2 ** _random(len(faces), -2.5, 0.9, rng)
    slope = torch.linspace(-1, 1, faces.shape[3]) * _random(len(faces), -0.7, 0.7, rng)
    return (faces.clamp(0, 1) ** gamma * gain * (1 + slope)).clamp(0, 1)


def _contrast(faces: Tensor, rng: torch.Generator) -> Tensor:
    return (faces - 0.5) * _random(len(faces), 0.12, 0.7, rng) + _random(len(faces), 0.25, 0.75, rng)


def _noise(faces: Tensor, rng: torch.Generator) -> Tensor:
    return faces + torch.randn(faces.shape, generator=rng) * _random(len(faces), 0.02, 0.25, rng)


def _jpeg(faces: Tensor, rng: torch.Generator) -> Tensor:
    import cv2

    done = []
    for face in (faces.clamp(0, 1) * 255).byte().numpy()[:, 0]:
        quality = int(torch.randint(4, 50, (), generator=rng))
        encoded = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        done.append(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)))
    return torch.from_numpy(np.stack(done)).unsqueeze(1).float() / 255


def cover(faces: Tensor, eyes: Tensor, mouth: Tensor, share: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Hide part of some faces: a mask over the lower face, a band over the eyes, a patch, or an ellipse like a hand.

    `eyes` and `mouth` are boxes (B, 4) in pixels: left, top, right, bottom. Returns the faces and (B, 2) bool: whether
    eyes and mouth are still visible."""
    n, _, height, width = faces.shape
    kind = torch.randint(0, 5, (n,), generator=rng)
    kind[torch.rand(n, generator=rng) >= share] = -1
    u = torch.rand(n, 6, generator=rng)
    box = torch.zeros(n, 4)
    patch = kind >= 2  # a rectangle or an ellipse anywhere
    side = (0.1 + 0.4 * u[:, 0]).sqrt() * height
    stretch = 2 ** (u[:, 1] - 0.5)
    half = torch.stack([side * stretch, side / stretch], dim=1) / 2
    centre = torch.stack([u[:, 2] * width, (0.15 + 0.85 * u[:, 3]) * height], dim=1)
    box[patch] = torch.cat([centre - half, centre + half], dim=1)[patch]
    lower = kind == 0
    nose = eyes[:, 3] + (mouth[:, 1] - eyes[:, 3]) * u[:, 4] * 0.9
    box[lower] = torch.stack(
        [torch.zeros(n), nose, torch.full((n,), float(width)), torch.full((n,), float(height))], 1
    )[lower]
    band = kind == 1
    margin = (eyes[:, 3] - eyes[:, 1]) * (0.2 + 0.8 * u[:, 5])
    box[band] = torch.stack(
        [torch.zeros(n), eyes[:, 1] - margin, torch.full((n,), float(width)), eyes[:, 3] + margin], 1
    )[band]

    y, x = torch.arange(height).view(1, -1, 1) + 0.5, torch.arange(width).view(1, 1, -1) + 0.5
    left, top, right, bottom = (column.view(n, 1, 1) for column in box.unbind(1))
    inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    round_ = ((x - (left + right) / 2) / ((right - left) / 2).clamp(min=1)) ** 2 + (
        (y - (top + bottom) / 2) / ((bottom - top) / 2).clamp(min=1)
    ) ** 2 <= 1
    inside = torch.where(
        (kind >= 3).view(n, 1, 1), round_ & (kind >= 0).view(n, 1, 1), inside & (kind >= 0).view(n, 1, 1)
    )

    flat = torch.rand(n, 1, 1, 1, generator=rng).expand(n, 1, height, width)
    skin = faces.mean(dim=(2, 3), keepdim=True) * (0.7 + 0.6 * torch.rand(n, 1, 1, 1, generator=rng))
    fill = torch.where(torch.rand(n, 1, 1, 1, generator=rng) < 0.5, flat, skin)
    texture = F.interpolate(torch.randn(n, 1, 12, 12, generator=rng), size=(height, width), mode="bilinear")
    fill = fill + texture * 0.12 * torch.rand(n, 1, 1, 1, generator=rng)
    covered = torch.where(inside.unsqueeze(1), fill.clamp(0, 1), faces)

    def visible(area: Tensor) -> Tensor:
        x0, y0, x1, y1 = (column.view(n, 1, 1) for column in area.unbind(1))
        region = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
        return (region & inside).sum(dim=(1, 2)) < COVERED * region.sum(dim=(1, 2)).clamp(min=1)

    return covered, torch.stack([visible(eyes), visible(mouth)], dim=1)
