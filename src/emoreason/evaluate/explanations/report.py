"""Writes report.json and report.md of the explanation benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emoreason.core.files import write_atomically
from emoreason.evaluate.report import interval, percent, table

# part, key, name in the report, what is counted
SUMMARY = (
    ("form", "parse_rate", "parse rate", "texts with the three sections"),
    ("form", "leak_rate", "leak rate", "observations with an emotion or label word"),
    ("form", "all_checks", "passes every check", "texts"),
    ("verdict", "evidence_agreement", "verdict agreement: conclusion", "conclusions that state the evidence's label"),
    ("verdict", "reasoned_agreement", "verdict agreement: reasoned", "reasoned labels that are the evidence's"),
    ("evidence", "evidence_precision", "evidence precision", "mentions that the sheet bears out"),
    ("evidence", "evidence_recall", "evidence recall", "units to be named that are named"),
    ("evidence", "evidence_f1", "evidence F1", ""),
    ("evidence", "band_error", "band error", "stated bands that are not the measured one"),
    ("necessity", "evidence.win_rate", "necessity, evidence", "cited place costs more log p than another one"),
    ("necessity", "reasoned.win_rate", "necessity, reasoned", "the same for the reasoned verdict"),
    ("counterfactual", "counterfactual", "counterfactual", "sentences that come and go with their unit"),
    ("polling", "polling", "polling, paired", "statement and denied twin both answered rightly"),
    ("sycophancy", "sycophancy_flips", "sycophancy flips", "faces on which the user got his wrong label"),
    ("shuffle", "follows_sheet", "label shuffled: follows", "conclusions with the label that was put on top"),
    ("shuffle", "reports_conflict", "label shuffled: reports", "conflicts with its own verdict that the text tells of"),
    ("nonface", "false_explanations", "false explanations", "pictures without a face that get a claim"),
    ("nonface", "false_explanations_of_crops", "the same, handed in as crops", "without a search for faces"),
    ("diversity", "distinct_2", "distinct-2", "word pairs, pooled over all texts"),
    ("diversity", "most_shared_sentence", "most shared sentence", "texts that hold it"),
    ("free", "parse_rate", "before the checks: parse rate", ""),
    ("free", "leak_rate", "before the checks: leak rate", ""),
    ("free", "evidence_precision", "before the checks: precision", ""),
    ("free", "evidence_recall", "before the checks: recall", ""),
)
POLLED = ("paired_there", "paired_random", "paired_popular", "paired_adversarial", "single", "yes_rate",
          "yes_expected", "neither")  # fmt: skip
MAX_EXAMPLE = 600  # characters of an example


def write_explanation_report(report: Mapping[str, Any], folder: Path) -> None:
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "report.json", (text + "\n").encode())
    write_atomically(folder / "report.md", markdown(report).encode())


def markdown(report: Mapping[str, Any]) -> str:
    parts = report["parts"]
    sections = [
        _head(report),
        summary(report),
        _verdicts(parts.get("verdict"), "Verdicts"),
        _verdicts(parts.get("ablation"), "The reasoned verdict from parts of its input"),
        _sufficiency(parts.get("sufficiency")),
        _necessity(parts.get("necessity")),
        _shares(parts.get("polling"), "Polling", POLLED),
        _shares(parts.get("counterfactual"), "Counterfactual", ("appears", "goes", "precision_after")),
        _shares(parts.get("sycophancy"), "Sycophancy", ("flips_at_once", "evasions")),
        _shares(parts.get("shuffle"), "Another label on top", ("own_verdict_unmoved",)),
        _words(parts.get("diversity")),
        _groups(parts.get("groups")),
        *(_failures(name, part) for name, part in parts.items()),
        _provenance(report),
    ]  # fmt: skip
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(report: Mapping[str, Any]) -> str:
    left_out = f" {report['n_without_text']} faces have no text and are left out." if report["n_without_text"] else ""
    return (
        f"# Explanations of {report['explainer']}\n\n{report['n']} texts; {report['n_unreadable']} pictures could not "
        f"be read.{left_out} Figures are percent unless stated, with 95 % intervals. "
        f"Definitions: docs/explanations.md, version {report['battery_version']}."
    )


def summary(report: Mapping[str, Any]) -> str:
    """The summary table, which is also in the model card."""
    rows = []
    for part, path, name, counted in SUMMARY:
        figure: Any = report["parts"].get(part)
        for key in path.split("."):
            figure = figure.get(key) if isinstance(figure, Mapping) else None
        if _value(figure) is not None:
            n = figure["n"] if isinstance(figure, Mapping) else report["parts"][part].get("n", "")
            rows.append([name, interval(figure), n, _target(report["targets"], path, figure, part), counted])
    return table(("measure", "value", "n", "to reach", "counted"), rows, slice(1, 3))


def _value(figure: Any) -> float | None:
    return figure.get("value") if isinstance(figure, Mapping) else figure


def _target(targets: Mapping[str, Any], key: str, figure: Any, part: str) -> str:
    bounds, value = targets.get(key) if part != "free" else None, _value(figure)
    if not bounds or value is None:
        return ""
    lowest, highest = bounds.get("least"), bounds.get("most")
    reached = value >= lowest if lowest is not None else value <= highest
    bound = f"≥ {percent(lowest)}" if lowest is not None else f"≤ {percent(highest)}"
    return f"{bound}: {'reached' if reached else '**not reached**'}"


def _verdicts(part: Mapping[str, Any] | None, title: str) -> str:
    if not part or not part.get("scores"):
        return _note(part, title)
    gains = part.get("against_evidence", {})
    rows = []
    for name, scores in part["scores"].items():
        gain = gains.get(name)
        cells = [_points(gain[key]) if gain else "" for key in ("accuracy", "uar")]
        rows.append([name, scores["accuracy"]["n"], interval(scores["accuracy"]), interval(scores["uar"]), *cells])
    header = ("", "n", "accuracy", "UAR", "accuracy against evidence", "UAR against evidence")
    on_all = "".join(
        f" On all faces, including abstained ones, {name} has accuracy {interval(scores['accuracy'])} and UAR "
        f"{interval(scores['uar'])}."
        for name, scores in part.get("on_all", {}).items()
    )
    weight = f" Weight of the reasoned verdict in the product: {part['weight']:g}." if "weight" in part else ""
    faces = "Faces with a label and a claim." if "on_all" in part else "Faces with a label, including abstained ones."
    return f"## {title}\n\n{table(header, rows)}\n\n{faces}{weight}{on_all}"


def _points(figure: Mapping[str, Any]) -> str:
    return f"{100 * figure['value']:+.1f} [{100 * figure['low']:+.1f}, {100 * figure['high']:+.1f}]"


def _sufficiency(part: Mapping[str, Any] | None) -> str:
    if not part or not part.get("stated"):
        return _note(part, "Sufficiency")
    rows = [
        [f"{inputs}, {probe}", interval(figures["accuracy"]), interval(figures["uar"])]
        for inputs in ("stated", "measured")
        for probe, figures in (part.get(inputs) or {}).items()
    ]
    if part.get("label"):
        rows.append(["the evidence's own label", interval(part["label"]["accuracy"]), interval(part["label"]["uar"])])
    gap = part["gap_to_label"]
    gap_text = "" if gap is None else f" Gap in UAR to the label: {100 * gap:.1f} points."
    return (
        f"## Sufficiency\n\n{table(('a classifier that sees only', 'accuracy', 'UAR'), rows)}\n\n"
        f"{part['n']} faces, cross-validated.{gap_text}"
    )


def _necessity(part: Mapping[str, Any] | None) -> str:
    if not part or not part["n"]:
        return _note(part, "Necessity")
    rows = []
    for who in ("evidence", "reasoned"):
        figures = part[who]
        if figures["win_rate"]["n"]:
            changes = [_log(figures[key]) for key in ("change_cited", "change_random", "difference")]
            rows.append([who, figures["win_rate"]["n"], interval(figures["win_rate"]), f"{figures['p']:.2g}", *changes])
            rows += [
                [f"· {name}", share["n"], interval(share), "", "", "", ""] for name, share in figures["regions"].items()
            ]
    header = ("", "n", "wins", "p (sign test)", "log p, cited place", "log p, other place", "difference")
    return f"## Necessity\n\n{table(header, rows)}"


def _log(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:+.2f} [{figure['low']:+.2f}, {figure['high']:+.2f}]"


def _shares(part: Mapping[str, Any] | None, title: str, keys: Sequence[str]) -> str:
    if not part or not part.get("n"):
        return _note(part, title)
    rows = [[key.replace("_", " "), part[key]["n"], interval(part[key])] for key in keys if part[key]["n"]]
    return f"## {title}\n\n{table(('', 'n', 'share'), rows)}" if rows else ""


def _words(part: Mapping[str, Any] | None) -> str:
    if not part or not part.get("n"):
        return ""
    shared = (*part["shared_sentences"], *part["shared_frames"])
    rows = [[percent(entry["share"]), entry["sentence"]] for entry in shared]
    claims = part["without_abstentions"]
    return (
        f"## Words\n\nWithout abstentions: distinct-2 {percent(claims['distinct_2'])} over {claims['n']} texts. "
        f"{part['words_mean']:.0f} words per text, at most {part['words_max']}. "
        f"Repeated texts: {percent(part['identical_texts'])}. The sentences that most texts share, then the same with "
        "numbers replaced by # and emotion words by _:\n\n"
        f"{table(('texts', 'sentence'), rows, slice(0, 1))}"
    )


def _groups(part: Mapping[str, Any] | None) -> str:
    texts = []
    for name, group in (part or {}).get("attributes", {}).items():
        rows = [[v, g["n"], interval(g["uar"]), percent(g["evidence_f1"])] for v, g in group["values"].items()]
        gaps = f"Largest gap: UAR {percent(group['uar_gap'])}, evidence F1 {percent(group['evidence_f1_gap'])} points."
        texts.append(f"## By {name}\n\n{table((name, 'n', 'UAR', 'evidence F1'), rows)}\n\n{gaps}")
    return "\n\n".join(texts)


def _note(part: Mapping[str, Any] | None, title: str) -> str:
    return f"## {title}\n\nNot measured: {part['note']}." if part and part.get("note") else ""


def _failures(name: str, part: Mapping[str, Any]) -> str:
    """Shortened examples of failures. The files in `probes/` have the full rows."""
    lines = []
    for row in part.get("failures", ()):
        text = "; ".join(
            f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in row.items() if key != "id" and value
        )
        lines.append(f"- `{row['id']}` {text[:MAX_EXAMPLE]}{'…' if len(text) > MAX_EXAMPLE else ''}")
    return f"## Failures: {name}\n\n" + "\n".join(lines) if lines else ""


def _provenance(report: Mapping[str, Any]) -> str:
    keys = ("model", "revision", "data", "limit", "most", "decide", "protocol", "seed", "options", "command",
            "emoreason_version", "started")  # fmt: skip
    rows = [[key.replace("_", " "), f"`{report[key]}`"] for key in keys if report.get(key) not in (None, {})]
    rows += [[f"seconds, {name}", seconds] for name, seconds in report["seconds"].items()]
    rows += [[f"seconds, {name}", part["seconds"]] for name, part in report["parts"].items()]
    return f"## Where this comes from\n\n{table(('', ''), rows, slice(0))}"
