"""What a training minimises. Some doubt the labels (SCN, EAC, RUL), one needs few of them (Ada-CM).

An objective looks at faces through `see`, as often as it wants, and answers with one loss a face; a term of the whole
batch is spread evenly. What changes during training lives in buffers, so that a checkpoint keeps it. Random draws come
from torch's global generator. The papers' ideas, adapted to soft targets; docs/noise.md says what they are worth.
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

    pass

NAMES = ("ce", "symmetric", "generalised", "scn", "eac", "rul", "ada-cm")
See = Callable[[Tensor], "TowerOutput"]


@dataclass(frozen=True)
class FaceBatch:
    faces: Tensor  # (B, C, S, S) augmented and normalised; (B, D) features where the encoder is frozen
    target: Tensor  # (B, L), rows that sum to 1, or all zero where the face has no label
    rows: Tensor  # (B,) its number in the training part
    again: Callable[[], Tensor]  # the same faces under another, stronger augmentation


class Objective(nn.Module):
    """A loss of logits and targets, weighted by label; the others go on from here."""

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

    def forward(self, see: See, batch: FaceBatch) -> Tensor:
        return self.loss(see(batch.faces).logits, batch.target)

    def judged(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B,) what chooses the epoch, on held-out faces whose labels are as noisy as the others. Some losses make
        answers sharper than such labels are; a wrong one must not outweigh all others then: a bounded loss judges."""
        if self.settings.name in ("symmetric", "generalised", "scn"):
            return losses.generalised_cross_entropy(logits, target, self.settings.q)
        return losses.soft_cross_entropy(logits, target)

    def epoch(self, number: int) -> None:
        """Called before each epoch, 1 the first."""


class SelfCure(Objective):
    """SCN (Wang et al. 2020): faces are weighed by a learned importance, the less important share is held below the
    rest, and a label is exchanged where the model is surer of another by a margin."""

    answers: Tensor  # (n, L) what the model said of each face in the epoch so far
    relabeled: Tensor  # (n,) another label, or -1
    given: Tensor  # (n,) the label with the most votes
    MORE_IMPORTANT, RANK_MARGIN = 0.7, 0.15

    def __init__(self, settings: "LossSettings", targets: Tensor, width: int):
        super().__init__(settings, targets)
        self.importance = nn.Linear(width, 1)
        self.register_buffer("answers", torch.zeros_like(targets))
        self.register_buffer("relabeled", torch.full((len(targets),), -1))
        self.register_buffer("given", targets.argmax(dim=1), persistent=False)

    def forward(self, see: See, batch: FaceBatch) -> Tensor:
        seen = see(batch.faces)
        known = batch.target.sum(dim=1) > 0
        self.answers[batch.rows] = seen.logits.detach().softmax(dim=1).to(self.answers) * known[:, None]
        importance = self.importance(seen.pooled).sigmoid()  # (B, 1)
        other = self.relabeled[batch.rows]
        one_hot = F.one_hot(other.clamp(min=0), batch.target.shape[1]).to(batch.target)
        target = torch.where((other >= 0)[:, None], one_hot, batch.target)
        return self.loss(seen.logits * importance, target) + self.ranked(importance[:, 0])

    def ranked(self, importance: Tensor) -> Tensor:
        """How far the two groups are from being a margin apart."""
        ordered = importance.sort(descending=True).values
        cut = round(self.MORE_IMPORTANT * len(ordered))
        if not 0 < cut < len(ordered):
            return importance.sum() * 0
        return F.relu(self.RANK_MARGIN - (ordered[:cut].mean() - ordered[cut:].mean()))

    def epoch(self, number: int) -> None:
        answers = _of_all_processes(self.answers)
        if number > self.settings.warmup:
            best = answers.max(dim=1)
            surer = best.values - answers.gather(1, self.given[:, None])[:, 0] > self.settings.margin
            self.relabeled = torch.where(surer, best.indices, -1)
        self.answers.zero_()


class Consistent(Objective):
    """EAC (Zhang et al. 2022): what speaks for each label must lie at the same place in the mirrored face. A noisy
    label is learned from a detail; erasing a rectangle and asking for the whole map makes details useless."""

    def __init__(self, settings: "LossSettings", targets: Tensor, width: int):
        super().__init__(settings, targets)
        self.maps = nn.Linear(width, targets.shape[1])

    def forward(self, see: See, batch: FaceBatch) -> Tensor:
        faces = erase(batch.faces)
        both = see(torch.cat([faces, faces.flip(3)]))
        if both.grid is None:
            raise UsageError("--loss.name eac needs an encoder with a grid of features: ce, symmetric or rul do not")
        n = len(faces)
        grid = both.grid.float()
        maps = torch.einsum("bchw,lc->blhw", grid, self.maps.weight)
        apart = (maps[:n] - maps[n:].flip(3)).square().mean(dim=(1, 2, 3))
        own = self.loss(self.maps(grid[:n].mean(dim=(2, 3))), batch.target)
        return self.loss(both.logits[:n], batch.target) + own + self.settings.consistency * apart


