"""Writes report.json, report.md and robustness.png of an evaluation of robustness."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emoreason.core.files import write_atomically
from emoreason.evaluate.report import interval, percent, table

FILES = ("report.json", "report.md", "robustness.png")


def write_robustness_report(report: Mapping[str, Any], folder: Path) -> None:
    from emoreason.evaluate import plots  # slow: imports matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:  # a plot of another run does not match the new figures
        (folder / name).unlink(missing_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "report.json", (text + "\n").encode())
    write_atomically(folder / "report.md", markdown(report).encode())
    if len(report["conditions"]) > 1:
        write_atomically(folder / "robustness.png", plots.robustness(report))


def markdown(report: Mapping[str, Any]) -> str:
    sections = [_head(report), _summary(report), _nonfaces(report), _conditions(report), _provenance(report)]
    return "\n\n".join(section for section in sections if section) + "\n"


def by_corruption(report: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The conditions of each corruption, by severity."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in report["conditions"][1:]:
        groups.setdefault(row["corruption"], []).append(row)
    return groups


def _head(report: Mapping[str, Any]) -> str:
    limited = f", a random {report['limit']} of its samples" if report["limit"] else ""
    unsure = "" if report["calibrated"] else " The model has no threshold for these labels: it abstains for no doubt."
    n = report["n_unreadable"]
    unread = f" {n} pictures cannot be read and count as wrong answers:" if n else ""
    unread += "".join(f"\n- {count} × {message}" for message, count in report["errors"])
    return (
        f"# Robustness: {report['model']}\n\n{report['n']} faces of {report['data'] or 'the data'}, split "
        f"`{report['split'] or 'all'}`{limited}; protocol `{report['protocol']}` where there are votes. "
        f"All figures but ECE are percent.{unsure}{unread}"
    )


def _summary(report: Mapping[str, Any]) -> str:
    """Accuracy by severity, and means over the severities."""
    means = (("accuracy", percent), ("ece", _decimals), ("abstained", percent), ("false_sentences", percent))
    groups = by_corruption(report)
    most = max((len(rows) for rows in groups.values()), default=0)
    lines = []
    for name, rows in (("**clean**", report["conditions"][:1]), *groups.items()):
        accuracies = [percent(row["accuracy"]["value"]) for row in rows] if name in groups else []
        summary = [write(_mean([_value(row[key]) for row in rows])) for key, write in means]
        lines.append([name, *accuracies, *[""] * (most - len(accuracies)), *summary])
    severities = [f"severity {s}" for s in range(1, most + 1)]
    drawn = table(("accuracy", *severities, "mean", "mean ECE", "abstained", "false sentences"), lines)
    return drawn + ("\n\n![robustness](robustness.png)" if groups else "")


def _nonfaces(report: Mapping[str, Any]) -> str:
    rows = [
        [row["kind"], row["n"], row["n_unreadable"], percent(row["confident"]), percent(row["confidence"])]
        for row in report["nonfaces"]
    ]
    if not rows:
        return ""
    drawn = table(("pictures without a face", "n", "unreadable", "confident answers", "mean confidence"), rows)
    return f"Pictures without an upright face, taken as face crops. Confident: the model does not abstain.\n\n{drawn}"


def _conditions(report: Mapping[str, Any]) -> str:
    rows = [
        [
            row["corruption"],
            row["severity"] or "",
            row["n"],
            *(interval(row[key]) for key in ("accuracy", "uar")),
            _decimals(row["ece"]),
            *(percent(row[key]) for key in ("abstained", "confidence")),
            row["n_no_answer"],
            row["n_covered"],
            *(percent(row[key]) for key in ("false_sentences", "false_units")),
        ]
        for row in report["conditions"]
    ]
    header = ("corruption", "severity", "n", "accuracy (WAR)", "UAR", "ECE", "abstained", "mean confidence",
              "no answer", "covered faces", "false sentences", "false units")  # fmt: skip
    return f"## All figures\n\nWith 95 % bootstrap intervals.\n\n{table(header, rows)}"


def _provenance(report: Mapping[str, Any]) -> str:
    keys = ("model", "model_hash", "labels", "data", "data_hash", "n_read", "n_left_out", "seed", "command",
            "emoreason_version", "started", "seconds")  # fmt: skip
    rows = [[key.replace("_", " "), f"`{report[key]}`"] for key in keys if report[key] is not None]
    rows += [[key, f"`{value}`"] for key, value in report["settings"].items()]
    rows.append(["benchmark", f"`robustness` version {report['benchmark_version']}"])
    return f"## Where this comes from\n\n{table(('', ''), rows, slice(0))}"


def _value(figure: Any) -> float | None:
    return figure["value"] if isinstance(figure, Mapping) else figure


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _decimals(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
