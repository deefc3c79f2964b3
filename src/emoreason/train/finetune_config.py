"""Configuration of `emoreason finetune --data`. recipes/config.py says how it is read from YAML and options."""

import math
from dataclasses import dataclass, field

from emoreason.core.errors import UsageError
from emoreason.train.settings import AugmentConfig, LoopSettings, LoraSettings, WordsSettings


@dataclass
class FinetuneData:
    source: str = ""
    """The data set, in any layout that emoreason reads: a folder, CSV, JSONL, parquet, or hub:OWNER/NAME."""
    format: str = "auto"
    labels: str = ""
    """The labels to train, separated by commas; faces with other labels are left out. Empty: all labels in the data."""
    crops: str = "auto"
    """yes: the pictures are face crops; no: find the faces and cut them out; auto: decide from some pictures."""
    validation: float = 0.2
    """Share of the faces kept for the report, if the data has no validation or test split."""
    holdout: float = 0.1
    """Share of the training faces that chooses the epoch and fits the calibration."""
    subject: str = ""
    """The column that names the person. Empty: subject, subject_id, person, actor, identity or group, if present."""
    limit: int = 0
    """Use at most this many training faces; 0 means all."""
    unlabeled: str = ""
    """Faces without labels, in any layout: for loss.name ada-cm."""


@dataclass
class HeadTraining:
    epochs: int = 300
    patience: int = 30
    """Stop after this many epochs without a better held-out loss; the best epoch is kept."""
    batch_size: int = 4096
    lr: float = 0.001
    weight_decay: float = 15.0
    """Pulls the head back to the label words it started from, so that few faces change it only a little."""
    balance: float = 0.0
    """Logit adjustment: 1 trains as if all labels were equally frequent, 0 uses the real frequencies."""


@dataclass
class LossSettings:
    """docs/noise.md says what each loss is for and how much it helped."""

    name: str = "ce"
    """ce, symmetric, generalised, scn or rul; eac and ada-cm only if the image tower is trained."""
    class_balance: float = 0.0
    """Weights labels by their effective number of faces: 0 all equal, 0.999 rare ones more, 1 by inverse frequency."""
    alpha: float = 0.1
    """symmetric: weight of the cross-entropy."""
    beta: float = 1.0
    """symmetric: weight of the reverse cross-entropy."""
    q: float = 0.7
    """generalised: near 0 it is the cross-entropy, at 1 the mean absolute error."""
    warmup: int = 5
    """scn: epochs before labels may be replaced; ada-cm: epochs with the initial margin. Use more for a new tower."""
    margin: float = 0.2
    """scn: how much more probable another label must be to replace the given one."""
    consistency: float = 5.0
    """eac: weight of the agreement between the maps of a face and of its mirror image."""


@dataclass
class TowerTraining:
    """Used with what: lora or full. The head is first trained on frozen features, as `train` says."""

    epochs: int = 8
    batch_size: int = 64
    lr: float = 0.0003
    head_lr: float = 0.001
    weight_decay: float = 0.01
    fresh: bool = False
    """Start the image tower from random weights instead of the model's (full only)."""
    checkpointing: bool = False
    """Gradient checkpointing: recompute the tower's blocks in the backward pass. Less memory, a third more time."""


@dataclass
class FinetuneConfig:
    kind: str = "head"
    what: str = "auto"
    """head: only the head, on frozen features; lora, full: the image tower too; auto: by device and number of faces."""
    name: str = ""
    """The model's name in result rows and reports. Empty: the name of the folder."""
    seed: int = 7
    model: str = "mini"
    """The encoder: mini, a folder with a model, or an open_clip name such as ViT-L-14/openai."""
    out: str = ""
    """The run folder. Empty: runs/NAME, by the name of the data."""
    openset: float = 0.0
    """Share of known faces that may be withheld as looking like none of the labels; 0: every face gets a label."""
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


def check_ranges(config: FinetuneConfig) -> None:
    """Raise a UsageError for numbers out of range, before any work is done."""
    train, tower = config.train, config.tower
    at_least_one = {
        "train.epochs": train.epochs, "train.patience": train.patience, "train.batch_size": train.batch_size,
        "tower.epochs": tower.epochs, "tower.batch_size": tower.batch_size, "loop.patience": config.loop.patience,
        "loop.checkpoint_every": config.loop.checkpoint_every, "lora.r": config.lora.r,
    }  # fmt: skip
    not_negative = {
        "data.limit": config.data.limit, "loop.micro_batch": config.loop.micro_batch, "train.balance": train.balance,
        "train.weight_decay": train.weight_decay, "tower.weight_decay": tower.weight_decay,
        "loss.warmup": config.loss.warmup,
    }  # fmt: skip
    positive = {"train.lr": train.lr, "tower.lr": tower.lr, "tower.head_lr": tower.head_lr}
    for expected, fields, is_valid in (
        ("1 or more", at_least_one, lambda value: value >= 1),
        ("0 or more", not_negative, lambda value: value >= 0),
        ("a number above 0", positive, lambda value: value > 0),
    ):
        for name, value in fields.items():
            if not (math.isfinite(value) and is_valid(value)):
                raise UsageError(f"{name} {value}: {expected} was expected")
