"""The folder of a fine-tuning run: a model for `--model FOLDER`, and everything needed to judge and repeat the run."""

import csv
import dataclasses
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from emoreason.core.environment import describe
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.files import write_atomically
from emoreason.train.curve import draw
from emoreason.train.finetune_config import FinetuneConfig
from emoreason.train.run_card import card

# model.json is written last: a folder that has it is finished.
FILES = (
    "config.yaml",
    "env.txt",
    "log.jsonl",
    "split.csv",
    "loss.png",
    "confusion.png",
    "metrics.json",
    "README.md",
    "weights.safetensors",
    "model.json",
)
STARTED = ("config.yaml", "env.txt")  # the files that a run starts with
OPTIONAL = ("measures.safetensors",)
FOLDERS = ("adapter", "explainer", "words")  # words: faces and texts, only while the language model is trained
CHECKPOINT = ("checkpoint.pt", "checkpoint")


def prepare(out: Path, config: FinetuneConfig, resume: bool, overwrite: bool) -> None:
    """Create the folder, or raise an error before any work is done.

    Existing files are only replaced with --overwrite, and only when training starts (`start`)."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; a folder was expected")
    existing = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if existing and not {"config.yaml", "model.json"} & set(existing):
        raise UsageError(f"--out {out} holds other files ({', '.join(existing[:3])}): give an empty or new folder")
    if resume and "model.json" in existing:
        raise UsageError(f"--out {out} holds a finished run: nothing is left to resume. --overwrite trains again")
    if existing and not (resume or overwrite):
        state = "is finished" if "model.json" in existing else "was not finished; --resume continues it"
        raise UsageError(f"--out {out} holds a run, which {state}. --overwrite trains again, or give another --out")
    if resume and "config.yaml" in existing and (changes := _differences(out / "config.yaml", _config_text(config))):
        raise UsageError(
            f"--resume: the settings differ from {out}/config.yaml ({', '.join(changes)}); give the same settings, or "
            "--overwrite to train again"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()  # fail now if the folder cannot be written
    except OSError as error:
        raise EmoreasonError(f"--out {out} cannot be written: {error.strerror or error}") from None


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Hold a lock on the folder, so that only one run uses it. The lock ends with the process, even if it crashes."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"--out {out}: another emoreason finetune is running there; give another --out") from None
        except OSError:
            pass  # the file system has no locks
        yield
    finally:
        os.close(folder)


def start(out: Path, config: FinetuneConfig, resume: bool) -> None:
    """Remove the files of an earlier run, except checkpoints if it is resumed, and write config.yaml and env.txt."""
    try:
        for bad_step in out.glob("bad-step-*.safetensors"):
            _remove(bad_step)
        for name in (*FILES, *OPTIONAL, *(() if resume else (*FOLDERS, *CHECKPOINT))):
            _remove(out / name)
        write_atomically(out / "config.yaml", _config_text(config).encode())
        write_atomically(out / "env.txt", (describe().text + "\n").encode())
    except OSError as error:
        raise EmoreasonError(f"--out {out} cannot be written: {error.strerror or error}") from None


def remove_unstarted(out: Path) -> None:
    """Remove the folder of a run that failed before anything was trained."""
    if out.is_dir() and {path.name for path in out.iterdir()} <= set(STARTED):
        shutil.rmtree(out)


def _config_text(config: FinetuneConfig) -> str:
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)


def _differences(path: Path, text: str) -> list[str]:
    """Settings that differ from the file, except those that do not change the result."""
    old, new = _settings(path.read_text("utf-8")), _settings(text)
    return [
        f"{name} was {old.get(name)!r} and is {new.get(name)!r}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name) and not name.startswith("loop.") and name != "tower.checkpointing"
    ]


def _settings(text: str) -> dict[str, Any]:
    """{"section.name": value}; empty if the text is not a configuration."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    sections = content.items() if isinstance(content, dict) else ()
    return {
        f"{section}.{name}" if isinstance(values, dict) else section: value
        for section, values in sections
        for name, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def write_split(out: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    """Write split.csv: the part of each face."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("id", "label", "part"), *rows])
    write_atomically(out / "split.csv", text.getvalue().encode())


def write_log(out: Path, log: Sequence[Mapping[str, float]], kept: int) -> None:
    """Write log.jsonl and loss.png."""
    write_atomically(out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in log).encode())
    unit = "step" if "step" in log[0] else "epoch"
    train = "labels" if unit == "step" else "train"
    lines = {name: [(line[unit], line[key]) for line in log if key in line]
             for name, key in (("train", train), ("held out", "held_out"))}  # fmt: skip
    write_atomically(out / "loss.png", draw(lines, unit, "loss", kept))


def write_model(out: Path, spec: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Write weights.safetensors and then model.json, which has the checksums of all weight files and ends the run."""
    from safetensors.numpy import save

    weights = save({name: np.ascontiguousarray(value) for name, value in tensors.items()})
    write_atomically(out / "weights.safetensors", weights)
    others = sorted(path for path in out.rglob("*.safetensors") if path != out / "weights.safetensors"
                    and not path.name.startswith("bad-step"))  # fmt: skip
    files = {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in others}
    spec = spec | {"sha256": hashlib.sha256(weights).hexdigest(), "files": files}
    write_atomically(out / "model.json", (json.dumps(spec, indent=2, ensure_ascii=False) + "\n").encode())
    for name in CHECKPOINT:
        _remove(out / name)


def finish(out: Path, spec: dict[str, Any], metrics: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Write metrics.json, confusion.png, the card and the model."""
    from emoreason.evaluate import plots

    write_atomically(out / "metrics.json", (json.dumps(metrics, indent=1, ensure_ascii=False) + "\n").encode())
    if "after" in metrics:
        write_atomically(out / "confusion.png", plots.confusion(metrics["after"]))
    write_atomically(out / "README.md", card(spec, metrics, out).encode())
    write_model(out, spec, tensors)
