"""Reads training configurations: dataclasses, filled from a YAML file and from `--section.field value`."""

import dataclasses
import difflib
import typing
from dataclasses import dataclass, field
from pathlib import Path

from emoreason.core.errors import UsageError
from emoreason.core.resources import resource
from emoreason.train.settings import AugmentConfig

PACKAGED = resource("finetune")


@dataclass
class DataConfig:
    train: str = "ferplus/train.parquet"
    """FER+ parquet of the training faces."""
    validation: str = "ferplus/validation.parquet"
    """Faces for scores in the log; their copies are removed from train."""
    landmarks: str = "landmarks/train.npz"
    """The output of finetune/landmarks.py for the training faces."""
    holdout: int = 1500
    """Faces of train held out for calibration and the prior."""


@dataclass
class TrainConfig:
    epochs: int = 36
    batch_size: int = 64
    lr: float = 0.0015
    weight_decay: float = 0.05
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises."""
    ema: float = 0.999
    """Decay of the averaged weights; the average is what is saved."""
    clip_norm: float = 5.0
    mix: float = 0.3
    """Share of the batches with mixup or cutmix (half each)."""
    mix_alpha: float = 0.5
    caption_weight: float = 0.2
    """Weight of the contrastive loss between faces and captions, with soft targets."""
    head_weight: float = 0.5
    """Weight of the loss of a helper head, a linear head that is dropped after training."""
    unit_weight: float = 0.5
    """Weight of the loss of the action-unit head."""
    text_noise: float = 0.3
    """Noise on the text embeddings, as a share of their norm."""
    start: str = ""
    """weights.safetensors of an earlier run to start from, instead of random weights."""
    teacher: str = ""
    """weights.safetensors of an earlier run, whose answers are mixed into the targets by teacher_weight
    (self-distillation)."""
    teacher_weight: float = 0.5


@dataclass
class Config:
    kind: str = "encoder"
    name: str = "mini"
    """The model's name in result rows and reports."""
    seed: int = 7
    model: str = "emoreason-mini"
    text: str = "prompts/training.yaml"
    out: str = "runs/mini"
    limit: int = 0
    """Use at most this many training faces, for a quick try; 0 means all."""
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


def load_config(path: Path, overrides: dict[str, str] | None = None) -> typing.Any:
    """Read a YAML file and apply overrides such as {"train.lr": "1e-4"}. Unknown keys are errors with a suggestion.

    The key `kind` decides the class: encoder (Config), eyes, readout, explainer, head (FinetuneConfig) or exp-clip."""
    import yaml

    from emoreason.train.finetune_config import FinetuneConfig
    from emoreason.train.recipes.exp_clip_config import ExpClipConfig
    from emoreason.train.recipes.mini_eyes_config import EyesConfig, ReadoutConfig
    from emoreason.train.text.config import ExplainerConfig

    try:
        content = yaml.safe_load(_recipe(Path(path)).read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        names = ", ".join(f"finetune/{file.name}" for file in sorted(PACKAGED.glob("*.yaml")))
        raise UsageError(f"there is no recipe {path}; the package has {names}") from None
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a mapping such as 'seed: 7' was expected, not {type(content).__name__}")
    kinds = {"encoder": Config, "eyes": EyesConfig, "readout": ReadoutConfig, "explainer": ExplainerConfig,
             "head": FinetuneConfig, "exp-clip": ExpClipConfig}  # fmt: skip
    kind = str(content.get("kind", "encoder"))
    if kind not in kinds:
        raise UsageError(f"{path}: kind {kind!r} is not one of {', '.join(kinds)}")
    config = kinds[kind]()
    _fill(config, content, where=str(path), prefix="")
    override(config, overrides or {})
    return config


def override(config: typing.Any, overrides: dict[str, str]) -> None:
    """Set fields by their path: {"train.lr": "1e-4"}."""
    for key, value in overrides.items():
        *parents, leaf = key.split(".")
        nested: dict = {leaf: value}
        for parent in reversed(parents):
            nested = {parent: nested}
        _fill(config, nested, where=f"--{key}", prefix="")


def _recipe(path: Path) -> Path:
    """The file, or the packaged recipe of that name."""
    packaged = PACKAGED / path.name
    return packaged if not path.is_file() and path.parent.name == "finetune" and packaged.is_file() else path


KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _fill(target: typing.Any, values: dict, where: str, prefix: str) -> None:
    known = {f.name: f for f in dataclasses.fields(target)}
    for key, value in values.items():
        if key not in known:
            similar = [
                f"{prefix}{part}.{key}" for part in known if dataclasses.is_dataclass(section := getattr(target, part))
                and key in {field.name for field in dataclasses.fields(section)}
            ]  # fmt: skip
            similar = similar or [prefix + name for name in difflib.get_close_matches(str(key), known, n=1)]
            hint = (
                f"did you mean {' or '.join(similar)}?" if similar else f"known: {', '.join(prefix + k for k in known)}"
            )
            raise UsageError(f"{where}: unknown key {prefix}{key}; {hint}")
        current = getattr(target, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, dict):
                raise UsageError(f"{where}: {prefix}{key} is a section, not the value {value!r}")
            _fill(current, value, where, f"{prefix}{key}.")
            continue
        try:
            setattr(target, key, _flag(value) if isinstance(current, bool) else type(current)(value))
        except (TypeError, ValueError):
            raise UsageError(f"{where}: {prefix}{key} = {value!r} is not {KINDS[type(current)]}") from None


def _flag(value: typing.Any) -> bool:
    """Parse true/false, yes/no or 1/0, because bool("false") would be True."""
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if str(value).lower() not in known:
        raise ValueError(value)
    return known[str(value).lower()]


def parse_overrides(arguments: list[str]) -> dict[str, str]:
    """`--train.lr 1e-4 --out=runs/mine` -> {"train.lr": "1e-4", "out": "runs/mine"}."""
    result, rest = {}, list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise UsageError(
                f"{option!r} is not an option: give fields as --section.field VALUE, such as --train.lr 1e-4"
            )
        key, equals, value = option.removeprefix("--").partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UsageError(f"--{key} has no value: type --{key} VALUE")
            value = rest.pop(0)
        result[key] = value
    return result
