"""Settings that several kinds of training share."""

from dataclasses import dataclass


@dataclass
class AugmentConfig:
    rotate: float = 15.0
    scale: float = 0.15
    shift: float = 0.08
    brightness: float = 0.3
    contrast: float = 0.3
    blur: float = 0.2
    cutout: float = 0.4


@dataclass
class LoopSettings:
    """Of train/loop.py, whatever it trains."""

    micro_batch: int = 0
    """Rows that a process computes at once; 0: its whole share. Out of memory halves it once."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises; then it falls as a cosine."""
    clip_norm: float = 1.0
    checkpoint_every: int = 100
    """Steps; a run that was killed loses no more."""
    log_every: int = 10
    patience: int = 3
    """Passes over the data without a better held-out loss, after which training stops; the best weights are kept."""


@dataclass
class LoraSettings:
    r: int = 16
    """Rank."""
    alpha: int = 32
    dropout: float = 0.0
    targets: str = "all-linear"
    """PEFT's target_modules: all-linear, or names separated by commas."""
