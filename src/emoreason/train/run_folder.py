"""What a fine-tuning leaves: a model that `--model FOLDER` loads, and all that is needed to judge and to repeat it."""

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
BEGUN = ("config.yaml", "env.txt")  # what a run begins with
MAYBE = ("measures.safetensors",)
FOLDERS = ("adapter", "explainer", "words")  # words: faces and texts, while the language model learns
CHECKPOINT = ("checkpoint.pt", "checkpoint")


def prepare(out: Path, config: FinetuneConfig, resume: bool, overwrite: bool) -> None:
    """Make the folder, or refuse before any work: nothing that stands there is written over unless it was asked for,
    and then not before there is something to train on (`begin`)."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; a folder was expected")
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if there and not {"config.yaml", "model.json"} & set(there):
        raise UsageError(f"--out {out} holds other things ({', '.join(there[:3])}): name a folder that is empty or new")
    if resume and "model.json" in there:
        raise UsageError(
            f"--out {out} holds a run that is finished: nothing is left to resume. --overwrite trains again"
        )
    if there and not (resume or overwrite):
        how = "is finished" if "model.json" in there else "was not finished, and --resume goes on"
        raise UsageError(f"--out {out} holds a run, which {how}. --overwrite trains again, or give another --out")
    if resume and "config.yaml" in there and (other := _differences(out / "config.yaml", _written(config))):
        raise UsageError(
            f"--resume: what is asked now differs from {out}/config.yaml ({', '.join(other)}); give the same, or "
            "--overwrite trains again"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()  # a folder that cannot be written is told now
    except OSError as error:
        raise EmoreasonError(f"--out {out} cannot be written: {error.strerror or error}") from None


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Two runs in one folder would spoil each other. The lock goes with the process, however that ends."""
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
            raise UsageError(f"--out {out}: another emoreason finetune is at work there; give another --out") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(folder)


def begin(out: Path, config: FinetuneConfig, resume: bool) -> None:
    """What was there goes, but for what a run that is resumed goes on from."""
    try:
        for bad in out.glob("bad-step-*.safetensors"):
            _remove(bad)
        for name in (*FILES, *MAYBE, *(() if resume else (*FOLDERS, *CHECKPOINT))):
            _remove(out / name)
        write_atomically(out / "config.yaml", _written(config).encode())
        write_atomically(out / "env.txt", (describe().text + "\n").encode())
    except OSError as error:
        raise EmoreasonError(f"--out {out} cannot be written: {error.strerror or error}") from None


def withdraw(out: Path) -> None:
    """A run that was refused before anything was learned leaves no trace."""
    if out.is_dir() and {path.name for path in out.iterdir()} <= set(BEGUN):
        shutil.rmtree(out)


def _written(config: FinetuneConfig) -> str:
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)


def _differences(path: Path, written: str) -> list[str]:
    """Settings that were others in the file; not those that decide how and not what is computed."""
    there, now = _settings(path.read_text("utf-8")), _settings(written)
    return [
        f"{name} was {there.get(name)!r} and is {now.get(name)!r}"
        for name in sorted({*there, *now})
        if there.get(name) != now.get(name) and not name.startswith("loop.") and name != "tower.checkpointing"
    ]


def _settings(text: str) -> dict[str, Any]:
    """Name with its section -> value; nothing of what is no configuration."""
    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    sections = read.items() if isinstance(read, dict) else ()
    return {
        f"{section}.{name}" if isinstance(values, dict) else section: value
        for section, values in sections
        for name, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def write_split(out: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    """split.csv: which face was for what."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("id", "label", "part"), *rows])
    write_atomically(out / "split.csv", text.getvalue().encode())


def write_log(out: Path, log: Sequence[Mapping[str, float]], kept: int) -> None:
    """log.jsonl and its picture."""
    write_atomically(out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in log).encode())
    unit = "step" if "step" in log[0] else "epoch"
    train = "labels" if unit == "step" else "train"
    lines = {name: [(line[unit], line[key]) for line in log if key in line]
             for name, key in (("train", train), ("held out", "held_out"))}  # fmt: skip
    write_atomically(out / "loss.png", draw(lines, unit, "loss", kept))


def write_model(out: Path, spec: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """weights.safetensors, and model.json, which finishes the run, with the checksum of every other file of weights."""
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
    """metrics.json, the picture, the card, and the model."""
    from emoreason.evaluate import plots

    write_atomically(out / "metrics.json", (json.dumps(metrics, indent=1, ensure_ascii=False) + "\n").encode())
    if "after" in metrics:
        write_atomically(out / "confusion.png", plots.confusion(metrics["after"]))
    write_atomically(out / "README.md", card(spec, metrics, out).encode())
    write_model(out, spec, tensors)
