"""Settings that several kinds of training share."""

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


def one_of(field: str, value: str, known: Sequence[str]) -> None:
    """Refuse any other word."""
    if value not in known:
        raise UsageError(f"{field} {value!r}: {', '.join(known[:-1])} or {known[-1]} was expected")


@dataclass
class WordsSettings:
    """The words of `emoreason finetune --data`: your own texts, or those of emoreason's writer."""

    source: str = "auto"
    """auto: the texts of the data, where it has some; engine: emoreason writes them from label and movements; none."""
    form: str = "auto"
    """sections: observations, interpretation, conclusion under the grammar; free: as your texts are; auto: by them."""
    question: str = "Describe the facial expression."
    """What is asked for a free text."""
    minutes: float = 10.0
    """So long may the training take on a processor; a step is timed first. On a GPU it is three passes."""
    steps: int = 0
    """So many steps instead; 0 goes by `minutes`."""
    lr: float = 4e-4
    batch_size: int = 8
    language: str = ""
    """The language model, for an encoder without an explainer of its own: a transformers name or folder."""
    quantize: str = ""
    """4bit: QLoRA (CUDA)."""
    turns: int = 1
    """engine: follow-up questions for each face."""
    look_texts: int = 24
    """Held-back faces that are written about, before and after."""
