"""What a fine-tuning leaves: a model that `--model FOLDER` loads, and all that is needed to judge and to repeat it."""

import csv
import dataclasses
import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from emoreason.environment import describe
from emoreason.errors import EmoreasonError, UsageError
from emoreason.evaluate.report import write_atomically
from emoreason.train.measures_score import table as measures_table
from emoreason.train.tune_config import TuneConfig

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
IS = {
    "none": "What was trained beside `{base}` (revision {base_revision}), which is not in this folder: its labels are "
    "still that model's.",
    "head": "A label head on the encoder of `{base}` (revision {base_revision}), which is frozen and is not in this "
    "folder: action units, explanations and all other labels are still that model's.",
    "lora": "A label head and LoRA for the image tower of `{base}` (revision {base_revision}), which is not in this "
    "folder. Action units are read by that model's head, which was held to what it said before; other labels are read "
    "by their words, uncalibrated, since the tower has moved.",
    "full": "A label head and a tuned image tower in place of that of `{base}` (revision {base_revision}), whose text "
    "side and language model are not in this folder. Action units are read by that model's head, which was held to "
    "what it said before; other labels are read by their words, uncalibrated, since the tower has moved.",
}
CHECKPOINT = ("checkpoint.pt", "checkpoint")
POLICY = (
    "It speaks of the expression that is shown, not of what a person feels. Not for use at work or in education "
    "(EU AI Act, article 5(1)(f)), not a lie detector, not a diagnosis."
)


def prepare(out: Path, config: TuneConfig, resume: bool, overwrite: bool) -> None:
    """Make the folder, or refuse before any work: nothing that stands there is written over unless it was asked for."""
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
    written = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if resume and (out / "config.yaml").is_file() and not _same_run(out / "config.yaml", written):
            raise UsageError(
                f"--resume: {out}/config.yaml differs from what is asked for now; --overwrite trains again"
            )
        for bad in out.glob("bad-step-*.safetensors"):
            _remove(bad)
        for name in (*FILES, *MAYBE, *(() if resume else (*FOLDERS, *CHECKPOINT))):
            _remove(out / name)
        write_atomically(out / "config.yaml", written.encode())
        write_atomically(out / "env.txt", (describe().text + "\n").encode())
    except OSError as error:
        raise EmoreasonError(f"--out {out} cannot be written: {error.strerror or error}") from None


def withdraw(out: Path) -> None:
    """A run that was refused before anything was learned leaves no trace."""
    if out.is_dir() and {path.name for path in out.iterdir()} <= set(BEGUN):
        shutil.rmtree(out)


