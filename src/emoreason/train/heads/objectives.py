"""Training objectives: plain losses, losses for noisy labels (SCN, EAC, RUL), and one for few labels (Ada-CM).

An objective calls `model` on faces as often as it needs and returns one loss per face; a term of the whole batch is
spread evenly over its faces. State that changes during training is kept in buffers, so checkpoints include it. Random
numbers come from torch's global generator. The ideas are those of the papers, adapted to soft targets; docs/noise.md
compares them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from emoreason.core.errors import UsageError
from emoreason.train.heads import losses

if TYPE_CHECKING:
    from emoreason.train.finetune_config import LossSettings

NAMES = ("ce", "symmetric", "generalised", "scn", "eac", "rul", "ada-cm")
Model = Callable[[Tensor], "TowerOutput"]


@dataclass(frozen=True)
class FaceBatch:
    faces: Tensor  # (B, C, S, S) augmented and normalised; (B, D) features where the encoder is frozen
    target: Tensor  # (B, L), rows that sum to 1, or all zero where the face has no label
    rows: Tensor  # (B,) row numbers in the training part
    again: Callable[[], Tensor]  # the same faces with another, stronger augmentation


class Objective(nn.Module):
    """A loss of logits and targets, weighted by label. Base class of the other objectives."""

    weight: Tensor  # (L,)

    def __init__(self, settings: "LossSettings", targets: Tensor):
        super().__init__()
        self.settings = settings
        counts = targets.sum(dim=0)
        self.register_buffer("weight", losses.class_weights(counts, settings.class_balance), persistent=False)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B,), 0 for faces without a label."""
        if self.settings.name == "symmetric":
            plain = losses.symmetric_cross_entropy(logits, target, self.settings.alpha, self.settings.beta)
        elif self.settings.name == "generalised":
            plain = losses.generalised_cross_entropy(logits, target, self.settings.q)
        else:
            plain = losses.soft_cross_entropy(logits, target)
        known = target.sum(dim=1) > 0
        return torch.where(known, plain * (target @ self.weight) if self.settings.class_balance else plain, 0.0)

    def forward(self, model: Model, batch: FaceBatch) -> Tensor:
        return self.loss(model(batch.faces).logits, batch.target)

    def validation_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B,) the loss on held-out faces that chooses the epoch.

        Their labels are as noisy as the training labels, and some objectives make answers sharper than the labels are.
        For these it is a bounded loss, so that one wrong label cannot outweigh all others."""
        if self.settings.name in ("symmetric", "generalised", "scn"):
            return losses.generalised_cross_entropy(logits, target, self.settings.q)
        return losses.soft_cross_entropy(logits, target)

    def epoch(self, number: int) -> None:
        """Called before each epoch; the first is 1."""


class SelfCure(Objective):
    """SCN (Wang et al. 2020): weights faces by a learned importance, keeps the less important ones below the rest by a
    margin, and replaces a label if another one is more probable by a margin."""

    answers: Tensor  # (n, L) the model's probabilities for each face in this epoch
    relabeled: Tensor  # (n,) the new label, or -1
    given: Tensor  # (n,) the label with the most votes
    MORE_IMPORTANT, RANK_MARGIN = 0.7, 0.15

    def __init__(self, settings: "LossSettings", targets: Tensor, width: int):
        super().__init__(settings, targets)
        self.importance = nn.Linear(width, 1)
        self.register_buffer("answers", torch.zeros_like(targets))
        self.register_buffer("relabeled", torch.full((len(targets),), -1))
        self.register_buffer("given", targets.argmax(dim=1), persistent=False)

    def forward(self, model: Model, batch: FaceBatch) -> Tensor:
        output = model(batch.faces)
        known = batch.target.sum(dim=1) > 0
        self.answers[batch.rows] = output.logits.detach().softmax(dim=1).to(self.answers) * known[:, None]
        importance = self.importance(output.pooled).sigmoid()  # (B, 1)
        new_label = self.relabeled[batch.rows]
        one_hot = F.one_hot(new_label.clamp(min=0), batch.target.shape[1]).to(batch.target)
        target = torch.where((new_label >= 0)[:, None], one_hot, batch.target)
        return self.loss(output.logits * importance, target) + self.ranking_loss(importance[:, 0])

    def ranking_loss(self, importance: Tensor) -> Tensor:
        """How much the margin between the two importance groups is missed by."""
        ordered = importance.sort(descending=True).values
        cut = round(self.MORE_IMPORTANT * len(ordered))
        if not 0 < cut < len(ordered):
            return importance.sum() * 0
        return F.relu(self.RANK_MARGIN - (ordered[:cut].mean() - ordered[cut:].mean()))

    def epoch(self, number: int) -> None:
        answers = _sum_over_processes(self.answers)
        if number > self.settings.warmup:
            best = answers.max(dim=1)
            replace = best.values - answers.gather(1, self.given[:, None])[:, 0] > self.settings.margin
            self.relabeled = torch.where(replace, best.indices, -1)
        self.answers.zero_()


class Consistent(Objective):
    """EAC (Zhang et al. 2022): the map of evidence for each label must be the same in the mirrored face.

    A network learns a noisy label from a detail of the face. Erasing a rectangle and comparing whole maps makes details
    useless."""

    def __init__(self, settings: "LossSettings", targets: Tensor, width: int):
        super().__init__(settings, targets)
        self.maps = nn.Linear(width, targets.shape[1])

    def forward(self, model: Model, batch: FaceBatch) -> Tensor:
        faces = erase(batch.faces)
        output = model(torch.cat([faces, faces.flip(3)]))
        if output.grid is None:
            raise UsageError(
                "--loss.name eac needs an encoder with a grid of features; ce, symmetric and rul work without one"
            )
        n = len(faces)
        grid = output.grid.float()
        maps = torch.einsum("bchw,lc->blhw", grid, self.maps.weight)
        disagreement = (maps[:n] - maps[n:].flip(3)).square().mean(dim=(1, 2, 3))
        map_loss = self.loss(self.maps(grid[:n].mean(dim=(2, 3))), batch.target)
        return self.loss(output.logits[:n], batch.target) + map_loss + self.settings.consistency * disagreement


class Relative(Objective):
    """RUL (Zhang et al. 2021): mixes two faces in proportion to their learned uncertainties, and both labels must still
    be recognisable. So the harder face of the two becomes the more uncertain one.

    Logits are linear in the embedding, so mixing logits mixes embeddings."""

    def __init__(self, settings: "LossSettings", targets: Tensor, width: int):
        super().__init__(settings, targets)
        hidden = max(8, width // 4)
        self.uncertainty = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Softplus())

    def forward(self, model: Model, batch: FaceBatch) -> Tensor:
        output = model(batch.faces)
        uncertainty = self.uncertainty(output.pooled) + 1e-6  # (B, 1)
        other = torch.randperm(len(output.logits)).to(output.logits.device)
        share = uncertainty / (uncertainty + uncertainty[other])
        mixed = share * output.logits + (1 - share) * output.logits[other]
        return self.loss(mixed, batch.target) + self.loss(mixed, batch.target[other])


class AdaptiveMargin(Objective):
    """Ada-CM (Li et al. 2022), for data with few labeled faces.

    If the model is sure of an unlabeled face and its mirror image, its answer is the target for a stronger
    augmentation; otherwise the two answers have to agree. The required confidence adapts for each label to the
    confidence on correctly answered labeled faces."""

    enough: Tensor  # (L,) the required confidence for each label
    confidence: Tensor  # (L,) summed over the labeled faces answered correctly in this epoch
    right: Tensor  # (L,) the number of these faces
    FIRST, CEILING, AGREEING = 0.8, 0.97, 0.1

    def __init__(self, settings: "LossSettings", targets: Tensor):
        super().__init__(settings, targets)
        self.share = float((targets.sum(dim=1) > 0).float().mean())
        self.register_buffer("enough", torch.full(targets.shape[1:], self.FIRST))
        self.register_buffer("confidence", torch.zeros(targets.shape[1]))
        self.register_buffer("right", torch.zeros(targets.shape[1]))

    def forward(self, model: Model, batch: FaceBatch) -> Tensor:
        known = batch.target.sum(dim=1) > 0
        unknown = batch.faces[~known]
        n, m = len(known), len(unknown)
        views = [batch.faces, unknown.flip(3), batch.again()[~known]] if m else [batch.faces]
        logits, mirrored, stronger = model(torch.cat(views)).logits.float().split([n, m, m] if m else [n, 0, 0])
        self._track(logits[known].detach(), batch.target[known])
        # Labeled and unlabeled faces each have the weight of a whole batch, however few they are.
        result = self.loss(logits, batch.target) / max(self.share, 1e-6)
        if m:
            result = result.masked_scatter(
                ~known, self.unlabeled_loss(logits[~known], mirrored, stronger) / (1 - self.share)
            )
        return result

    def unlabeled_loss(self, logits: Tensor, mirrored: Tensor, stronger: Tensor) -> Tensor:
        """Logits (m, L) of a face, its mirror image and its stronger augmentation -> (m,)"""
        log_p, log_p_mirrored = F.log_softmax(logits, dim=1), F.log_softmax(mirrored, dim=1)
        confidence, answer = ((log_p.exp() + log_p_mirrored.exp()) / 2).detach().max(dim=1)
        pseudo_label_loss = F.cross_entropy(stronger, answer, reduction="none")
        disagreement = ((log_p.exp() - log_p_mirrored.exp()) * (log_p - log_p_mirrored)).sum(
            dim=1
        ) / 2  # KL in both directions
        return torch.where(confidence >= self.enough[answer], pseudo_label_loss, self.AGREEING * disagreement)

    def _track(self, logits: Tensor, target: Tensor) -> None:
        confidence, answer = logits.softmax(dim=1).max(dim=1)
        right = answer == target.argmax(dim=1)
        self.confidence.index_add_(0, answer[right], confidence[right])
        self.right.index_add_(0, answer[right], torch.ones_like(confidence[right]))

    def epoch(self, number: int) -> None:
        confidence, right = _sum_over_processes(self.confidence), _sum_over_processes(self.right)
        if number > self.settings.warmup:
            ramp = self.CEILING / (1 + math.exp(-(number - 1)))
            self.enough = torch.where(right > 0, ramp * confidence / right.clamp(min=1), self.enough)
        self.confidence.zero_()
        self.right.zero_()


def make_objective(settings: "LossSettings", targets: Tensor, width: int) -> Objective:
    """The objective by name. targets: (n, L) of the training part; width: F of the pooled features (C of the grid)."""
    if settings.name in ("ce", "symmetric", "generalised"):
        return Objective(settings, targets)
    if settings.name == "ada-cm":
        return AdaptiveMargin(settings, targets)
    by_name = {"scn": SelfCure, "eac": Consistent, "rul": Relative}
    if settings.name not in by_name:
        raise UsageError(f"loss.name {settings.name!r}: one of {', '.join(NAMES)} was expected")
    return by_name[settings.name](settings, targets, width)


def erase(faces: Tensor) -> Tensor:
    """(B, C, S, S) with one rectangle of each face set to 0, a fiftieth to a quarter of its area."""
    n, _, height, width = faces.shape
    share, tall = torch.empty(n).uniform_(0.02, 0.25), torch.empty(n).uniform_(0.5, 2.0)
    tops, lefts = torch.rand(n), torch.rand(n)
    high, wide = (share * tall).sqrt().clamp(max=1), (share / tall).sqrt().clamp(max=1)
    y, x = (torch.arange(size) / size for size in (height, width))
    top, left = (tops * (1 - high))[:, None], (lefts * (1 - wide))[:, None]
    rows = (y >= top) & (y < top + high[:, None])  # (B, S)
    columns = (x >= left) & (x < left + wide[:, None])
    hit = (rows[:, None, :, None] & columns[:, None, None, :]).to(faces.device)
    return faces.masked_fill(hit, 0.0)


def _sum_over_processes(rows: Tensor) -> Tensor:
    """Add up what the processes collected; each has filled only its own rows."""
    if dist.is_available() and dist.is_initialized():
        rows = rows.clone()
        dist.all_reduce(rows)
    return rows


class TowerOutput(NamedTuple):
    grid: Tensor | None  # (B, C, h, w) before pooling; None if the tower has no grid
    pooled: Tensor  # (B, F)
    embedding: Tensor  # (B, D) unit length
    logits: Tensor  # (B, L)
