"""The head's training: it starts as the labels' words, so that without a face it is the zero-shot model."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.train.finetune_config import HeadTraining, LossSettings
from emoreason.train.heads.objectives import NAMES, FaceBatch, Objective, TowerOutput, make_objective

OF_FEATURES = ("ce", "symmetric", "generalised", "scn", "rul")  # the other objectives look at pictures


@dataclass(frozen=True)
class HeadData:
    """n faces: what the encoder saw (n, D), and what they show (n, L), rows that sum to 1."""

    features: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    @property
    def prior(self) -> np.ndarray:
        """(L,) how frequent each label is."""
        return self.targets.mean(axis=0)


@dataclass(frozen=True)
class Trained:
    weight: np.ndarray  # (L, D) with the logit scale in it
    bias: np.ndarray  # (L,)
    epoch: int  # the one that was kept; 0 is the zero-shot model
    log: list[dict[str, float]]

    def logits(self, features: np.ndarray) -> np.ndarray:
        return features @ self.weight.T + self.bias


@torch.random.fork_rng(devices=[])
def train_head(
    words: np.ndarray,
    scale: float,
    train: HeadData,
    holdout: HeadData | None,
    config: HeadTraining,
    seed: int,
    progress: Callable[[int], None] = lambda n: None,
    loss: LossSettings = LossSettings(),
    watch: Callable[[np.ndarray], None] = lambda logits: None,
) -> Trained:
    """words: (L, D) unit-length text embeddings of the labels; scale: CLIP's. `loss` is what is minimised; `watch` gets
    the held-out faces' logits (n, L) of every epoch. Without such faces the last epoch is kept.

    What is learned is the difference from the words; AdamW's decay pulls it back to nothing.

    A loop of its own and not train/loop.py: the features fit into memory and 300 epochs take seconds, so that there
    are no
    checkpoints, micro-batches or processes to care for."""
    start, shift = torch.from_numpy(words).float(), torch.zeros(words.shape, requires_grad=True)
    bias, stretch = torch.zeros(len(words), requires_grad=True), torch.zeros((), requires_grad=True)
    x, t = (torch.from_numpy(a).float() for a in (train.features, train.targets))
    torch.manual_seed(seed)  # for an objective's own weights and draws
    objective = _objective(loss, t, x.shape[1])
    groups = [{"params": [shift], "weight_decay": config.weight_decay}, {"params": [bias, stretch], "weight_decay": 0}]
    if own := list(objective.parameters()):
        groups.append({"params": own, "weight_decay": 0})
    optimizer = torch.optim.AdamW(groups, lr=config.lr)
    prior = torch.from_numpy(np.log(np.maximum(train.prior, 1e-6))).float() * config.balance
    judge = train if holdout is None else holdout
    held_x, held_t = (torch.from_numpy(a).float() for a in (judge.features, judge.targets))
    order = torch.Generator().manual_seed(seed)

    def logits(features: Tensor) -> Tensor:
        return scale * stretch.exp() * features @ (start + shift).T + bias

    def see(features: Tensor) -> TowerOutput:
        return TowerOutput(None, features, features, logits(features) + prior)

    def batch(rows: Tensor) -> FaceBatch:
        return FaceBatch(x[rows], t[rows], rows, again=lambda: x[rows])

    def look() -> float:
        with torch.no_grad():
            said = logits(held_x)
            watch(said.numpy())
            return float(objective.judged(said + prior, held_t).mean())

    def kept() -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            return (scale * stretch.exp() * (start + shift)).numpy().copy(), bias.numpy().copy()

    best, best_epoch, weights = look(), 0, kept()
    log = [{"epoch": 0, "held_out": best}]
    for epoch in range(1, config.epochs + 1):
        losses = []
        objective.epoch(epoch)
        for rows in torch.randperm(len(x), generator=order).split(config.batch_size):
            value = objective(see, batch(rows)).mean()
            if not torch.isfinite(value):
                raise EmoreasonError(f"the loss became {value.item()} in epoch {epoch}: try a smaller --train.lr")
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        held_out = look()
        log.append({"epoch": epoch, "train": float(np.mean(losses)), "held_out": held_out})
        progress(epoch)
        if holdout is None or held_out < best:
            best, best_epoch, weights = held_out, epoch, kept()
        elif epoch - best_epoch >= config.patience:
            break
    return Trained(*weights, best_epoch, log)


def _objective(loss: LossSettings, targets: Tensor, width: int) -> Objective:
    if loss.name in NAMES and loss.name not in OF_FEATURES:
        raise UsageError(f"--loss.name {loss.name} looks at pictures: add --what lora or --what full")
    return make_objective(loss, targets, width)
