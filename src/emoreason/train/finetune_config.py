"""The configuration of `emoreason finetune --data`: labels on an encoder, frozen or not. The rules: train/config.py."""

import math
from dataclasses import dataclass, field

from emoreason.core.errors import UsageError
from emoreason.train.settings import AugmentConfig, LoopSettings, LoraSettings, WordsSettings


@dataclass
class FinetuneData:
    source: str = ""
    """A data set in any layout that emoreason reads: a folder, CSV, JSONL, parquet, or hub:OWNER/NAME."""
    format: str = "auto"
    labels: str = ""
    """The labels to train, separated by commas; faces of others are left out. Empty: all that stand in the data."""
    crops: str = "auto"
    """yes: the pictures are face crops; no: faces are looked for; auto: decided by looking at some of them."""
    validation: float = 0.2
    """Share of the faces that is kept for the report, where the data has no validation or test split."""
    holdout: float = 0.1
    """Share of the training faces that chooses the epoch and fits the calibration."""
    subject: str = ""
    """The column with the person. Empty: subject, subject_id, person, actor, identity or group, where there is one."""
    limit: int = 0
    """Use only that many training faces; 0 means all."""
    unlabeled: str = ""
    """Faces without labels, in any layout: for loss.name ada-cm."""


@dataclass
class HeadTraining:
    epochs: int = 300
    patience: int = 30
    """Stop when the held-out loss has not fallen for so many epochs; the best epoch is kept."""
    batch_size: int = 4096
    lr: float = 0.001
    weight_decay: float = 15.0
    """Pulls the head back to the words that it started from, so that a few faces change it a little."""
    balance: float = 0.0
    """Logit adjustment: 1 trains as if all labels were equally frequent, 0 as they are."""


@dataclass
class LossSettings:
    """What each is for, and what it was worth: docs/noise.md."""

    name: str = "ce"
    """ce, symmetric, generalised, scn or rul; eac and ada-cm where the image tower is trained."""
    class_balance: float = 0.0
    """Weighs labels by their effective number of faces: 0 all alike, 0.999 rare ones more, 1 by inverse frequency."""
    alpha: float = 0.1
    """symmetric: of the cross-entropy."""
    beta: float = 1.0
    """symmetric: of the reverse cross-entropy."""
    q: float = 0.7
    """generalised: near 0 it is cross-entropy, 1 the mean absolute error."""
    warmup: int = 5
    """scn: epochs without an exchange of labels; ada-cm: with the first margin. More for a tower from nothing."""
    margin: float = 0.2
    """scn: how much surer of another label the model must be."""
    consistency: float = 5.0
    """eac: weight of the agreement of the maps of a face and its mirror image."""


@dataclass
class TowerTraining:
    """With what: lora or full. The head is trained on the frozen features first, by `train`."""

    epochs: int = 8
    batch_size: int = 64
    lr: float = 0.0003
    head_lr: float = 0.001
    weight_decay: float = 0.01
    units: float = 1.0
    """Weight of the loss that keeps the base model's action units, which explanations stand on."""
    fresh: bool = False
    """Start the image tower from nothing instead of the model's weights (full only)."""
    checkpointing: bool = False
    """Compute the tower's blocks again on the way back: less memory, a third more time."""


@dataclass
class FinetuneConfig:
    kind: str = "head"
    what: str = "auto"
    """head: on frozen features; lora, full: the image tower too; auto: by device and number of faces."""
    name: str = ""
    """What the model is called in rows and reports. Empty: the name of the folder."""
    seed: int = 7
    model: str = "mini"
    """The encoder: mini, a folder with a model, or an open_clip name such as ViT-L-14/openai."""
    out: str = ""
    """The run folder. Empty: runs/ and the name of the data."""
    openset: float = 0.0
    """Share of the known faces that may be withheld as looking like none of the labels; 0: every face gets one."""
    device: str = "auto"
    detector: str = "auto"
    data: FinetuneData = field(default_factory=FinetuneData)
    train: HeadTraining = field(default_factory=HeadTraining)
    loss: LossSettings = field(default_factory=LossSettings)
    tower: TowerTraining = field(default_factory=TowerTraining)
    lora: LoraSettings = field(default_factory=LoraSettings)
    loop: LoopSettings = field(default_factory=LoopSettings)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    words: WordsSettings = field(default_factory=WordsSettings)


def refuse_nonsense(config: FinetuneConfig) -> None:
    """Numbers that would stop training late, or train something that nobody asked for, are told at the start."""
    train, tower = config.train, config.tower
    least_one = {
        "train.epochs": train.epochs, "train.patience": train.patience, "train.batch_size": train.batch_size,
        "tower.epochs": tower.epochs, "tower.batch_size": tower.batch_size, "loop.patience": config.loop.patience,
        "loop.checkpoint_every": config.loop.checkpoint_every, "lora.r": config.lora.r,
    }  # fmt: skip
    not_below = {
        "data.limit": config.data.limit, "loop.micro_batch": config.loop.micro_batch, "train.balance": train.balance,
        "train.weight_decay": train.weight_decay, "tower.weight_decay": tower.weight_decay, "tower.units": tower.units,
        "loss.warmup": config.loss.warmup,
    }  # fmt: skip
    above = {"train.lr": train.lr, "tower.lr": tower.lr, "tower.head_lr": tower.head_lr}
    for told, fields, right in (
        ("1 or more", least_one, lambda value: value >= 1),
        ("0 or more", not_below, lambda value: value >= 0),
        ("a number above 0", above, lambda value: value > 0),
    ):
        for name, value in fields.items():
            if not (math.isfinite(value) and right(value)):
                raise UsageError(f"{name} {value}: {told} was expected")
