"""Writes report.json, report.md and the pictures of one evaluation, all from the report dictionary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emoreason.core.files import write_atomically
from emoreason.evaluate.score import COVERAGE, MIN_CELL, MIN_GROUP


def write_report(report: Mapping[str, Any], out: Path) -> None:
    from emoreason.evaluate import plots  # slow: imports matplotlib

    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(out / "report.json", (text + "\n").encode())
    write_atomically(out / "report.md", markdown(report).encode())
    write_atomically(out / "confusion.png", plots.confusion(report))
    if report["reliability"]:
        write_atomically(out / "reliability.png", plots.reliability(report))
        write_atomically(out / "risk_coverage.png", plots.risk_coverage(report))


def markdown(report: Mapping[str, Any]) -> str:
    parts = [
        _head(report),
        _scores(report),
        _counts(report),
        _classes(report),
        _calibration(report),
        *(_group(name, group) for name, group in report["groups"].items()),
        _anchors(report),
        _provenance(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def interval(figure: Any, digits: int = 1) -> str:
    """A figure in percent, with its interval if it has one."""
    if not isinstance(figure, Mapping):
        return percent(figure, digits)
    if figure["value"] is None:
        return "–"
    return f"{percent(figure['value'], digits)} [{percent(figure['low'], digits)}, {percent(figure['high'], digits)}]"


def table(header: Sequence[str], rows: Sequence[Sequence[object]], numbers: slice = slice(1, None)) -> str:
    """A Markdown table. `numbers`: the columns that are aligned to the right."""
    rule = ["---"] * len(header)
    rule[numbers] = ["---:"] * len(rule[numbers])
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _head(report: Mapping[str, Any]) -> str:
    expected = (
        " Accuracy is the expected accuracy: the probability that a random annotator agrees with the answer. "
        f"Answering every face with its most voted emotion would reach {percent(report['ceiling'])}."
        if report["protocol"] == "probability"
        else ""
    )
    unfinished = (
        "" if report["finished"] in (True, None) else "\n\n**The run was stopped early: these are its first rows.**"
    )
    limited = f", a random {report['limit']} of its samples" if report["limit"] else ""
    return (
        f"# {report['title']}: {report['model'] or 'unnamed model'}\n\n"
        f"Protocol `{report['protocol']}`, split `{report['split'] or 'all'}`{limited}. "
        f"All figures are percent unless stated; 95 % bootstrap intervals.{expected}{unfinished}"
    )


def _scores(report: Mapping[str, Any]) -> str:
    detected, majority, chance = report["detected"], report["majority"], report["chance"]
    rows = [
        ["**all faces**", report["n"], *(f"**{interval(report[key])}**" for key in ("accuracy", "uar", "macro_f1"))]
    ]
    if detected:
        found = [interval(detected[key]) for key in ("accuracy", "uar", "macro_f1")]
        rows.append(["only where a face was found", detected["n"], *found])
    line = [percent(majority[key]) for key in ("accuracy", "uar", "macro_f1")]
    rows.append([f"always {majority['label']}", report["n"], *line])
    rows.append(["chance", report["n"], percent(chance["accuracy"]), percent(chance["uar"]), "–"])
    return table(("", "n", "accuracy (WAR)", "UAR", "macro-F1"), rows)


def _counts(report: Mapping[str, Any]) -> str:
    text = (
        f"{report['n_read']} samples read, {report['n_left_out']} left out by the protocol, {report['n']} count: "
        f"{report['n_scored']} answered and {report['n_failed']} failed "
        f"({report['n_no_face']} no face, {report['n_error']} errors, {report['n_unparsable']} unparsable). "
        "A failure counts as a wrong answer. It is never mapped to a label and never dropped from n."
    )
    if report["n_unreadable"]:
        text += f" {report['n_unreadable']} of the samples left out could not be read at all."
    for message, count in report["errors"]:
        text += f"\n- {count} × {message}"
    return text


def _classes(report: Mapping[str, Any]) -> str:
    rows = [
        [
            label,
            _count(c["support"]),
            _count(c["predicted"]),
            *(percent(c[key]) for key in ("precision", "recall", "f1")),
        ]
        for label, c in report["per_class"].items()
    ]
    drawn = table(("label", "faces", "answered", "precision", "recall", "F1"), rows)
    return f"## Per label\n\n{drawn}\n\n![confusion matrix](confusion.png)"


def _count(value: float) -> str:
    return f"{value:d}" if isinstance(value, int) else f"{value:.1f}"


def _calibration(report: Mapping[str, Any]) -> str:
    if not report["n_probabilities"]:
        return "## Calibration\n\nNot measured: the model gives no probabilities."
    selective, own = report["selective"], report["abstention"]
    rows = [
        ["ECE, 15 equal-width bins", _number(report["ece"])],
        ["ECE, 15 bins of equal count", _number(report["ece_adaptive"])],
        ["Brier (0 to 2)", _number(report["brier"])],
        ["negative log likelihood (nats)", _number(report["nll"])],
        ["AUROC of confidence for right against wrong", _number(report["auroc"])],
        ["AURC (area under risk-coverage)", _number(report["aurc"])],
        [f"accuracy at {COVERAGE:.0%} coverage", percent(selective["accuracy"]) + " %"],
        [f"accuracy where it did not abstain ({percent(own['coverage'])} % of all)", percent(own["accuracy"]) + " %"],
    ]
    if report["n_votes"]:
        rows += [
            [f"KL(votes ‖ p), nats, {report['n_votes']} faces", _number(report["kl"])],
            ["Jensen-Shannon, nats", _number(report["js"])],
            ["cross-entropy against the votes, nats", _number(report["soft_cross_entropy"])],
            ["answer among the two most voted emotions", percent(report["top2_hit"]) + " %"],
        ]
    return (
        f"## Calibration\n\nOver the {report['n_probabilities']} answers with probabilities.\n\n"
        f"{table(('', 'value'), rows)}\n\n![reliability](reliability.png)\n![risk and coverage](risk_coverage.png)"
    )


def _group(name: str, group: Mapping[str, Any]) -> str:
    rows = [[value, v["n"], interval(v["accuracy"]), interval(v["uar"])] for value, v in group["values"].items()]
    text = f"## By {name}\n\n{table((name, 'n', 'accuracy (WAR)', 'UAR over its own labels'), rows)}\n\n"
    if group["uar_gap"] is None:
        return (
            text + f"No gap: fewer than two groups have {MIN_GROUP} faces, or no label has {MIN_CELL} in each of them."
        )
    gaps = ", ".join(f"{label} {percent(gap)}" for label, gap in group["tpr_gap"].items())
    return text + (
        f"Largest difference between groups of {MIN_GROUP} or more faces, over the labels with {MIN_CELL} faces in "
        f"each ({', '.join(group['compared'])}): UAR {percent(group['uar_gap'])} points. Recall per label: {gaps}."
    )


def _anchors(report: Mapping[str, Any]) -> str:
    """Published figures and ours, best accuracy first, always with the UAR beside the accuracy."""
    if not report["anchors"]:
        return "## Beside published figures\n\nThere are none with a source that we could read."
    own = {
        "accuracy": report["accuracy"]["value"],
        "uar": report["uar"]["value"],
        "regime": "",
        "source": "this report",
    }
    majority = {
        **report["majority"],
        "system": f"always {report['majority']['label']}",
        "regime": "",
        "source": "this report",
    }
    place = {"protocol": report["protocol"], "split": report["split"], "note": ""}
    lines: list[dict[str, Any]] = [
        *report["anchors"],
        {**own, **place, "system": f"**{report['model'] or 'this model'}**"},
        {**majority, **place},
    ]
    lines.sort(key=lambda a: (a["accuracy"] is None, -(a["accuracy"] or 0), -(a["uar"] or 0)))
    rows = []
    for line in lines:
        source = line["source"] + (f" ({line['note']})" if line["note"] else "")
        used = f"{line['protocol'] or 'not stated'}, {line['split'] or 'not stated'}"
        rows.append(
            [line["system"], percent(line["accuracy"], 2), percent(line["uar"], 2), line["regime"], used, source]
        )
    drawn = table(("system", "accuracy", "UAR", "regime", "protocol, split", "source"), rows, slice(1, 3))
    return (
        f"## Beside published figures\n\n{drawn}\n\nOnly lines of the same protocol and split can be compared. "
        "[F] read in a file of the source, [I] read from a picture of a table, [X] seen in a search excerpt, "
        "[C] computed from released files, [T] read in a discussion thread, [M] from memory, not verified."
    )


def _provenance(report: Mapping[str, Any]) -> str:
    keys = ("model", "model_hash", "data", "data_hash", "seed", "command", "emoreason_version", "started", "seconds")
    rows = [[key.replace("_", " "), f"`{report[key]}`"] for key in keys if report[key] is not None]
    rows += [[key, f"`{value}`"] for key, value in (report["settings"] or {}).items()]
    rows.append(["benchmark", f"`{report['benchmark']}` version {report['benchmark_version']}"])
    notes = f"{report['note'].strip()}\n\n" if report["note"] else ""
    drawn = table(("", ""), rows, slice(0))
    return f"## Where this comes from\n\n{notes}Data licence: {report['licence'].strip()}\n\n{drawn}"
