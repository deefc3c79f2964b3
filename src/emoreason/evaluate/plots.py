"""Draws the pictures of the reports as PNG bytes. Blue and vermilion of Okabe and Ito suit colour-blind readers."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREY, INK = "#0072B2", "#D55E00", "#8A8A8A", "#333333"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "savefig.dpi": 150,
}


def _as_png(draw: Callable[[Mapping[str, Any]], Figure]) -> Callable[[Mapping[str, Any]], bytes]:
    """Decorator: draws the report and returns a PNG. Without pyplot, so there is no global state and no display."""

    @functools.wraps(draw)
    def png(report: Mapping[str, Any]) -> bytes:
        import matplotlib

        buffer = io.BytesIO()
        with matplotlib.rc_context(STYLE), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # the font may lack the script of a label
            draw(report).savefig(
                buffer, format="png", bbox_inches="tight", pad_inches=0.15, metadata={"Software": None}
            )
        return buffer.getvalue()

    return png


@_as_png
def confusion(report: Mapping[str, Any]) -> Figure:
    """The confusion matrix. Rows are targets and sum to 100 % with missing answers; counts are below the percents."""
    labels = [label if len(label) <= 30 else f"{label[:29]}…" for label in report["labels"]]
    counts = np.array(report["confusion"]["counts"], dtype=float)
    missing = np.array(report["confusion"]["no_answer"], dtype=float)
    columns = list(labels)
    if missing.sum():
        counts, columns = np.column_stack([counts, missing]), [*labels, "no answer"]
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)

    figure, axes = _figure(2.4 + 0.68 * len(columns), 1.9 + 0.56 * len(labels))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), share in np.ndenumerate(shares):
        if counts[i, j]:
            colour = "white" if share > 0.55 else INK
            number = f"{counts[i, j]:.0f}" if counts[i, j] >= 0.5 else "<1"
            axes.text(j, i - 0.12, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=9.5)
            axes.text(j, i + 0.24, number, ha="center", va="center", color=colour, fontsize=6.5, alpha=0.85)
    with_totals = [f"{label}  ({total:.0f})" for label, total in zip(labels, totals[:, 0], strict=True)]
    axes.set_yticks(range(len(labels)), with_totals)
    axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(labels) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("answer")
    axes.set_ylabel("target (faces)")
    _title(axes, report, "percent of the row, count below")
    return figure


@_as_png
def reliability(report: Mapping[str, Any]) -> Figure:
    """Accuracy against confidence per bin, with each gap at the bin's mean confidence; below, the share of answers."""
    bins = [b for b in report["reliability"] if b["n"]]
    middle = np.array([(b["low"] + b["high"]) / 2 for b in bins])
    width = 0.94 * (bins[0]["high"] - bins[0]["low"])
    accuracy = np.array([b["accuracy"] for b in bins])
    confidence = np.array([b["confidence"] for b in bins])
    n = np.array([b["n"] for b in bins])

    figure, axes = _figure(5.0, 4.6)
    below = axes.inset_axes((0.0, -0.27, 1.0, 0.2))
    axes.bar(middle, accuracy, width, color=BLUE, alpha=0.28)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated")
    axes.vlines(confidence, confidence, accuracy, color=VERMILION, linewidth=2, label="gap")
    axes.plot(confidence, accuracy, "o", color=BLUE, markersize=5, label="accuracy")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    axes.tick_params(labelbottom=False)
    axes.legend(loc="upper left")
    below.bar(middle, n / n.sum(), width, color=GREY)
    below.set(xlim=(0, 1), xlabel="confidence", ylabel="share")
    axes.yaxis.set_label_coords(-0.1, 0.5)
    below.yaxis.set_label_coords(-0.1, 0.5)
    _title(
        axes,
        report,
        f"ECE {report['ece']:.3f} over {report['n_probabilities']} answers, {len(report['reliability'])} bins",
    )
    return figure


