"""Writes the card (README.md) of a fine-tuning run, and the tables that the command prints at its end."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emoreason.evaluate.metrics import FEW_ROWS
from emoreason.train.heads.measure_scores import table as measures_table

DESCRIPTION = {
    "none": "An addition to `{base}` (revision {base_revision}), which is not in this folder. The labels are still "
    "that model's.",
    "head": "A label head on the encoder of `{base}` (revision {base_revision}), which is frozen and is not in this "
    "folder: {unchanged} are still that model's.",
    "lora": "A label head and LoRA for the image tower of `{base}` (revision {base_revision}), which is not in this "
    "folder. Action units come from that model's head, which was trained to keep its answers; other labels are read "
    "from their words, uncalibrated, since the tower has changed.",
    "full": "A label head and a tuned image tower in place of that of `{base}` (revision {base_revision}), whose text "
    "side and language model are not in this folder. Action units come from that model's head, which was trained to "
    "keep its answers; other labels are read from their words, uncalibrated, since the tower has changed.",
}
POLICY = (
    "It describes the expression that is shown, not what a person feels. Not for use at work or in education "
    "(EU AI Act, article 5(1)(f)), not a lie detector, not a diagnosis."
)


def card(spec: Mapping[str, Any], metrics: Mapping[str, Any], out: Path) -> str:
    """The text of README.md."""
    data = f"{metrics['data']} ({metrics['crops']}); SHA-256 {metrics['data_sha256'][:12]}. Left out: "
    lines = [
        f"# {spec['name']}: {', '.join(spec['labels']) or 'measures and words'}",
        "",
        DESCRIPTION[spec["what"]].format(**spec, unchanged=_unchanged(metrics)),
        "",
        "    emoreason explain photo.jpg --model " + shlex.quote(out.as_posix()),
        "",
        "## Data",
        "",
        data + (", ".join(f"{n} {why}" for why, n in metrics["left_out"].items()) or "nothing") + ".",
        "",
        *(_label_sections(spec["labels"], metrics) if "after" in metrics else _face_counts(metrics)),
        *(
            ["", "## Action units, valence, arousal", "", measures_table(metrics["measures"])]
            if "measures" in metrics
            else []
        ),
        *(["", "## Words", "", metrics["words"]["told"], "", *metrics["words"]["table"]] if "words" in metrics else []),
        "",
        "## Licence and use",
        "",
        "The faces keep the licence of their data set, which may not allow every use of a model trained on them. "
        f"The terms of `{spec['base']}` apply too. `emoreason models show mini` lists those of the mini, including "
        "Gemma's terms of use for its language model.",
        "",
        POLICY,
        "",
    ]
    return "\n".join(lines)


def _unchanged(metrics: Mapping[str, Any]) -> str:
    """The outputs that still come from the base model when only a head was trained."""
    units, words = metrics.get("measures", {}).get("action_units"), "words" in metrics
    outputs = ["other action units" if units else "action units", *(() if words else ("explanations",))]
    return f"{', '.join(outputs)} and all other labels"


def _face_counts(metrics: Mapping[str, Any]) -> list[str]:
    return ["Faces: " + ", ".join(f"{n} {name}" for name, n in metrics["faces"].items()) + "."]


def _label_sections(labels: Sequence[str], metrics: Mapping[str, Any]) -> list[str]:
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
    """The scores of everything that was trained, as the command prints them at its end."""
    parts = [table(metrics)] if "after" in metrics else []
    parts += [measures_table(metrics["measures"])] if "measures" in metrics else []
    parts += ["\n".join([metrics["words"]["told"], "", *metrics["words"]["table"]])] if "words" in metrics else []
    return "\n\n".join(parts)


def table(metrics: Mapping[str, Any]) -> str:
    """Scores before and after on the same faces, in percent with bootstrap intervals."""
    after = metrics["after"]
    lines = [
        f"| {after['n']} faces | before (zero-shot) | after |",
        "| --- | --- | --- |",
        *score_rows(metrics["before"], after),
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
    return "\n".join([*lines, "", majority(after)])


def score_rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The table rows in percent."""
    rows = (("accuracy (WAR)", "accuracy"), ("UAR", "uar"), ("macro-F1", "macro_f1"))
    return [f"| {name} | {interval(before[key])} | {interval(after[key])} |" for name, key in rows]


def majority(after: Mapping[str, Any]) -> str:
    """The majority baseline, and what the brackets mean."""
    label, accuracy = after["majority"]["label"], after["majority"]["accuracy"]
    few = f" {after['n']} faces say little about calibration (ECE)." if after["n"] < FEW_ROWS and "ece" in after else ""
    return f"Always *{label}* would be right in {100 * accuracy:.1f} %. In brackets: 95 % bootstrap intervals.{few}"


def interval(figure: Mapping[str, float]) -> str:
    return f"{100 * figure['value']:.1f} % [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def _recall(metrics: Mapping[str, Any], when: str, label: str) -> str:
    recall = metrics[when]["per_class"][label]["recall"]
    return "–" if recall is None else f"{100 * recall:.0f} %"
