"""The training steps of the image tower: faces from memory, augmented, through one objective."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoreason.train.augment import apply, draw
from emoreason.train.finetune_config import FinetuneConfig
from emoreason.train.heads.objectives import AdaptiveMargin, FaceBatch, TowerOutput, make_objective
from emoreason.train.loop import Step, Trainable
from emoreason.train.settings import AugmentConfig
from emoreason.train.tower.lora import Tower

STRONGER = 2.0  # strength of the second augmentation, as a multiple of the first


@dataclass(frozen=True)
class Crops:
    """n faces in the encoder's input size."""

    pixels: np.ndarray  # (n, S, S, 3) uint8
    targets: np.ndarray  # (n, L), all zero if the face has no label

    def __len__(self) -> int:
        return len(self.pixels)


class TowerTask(Trainable):
    """Trains the tower with the label loss."""

    def __init__(
        self, tower: Tower, train: Crops, holdout: Crops, config: FinetuneConfig, normalise: Callable[[Tensor], Tensor]
    ):
        super().__init__()
        self.tower, self.crops, self.holdout, self.config, self.normalise = tower, train, holdout, config, normalise
        self.held = len(holdout)
        self.digest = hashlib.sha256(train.pixels.tobytes() + train.targets.tobytes()).hexdigest()
        targets = torch.from_numpy(train.targets).float()
        self.objective = make_objective(config.loss, targets, _width(tower, train, normalise))
        prior = targets.sum(dim=0) / targets.sum()
        self.register_buffer("prior", prior.clamp(min=1e-6).log() * config.train.balance, persistent=False)
        self.weights = {"labels": 1.0}
        self.batch = min(config.tower.batch_size, len(train))
        known = train.targets.sum(axis=1) > 0
        self.kinds = [rows for rows in (np.flatnonzero(known), np.flatnonzero(~known)) if len(rows)]
        if isinstance(self.objective, AdaptiveMargin):
            self.objective.share = 1 / len(self.kinds)  # half of a batch has labels, however few faces have one
        self.plan = lru_cache(maxsize=2)(self._plan)  # each part and view of a step asks for it
        self.pass_steps = max(1, max(map(len, self.kinds)) * len(self.kinds) // self.batch)

    def step(self, number: int) -> Step:
        return self.plan(number)

    def _plan(self, number: int) -> Step:
        """The rows of a step. A pass shows every face once; with labeled and unlabeled faces, the fewer ones repeat."""
        rows: list[int] = []
        for kind, kind_rows in enumerate(self.kinds):
            share = max(1, min(len(kind_rows), self.batch // len(self.kinds)))
            pass_number, place = divmod(number, max(1, len(kind_rows) // share))
            order = np.random.default_rng([self.config.seed, pass_number] + [kind] * (kind > 0)).permutation(kind_rows)
            rows += order[place * share : (place + 1) * share].tolist()
        return Step(tuple(rows), dict.fromkeys(self.weights, float(len(rows))))

    def forward(self, number: int, rows: Sequence[int], held: bool = False) -> dict[str, Tensor]:
        if held:
            return {"held_out": self._held_out(rows)}
        pixels = self._faces(self.crops, rows)
        target = self._to(torch.from_numpy(self.crops.targets[list(rows)]).float())

        def model(faces: Tensor) -> TowerOutput:
            output = self.tower(faces)
            return output._replace(logits=output.logits + self.prior)

        batch = FaceBatch(
            self._augmented(pixels, number, rows, 0, 1.0), target, torch.tensor(list(rows), device=target.device),
            again=lambda: self._augmented(pixels, number, rows, 1, STRONGER),
        )  # fmt: skip
        return {"labels": self.objective(model, batch).float().sum()}

    def train(self, mode: bool = True) -> "TowerTask":
        """A tuned tower stays in eval mode, without dropout, so its output depends only on the face."""
        super().train(mode)
        self.tower.train(mode and self.config.tower.fresh)
        return self

    def epoch(self, number: int) -> None:
        self.objective.epoch(number)

    def groups(self) -> list[dict[str, Any]]:
        settings = self.config.tower
        head = [self.tower.head_weight, self.tower.head_bias]
        head_ids = {id(parameter) for parameter in head}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in head_ids]
        return [
            {"params": [p for p in rest if p.ndim > 1], "lr": settings.lr, "weight_decay": settings.weight_decay},
            {"params": [p for p in rest if p.ndim <= 1], "lr": settings.lr, "weight_decay": 0.0},
            {"params": head, "lr": settings.head_lr, "weight_decay": 0.0},
        ]

    def inputs(self, number: int, rows: Sequence[int]) -> dict[str, Tensor]:
        faces = self._augmented(self._faces(self.crops, rows), number, rows, 0, 1.0)
        return {"faces": faces, "targets": torch.from_numpy(self.crops.targets[list(rows)])}

    # ---- faces ----------------------------------------------------------------------------------------------------

    def _held_out(self, rows: Sequence[int]) -> Tensor:
        logits = self.tower(self.normalise(self._faces(self.holdout, rows))).logits
        target = self._to(torch.from_numpy(self.holdout.targets[list(rows)]).float())
        return self.objective.validation_loss(logits + self.prior, target).sum()

    def _faces(self, crops: Crops, rows: Sequence[int]) -> Tensor:
        """(B, 3, S, S) floats in 0..1."""
        picked = torch.from_numpy(crops.pixels[list(rows)])
        return self._to(picked).permute(0, 3, 1, 2).float() / 255  # channels_last in memory

    def _augmented(self, faces: Tensor, number: int, rows: Sequence[int], view: int, strength: float) -> Tensor:
        """The augmentation of a face depends on the step and its place in it, not on the process that computes it."""
        all_rows = self.step(number).rows
        noise = torch.Generator().manual_seed(hash((self.config.seed, number, view)) % 2**31)
        draws = draw(len(all_rows), faces.shape[2], faces.shape[3], _scaled(self.config.augment, strength), noise)
        place = {row: i for i, row in enumerate(all_rows)}
        mine = draws.take(torch.tensor([place[row] for row in rows]))
        return self.normalise(apply(faces, mine)).contiguous(memory_format=torch.channels_last)

    def _to(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.tower.head_weight.device)


def _scaled(config: AugmentConfig, strength: float) -> AugmentConfig:
    return config if strength == 1.0 else AugmentConfig(
        config.rotate * strength, config.scale * strength, config.shift * strength, config.brightness * strength,
        config.contrast * strength, min(1.0, config.blur * strength), 1.0,
    )  # fmt: skip


@torch.no_grad()
def _width(tower: Tower, crops: Crops, normalise: Callable[[Tensor], Tensor]) -> int:
    """F, the width of the pooled features, found by running one face through the tower."""
    was_training = tower.training
    device = tower.head_weight.device
    face = torch.from_numpy(crops.pixels[:1]).to(device).permute(0, 3, 1, 2).float() / 255
    width = tower.eval()(normalise(face)).pooled.shape[1]
    tower.train(was_training)
    return width