@_as_png
def risk_coverage(report: Mapping[str, Any]) -> Figure:
    """The error rate against the share of faces that are answered, most confident first."""
    coverage = np.array([point["coverage"] for point in report["risk_coverage"]])
    risk = np.array([point["risk"] for point in report["risk_coverage"]])
    selective, own = report["selective"], report["abstention"]

    figure, axes = _figure(5.4, 3.9)
    axes.plot(coverage, risk, color=BLUE, linewidth=1.8)
    axes.fill_between(coverage, risk, color=BLUE, alpha=0.10, linewidth=0)
    majority = 1 - report["majority"]["accuracy"]
    axes.set(xlim=(0, 1), xlabel="coverage: share of faces answered, most confident first", ylabel="error among them")
    axes.set_ylim(0, 1.35 * max(risk.max(), 1e-2))
    if majority < axes.get_ylim()[1]:
        axes.axhline(majority, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.text(0.99, majority, f"always {report['majority']['label']} ", va="bottom", ha="right", fontsize=8)
    points = [("o", VERMILION, "", selective)]
    if own["n"] and own["accuracy"] is not None:
        points.append(("D", INK, "its own threshold: ", own))
    for marker, colour, name, point in points:
        text = f"{name}{100 * point['accuracy']:.1f} % right at {100 * point['coverage']:.0f} % coverage"
        axes.plot([point["coverage"]], [1 - point["accuracy"]], marker, color=colour, markersize=6, label=text)
    axes.legend(loc="upper left", handletextpad=0.2)
    _title(axes, report, f"AURC {report['aurc']:.4f}, {report['n']} faces")
    return figure


@_as_png
def robustness(report: Mapping[str, Any]) -> Figure:
    """Accuracy, ECE and false sentences against severity, a small plot for each corruption; severity 0 is clean."""
    from matplotlib.figure import Figure

    clean, *conditions = report["conditions"]
    kinds = list(dict.fromkeys(row["corruption"] for row in conditions))
    columns = min(5, len(kinds))
    lines = -(-len(kinds) // columns)
    figure = Figure(figsize=(0.8 + 2.1 * columns, 0.9 + 1.8 * lines))
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, kind in zip(axes, kinds, strict=False):
        rows = [row for row in conditions if row["corruption"] == kind]
        severity = [0, *(row["severity"] for row in rows)]
        false = [row for row in rows if row["false_sentences"] is not None]
        axis.axhline(clean["accuracy"]["value"], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        axis.plot(severity, [row["accuracy"]["value"] for row in (clean, *rows)], "o-", color=BLUE, markersize=3.5)
        axis.plot(severity, [_or_nan(row["ece"]) for row in (clean, *rows)], "o-", color=VERMILION, markersize=3.5)
        axis.plot([r["severity"] for r in false], [r["false_sentences"] for r in false], "x:", color=INK, markersize=4)
        axis.set(xlim=(-0.3, 5.3), ylim=(0, 1.02), xticks=range(6))
        axis.set_title(kind, fontsize=9.5, pad=4)
    for axis in axes[len(kinds) :]:
        axis.set_visible(False)
    names = {"accuracy, clean": (GREY, "--"), "accuracy": (BLUE, "o-"), "ECE": (VERMILION, "o-"),
             "false sentences": (INK, "x:")}  # fmt: skip
    handles = [axes[0].plot([], [], style, color=colour, label=name)[0] for name, (colour, style) in names.items()]
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=4)
    figure.supxlabel("severity", fontsize=9, y=0.035)
    title = f"{report['model']}: {report['n']} faces, clean and corrupted"
    figure.suptitle(title, fontsize=10.5, fontweight="bold", x=0.02, ha="left")
    figure.tight_layout()
    return figure


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def _title(axes: Axes, report: Mapping[str, Any], detail: str) -> None:
    where = f"{report['benchmark']}, {report['split'] or 'all'}, {report['protocol']}"
    axes.set_title(f"{report['model'] or 'unnamed model'} on {where}\n", loc="left", fontsize=10.5, fontweight="bold")
    axes.annotate(detail, (0, 1), (0, 7), "axes fraction", "offset points", fontsize=8.5, color="#666666")