class Relative(Objective):
    """RUL (Zhang et al. 2021): two faces are mixed in the proportion of their learned uncertainties and must still show
    both labels, which makes the harder face of the two the more uncertain. Logits are linear in the embedding, so that
    mixing them mixes the embeddings."""

    def __init__(self, settings: "LossSettings", targets: Tensor, width: int):
        super().__init__(settings, targets)
        hidden = max(8, width // 4)
        self.uncertainty = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Softplus())

    def forward(self, see: See, batch: FaceBatch) -> Tensor:
        seen = see(batch.faces)
        uncertainty = self.uncertainty(seen.pooled) + 1e-6  # (B, 1)
        other = torch.randperm(len(seen.logits)).to(seen.logits.device)
        share = uncertainty / (uncertainty + uncertainty[other])
        mixed = share * seen.logits + (1 - share) * seen.logits[other]
        return self.loss(mixed, batch.target) + self.loss(mixed, batch.target[other])


class AdaptiveMargin(Objective):
    """Ada-CM (Li et al. 2022), for data of which few faces have a label. Where the model is sure of an unlabeled face
    and of its mirror image, its answer is the target for a stronger augmentation; where it is not, the two answers have
    to agree. How sure is enough follows, label by label, the confidence on the labeled faces that it gets right."""

    enough: Tensor  # (L,) the margins
    confidence: Tensor  # (L,) sum over the labeled faces answered rightly in this epoch
    right: Tensor  # (L,) how many they were
    FIRST, CEILING, AGREEING = 0.8, 0.97, 0.1

    def __init__(self, settings: "LossSettings", targets: Tensor):
        super().__init__(settings, targets)
        self.share = float((targets.sum(dim=1) > 0).float().mean())
        self.register_buffer("enough", torch.full(targets.shape[1:], self.FIRST))
        self.register_buffer("confidence", torch.zeros(targets.shape[1]))
        self.register_buffer("right", torch.zeros(targets.shape[1]))

    def forward(self, see: See, batch: FaceBatch) -> Tensor:
        known = batch.target.sum(dim=1) > 0
        unknown = batch.faces[~known]
        n, m = len(known), len(unknown)
        views = [batch.faces, unknown.flip(3), batch.again()[~known]] if m else [batch.faces]
        logits, mirrored, stronger = see(torch.cat(views)).logits.float().split([n, m, m] if m else [n, 0, 0])
        self._watch(logits[known].detach(), batch.target[known])
        # Each kind of face has the weight of a batch of its own, however few of them there are.
        result = self.loss(logits, batch.target) / max(self.share, 1e-6)
        if m:
            result = result.masked_scatter(
                ~known, self.unlabeled(logits[~known], mirrored, stronger) / (1 - self.share)
            )
        return result

    def unlabeled(self, logits: Tensor, mirrored: Tensor, stronger: Tensor) -> Tensor:
        """(m, L) of a face, its mirror image and its stronger augmentation -> (m,)"""
        one, two = F.log_softmax(logits, dim=1), F.log_softmax(mirrored, dim=1)
        confidence, answer = ((one.exp() + two.exp()) / 2).detach().max(dim=1)
        taught = F.cross_entropy(stronger, answer, reduction="none")
        apart = ((one.exp() - two.exp()) * (one - two)).sum(dim=1) / 2  # KL in both directions
        return torch.where(confidence >= self.enough[answer], taught, self.AGREEING * apart)

    def _watch(self, logits: Tensor, target: Tensor) -> None:
        confidence, answer = logits.softmax(dim=1).max(dim=1)
        right = answer == target.argmax(dim=1)
        self.confidence.index_add_(0, answer[right], confidence[right])
        self.right.index_add_(0, answer[right], torch.ones_like(confidence[right]))

    def epoch(self, number: int) -> None:
        confidence, right = _of_all_processes(self.confidence), _of_all_processes(self.right)
        if number > self.settings.warmup:
            ramp = self.CEILING / (1 + math.exp(-(number - 1)))
            self.enough = torch.where(right > 0, ramp * confidence / right.clamp(min=1), self.enough)
        self.confidence.zero_()
        self.right.zero_()


def make_objective(settings: "LossSettings", targets: Tensor, width: int) -> Objective:
    """targets: (n, L) of the training part; width: F of the pooled features (C of the grid)."""
    if settings.name in ("ce", "symmetric", "generalised"):
        return Objective(settings, targets)
    if settings.name == "ada-cm":
        return AdaptiveMargin(settings, targets)
    doubting = {"scn": SelfCure, "eac": Consistent, "rul": Relative}
    if settings.name not in doubting:
        raise UsageError(f"loss.name {settings.name!r}: one of {', '.join(NAMES)} was expected")
    return doubting[settings.name](settings, targets, width)


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


def _of_all_processes(rows: Tensor) -> Tensor:
    """Each process filled the rows that it saw."""
    if dist.is_available() and dist.is_initialized():
        rows = rows.clone()
        dist.all_reduce(rows)
    return rows


class TowerOutput(NamedTuple):
    grid: Tensor | None  # (B, C, h, w) before pooling, where the tower has one
    pooled: Tensor  # (B, F)
    embedding: Tensor  # (B, D) unit length
    logits: Tensor  # (B, L)