def _same_run(path: Path, written: str) -> bool:
    """All settings are the same but those that decide how and not what is computed."""
    both = [yaml.safe_load(path.read_text("utf-8")) or {}, yaml.safe_load(written)]
    for settings in both:
        settings.pop("loop", None)
        settings.get("tower", {}).pop("checkpointing", None)
    return both[0] == both[1]


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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6))
    axes = figure.add_subplot()
    unit = "step" if "step" in log[0] else "epoch"
    for key, colour, name in (("train", "#0072B2", "train"), ("labels", "#0072B2", "train"),
                              ("held_out", "#D55E00", "held out")):  # fmt: skip
        points = [(line[unit], line[key]) for line in log if key in line]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, label=name)
    axes.axvline(kept, color="#8A8A8A", linewidth=0.9, linestyle=(0, (4, 3)), label=f"kept: {unit} {kept}")
    axes.set(xlabel=unit, ylabel="loss", ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    write_atomically(out / "loss.png", picture.getvalue())


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


def card(spec: Mapping[str, Any], metrics: Mapping[str, Any], out: Path) -> str:
    """README.md of the run."""
    data = f"{metrics['data']} ({metrics['crops']}); SHA-256 {metrics['data_sha256'][:12]}. Left out: "
    lines = [
        f"# {spec['name']}: {', '.join(spec['labels']) or 'measures and words'}",
        "",
        IS[spec["what"]].format(**spec),
        "",
        "    emoreason explain photo.jpg --model " + out.as_posix(),
        "",
        "## Data",
        "",
        data + (", ".join(f"{n} {why}" for why, n in metrics["left_out"].items()) or "nothing") + ".",
        "",
        *(_of_labels(spec["labels"], metrics) if "after" in metrics else _of_parts(metrics)),
        *(
            ["", "## Action units, valence, arousal", "", measures_table(metrics["measures"])]
            if "measures" in metrics
            else []
        ),
        *(["", "## Words", "", metrics["words"]["told"], "", *metrics["words"]["table"]] if "words" in metrics else []),
        "",
        "## Licence and use",
        "",
        "The faces keep the licence of their data set, which may not allow every use of what was learned from them. "
        f"The terms of `{spec['base']}` hold as well: `emoreason models show mini` has those of the mini, Gemma's "
        "terms of use for its language model among them.",
        "",
        POLICY,
        "",
    ]
    return "\n".join(lines)


def _of_parts(metrics: Mapping[str, Any]) -> list[str]:
    return ["Faces: " + ", ".join(f"{n} {name}" for name, n in metrics["faces"].items()) + "."]


def _of_labels(labels: Sequence[str], metrics: Mapping[str, Any]) -> list[str]:
    counts = metrics["counts"]
    recalls = (f"{label} {_recall(metrics, 'before', label)} → {_recall(metrics, 'after', label)}" for label in labels)
    return [
        "| label | " + " | ".join(counts) + " |",
        "| --- |" + " ---: |" * len(counts),
        *(f"| {label} | " + " | ".join(str(part[label]) for part in counts.values()) + " |" for label in labels),
        "",
        "## Protocol",
        "",
        metrics["protocol"],
        "",
        "## Scores",
        "",
        table(metrics),
        "",
        "Recall by label, before and after: " + ", ".join(recalls) + ".",
        "",
        "![Confusion](confusion.png)",
        "",
        "![Loss](loss.png)",
    ]


def tables(metrics: Mapping[str, Any]) -> str:
    """What the command prints at its end: the scores of all that was trained."""
    parts = [table(metrics)] if "after" in metrics else []
    parts += [measures_table(metrics["measures"])] if "measures" in metrics else []
    parts += ["\n".join([metrics["words"]["told"], "", *metrics["words"]["table"]])] if "words" in metrics else []
    return "\n\n".join(parts)


def table(metrics: Mapping[str, Any]) -> str:
    """Before and after on the same faces, in percent with bootstrap intervals."""
    after = metrics["after"]
    lines = [
        f"| {after['n']} faces | before (zero-shot) | after |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {interval(metrics['before'][key])} | {interval(after[key])} |"
            for name, key in (("accuracy (WAR)", "accuracy"), ("UAR", "uar"), ("macro-F1", "macro_f1"))
        ),
        *(
            f"| {name} | {metrics['before'][key]:.3f} | {after[key]:.3f} |"
            for name, key in (("calibration error (ECE)", "ece"), ("negative log-likelihood", "nll"))
        ),
    ]
    if metrics.get("balanced"):
        lines[0] += " after, balanced |"
        lines[1] += " --- |"
        for i, key in enumerate(("accuracy", "uar", "macro_f1")):
            lines[2 + i] += f" {interval(metrics['balanced'][key])} |"
        for i, key in enumerate(("ece", "nll")):
            lines[5 + i] += f" {metrics['balanced'][key]:.3f} |"
    lines.append(
        f"\nAlways *{after['majority']['label']}* would be right in {100 * after['majority']['accuracy']:.1f} %. In "
        "brackets: 95 % bootstrap intervals."
    )
    return "\n".join(lines)


def interval(figure: Mapping[str, float]) -> str:
    return f"{100 * figure['value']:.1f} % [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def _recall(metrics: Mapping[str, Any], when: str, label: str) -> str:
    recall = metrics[when]["per_class"][label]["recall"]
    return "–" if recall is None else f"{100 * recall:.0f} %"
