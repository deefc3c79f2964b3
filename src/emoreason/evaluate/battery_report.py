"""report.json and report.md of the battery, drawn from the report alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emoreason.evaluate.report import _table as table
from emoreason.evaluate.report import percent, write_atomically

# part, key, what it is called, how it is counted
SUMMARY = (
    ("form", "parse_rate", "parse rate", "texts with the three sections"),
    ("form", "leak_rate", "leak rate", "observations with an emotion or label word"),
    ("form", "all_checks", "texts that pass every check", ""),
    ("verdict", "evidence_agreement", "conclusion = evidence", ""),
    ("verdict", "reasoned_agreement", "reasoned = evidence", ""),
    ("evidence", "evidence_precision", "evidence precision", "mentions that the evidence bears out"),
    ("evidence", "evidence_recall", "evidence recall", "units to be named that are named"),
    ("evidence", "band_error", "band error", "stated bands that are not the measured one"),
    ("diversity", "distinct_2", "distinct-2", "pooled over all texts"),
    ("diversity", "most_shared_sentence", "most shared sentence", "share of the texts that hold it"),
)


def write_battery(report: Mapping[str, Any], folder: Path) -> None:
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "report.json", (text + "\n").encode())
    write_atomically(folder / "report.md", markdown(report).encode())


def markdown(report: Mapping[str, Any]) -> str:
    parts = [_head(report), summary(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(report: Mapping[str, Any]) -> str:
    return (
        f"# Explanations of {report['explainer']}\n\n{report['n']} faces, {report['n_unreadable']} more could not be "
        "read. All figures are percent unless stated, with 95 % intervals. Definitions: docs/explanations.md, "
        f"version {report['battery_version']}."
    )


def summary(report: Mapping[str, Any]) -> str:
    """The table that a model card carries."""
    rows = []
    for part, key, name, how in SUMMARY:
        if part in report["parts"]:
            figure = report["parts"][part].get(key)
            rows.append([name, interval(figure), _n(figure, report["parts"][part]), _target(report, key, figure), how])
    return table(("measure", "value", "n", "to reach", "counted as"), rows, slice(1, 3))


def interval(figure: Any) -> str:
    if isinstance(figure, Mapping):
        if figure["value"] is None:
            return "–"
        return f"{percent(figure['value'])} [{percent(figure['low'])}, {percent(figure['high'])}]"
    return percent(figure)


def _n(figure: Any, part: Mapping[str, Any]) -> str:
    return str(figure["n"] if isinstance(figure, Mapping) else part.get("n", "–"))


def _target(report: Mapping[str, Any], key: str, figure: Any) -> str:
    bounds = report["targets"].get(key)
    value = figure["value"] if isinstance(figure, Mapping) else figure
    if not bounds or value is None:
        return ""
    least, most = bounds.get("least"), bounds.get("most")
    reached = (least is None or value >= least) and (most is None or value <= most)
    sign, bound = ("≥", least) if least is not None else ("≤", most)
    return f"{sign} {percent(bound)}: {'reached' if reached else 'not reached'}"
