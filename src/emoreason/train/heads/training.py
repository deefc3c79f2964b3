"""Trains the label head, starting from the embeddings of the label words, which are the zero-shot model."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.train.finetune_config import HeadTraining, LossSettings
from emoreason.train.heads.objectives import NAMES, FaceBatch, Objective, TowerOutput, make_objective

OF_FEATURES = ("ce", "symmetric", "generalised", "scn", "rul")  # the other objectives need pictures


@dataclass(frozen=True)
class HeadData:
    """Features and targets of n faces."""

    features: np.ndarray  # (n, D)
    targets: np.ndarray  # (n, L), rows that sum to 1

    def __len__(self) -> int:
        return len(self.features)

    @property
    def prior(self) -> np.ndarray:
        """(L,) the frequency of each label."""
        return self.targets.mean(axis=0)


@dataclass(frozen=True)
class TrainedHead:
    weight: np.ndarray  # (L, D) with the logit scale in it
    bias: np.ndarray  # (L,)
    epoch: int  # the epoch whose weights were kept; 0 is the zero-shot model
    log: list[dict[str, float]]

    def logits(self, features: np.ndarray) -> np.ndarray:
        return features @ self.weight.T + self.bias


@torch.random.fork_rng(devices=[])
def train_head(
    prototypes: np.ndarray,
    scale: float,
    train: HeadData,
    holdout: HeadData | None,
    config: HeadTraining,
    seed: int,
    progress: Callable[[int], None] = lambda n: None,
    loss: LossSettings = LossSettings(),
    watch: Callable[[np.ndarray], None] = lambda logits: None,
) -> TrainedHead:
    """Train a linear head on features and keep the epoch with the best held-out loss, or the last one without holdout.

    prototypes: (L, D) unit-length text embeddings of the labels; scale: CLIP's logit scale; watch: called with the
    held-out logits (n, L) of every epoch. The head learns a difference from the prototypes, and AdamW's weight decay
    pulls this difference towards zero.

    It has its own loop instead of train/loop.py: the features fit into memory and 300 epochs take seconds, so it needs
    no checkpoints, micro-batches or processes."""
    start, shift = torch.from_numpy(prototypes).float(), torch.zeros(prototypes.shape, requires_grad=True)
    bias, stretch = torch.zeros(len(prototypes), requires_grad=True), torch.zeros((), requires_grad=True)
    x, t = (torch.from_numpy(a).float() for a in (train.features, train.targets))
    torch.manual_seed(seed)  # for the objective's own weights and random draws
    objective = _objective(loss, t, x.shape[1])
    groups = [{"params": [shift], "weight_decay": config.weight_decay}, {"params": [bias, stretch], "weight_decay": 0}]
    if own := list(objective.parameters()):
        groups.append({"params": own, "weight_decay": 0})
    optimizer = torch.optim.AdamW(groups, lr=config.lr)
    prior = torch.from_numpy(np.log(np.maximum(train.prior, 1e-6))).float() * config.balance
    scored = train if holdout is None else holdout
    held_x, held_t = (torch.from_numpy(a).float() for a in (scored.features, scored.targets))
    order = torch.Generator().manual_seed(seed)

    def logits(features: Tensor) -> Tensor:
        return scale * stretch.exp() * features @ (start + shift).T + bias

    def model(features: Tensor) -> TowerOutput:
        return TowerOutput(None, features, features, logits(features) + prior)

    def batch(rows: Tensor) -> FaceBatch:
        return FaceBatch(x[rows], t[rows], rows, again=lambda: x[rows])

    def held_out_loss() -> float:
        with torch.no_grad():
            held_logits = logits(held_x)
            watch(held_logits.numpy())
            return float(objective.validation_loss(held_logits + prior, held_t).mean())

    def current_weights() -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            return (scale * stretch.exp() * (start + shift)).numpy().copy(), bias.numpy().copy()

    best, best_epoch, weights = held_out_loss(), 0, current_weights()
    log = [{"epoch": 0, "held_out": best}]
    for epoch in range(1, config.epochs + 1):
        losses = []
        objective.epoch(epoch)
        for rows in torch.randperm(len(x), generator=order).split(config.batch_size):
            value = objective(model, batch(rows)).mean()
            if not torch.isfinite(value):
                raise EmoreasonError(f"the loss became {value.item()} in epoch {epoch}: try a smaller --train.lr")
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        held_out = held_out_loss()
        log.append({"epoch": epoch, "train": float(np.mean(losses)), "held_out": held_out})
        progress(epoch)
        if holdout is None or held_out < best:
            best, best_epoch, weights = held_out, epoch, current_weights()
        elif epoch - best_epoch >= config.patience:
            break
    return TrainedHead(*weights, best_epoch, log)


def _objective(loss: LossSettings, targets: Tensor, width: int) -> Objective:
    if loss.name in NAMES and loss.name not in OF_FEATURES:
        raise UsageError(f"--loss.name {loss.name} needs pictures, not only features: add --what lora or --what full")
    return make_objective(loss, targets, width)
