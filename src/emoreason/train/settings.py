"""Settings shared by several kinds of training."""

from collections.abc import Sequence
from dataclasses import dataclass

from emoreason.core.errors import UsageError


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
    """Settings of train/loop.py."""

    micro_batch: int = 0
    """Rows that a process computes at once; 0: all its rows. Halved once if memory runs out."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises; after that it falls along a cosine."""
    clip_norm: float = 1.0
    checkpoint_every: int = 100
    """Steps between checkpoints: the most that a killed run loses."""
    log_every: int = 10
    patience: int = 3
    """Stop after this many passes over the data without a better held-out loss; the best weights are kept."""


@dataclass
class LoraSettings:
    r: int = 16
    """Rank."""
    alpha: int = 32
    dropout: float = 0.0
    targets: str = "all-linear"
    """PEFT's target_modules: all-linear, or layer names separated by commas."""


def require_one_of(field: str, value: str, known: Sequence[str]) -> None:
    """Raise a UsageError if `value` is not one of `known`."""
    if value not in known:
        raise UsageError(f"{field} {value!r}: {', '.join(known[:-1])} or {known[-1]} was expected")


@dataclass
class WordsSettings:
    """The explainer of `emoreason finetune --data`: trained on your own texts or on texts that emoreason writes."""

    source: str = "auto"
    """auto: the texts of the data, if any; engine: emoreason writes them from label and movements; none: no texts."""
    form: str = "auto"
    """sections: what is seen, the reading, how well it fits; free: any form; auto: decided by the texts."""
    question: str = "Describe the facial expression."
    """The question that a free text answers."""
    minutes: float = 10.0
    """Time limit of the training on a CPU, where a step is timed first. On a GPU it makes three passes instead."""
    steps: int = 0
    """Number of steps; 0 decides by `minutes`."""
    lr: float = 4e-4
    batch_size: int = 8
    language: str = ""
    """The language model for an encoder that has no explainer: a transformers name or folder."""
    quantize: str = ""
    """4bit: QLoRA (needs CUDA)."""
    turns: int = 1
    """engine: follow-up questions per face."""
    look_texts: int = 24
    """Report faces that the explainer describes before and after, for the scores."""
