"""Tables and summaries that commands print to stdout."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoreason.core.probabilities import percent

if TYPE_CHECKING:
    from rich.console import Console

    from emoreason.analysis import Analysis, FaceAnalysis
    from emoreason.explain.explanation import Explanation


def stdout() -> "Console":
    """A console that keeps long lines when the output goes to a file."""
    from rich.console import Console

    # Labels and paths come from users, so print "[bold]" and ":smile:" as they are.
    width = None if sys.stdout.isatty() else 120
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def print_analysis(analysis: "Analysis") -> None:
    console, (width, height) = stdout(), analysis.picture.image.size
    n = len(analysis.faces)
    console.print(f"{analysis.picture.source}: {width}×{height}, {n} face{'' if n == 1 else 's'}", soft_wrap=True)
    if not analysis.faces:
        console.print("No face was found. If the picture is a tight face crop, add --no-detect.")
    for face in analysis.faces:
        _print_face(console, face)


def _print_face(console: "Console", analysis: "FaceAnalysis") -> None:
    from rich.table import Table

    evidence, face = analysis.evidence, analysis.face
    position = "the whole picture" if face.box is None else "at x {}, y {}, {}×{}".format(*face.box)
    head = f"\nface {face.face_id} ({position}): "
    if evidence.abstained:
        console.print(f"{head}no answer, {evidence.why}")
    else:
        note = "calibrated" if evidence.calibrated else "estimated"
        console.print(f"{head}{evidence.label}, {percent(evidence.confidence)} ({note})")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for label, p in sorted(evidence.probabilities.items(), key=lambda item: -item[1])[:8]:
        table.add_row(label, f"{percent(p):>8}", "█" * round(30 * p) or "▏")
    console.print(table)
    for attribute, line in analysis.described():
        console.print(f"{attribute.title}: {line}" if attribute.title else line)
    for text in evidence.notes:
        console.print(f"note: {text}", soft_wrap=True)
    if (measured := analysis.measured) is not None:
        console.print(f"the evidence alone: {measured.label}, {percent(measured.confidence)}")
    if analysis.explanation is not None:
        _print_explanation(console, analysis.explanation)


ROUTES = {"model": "written by the language model", "retried": "the language model's second try",
          "written": "in the built-in words"}  # fmt: skip


def _print_explanation(console: "Console", explanation: "Explanation") -> None:
    console.print()
    console.print(explanation.short)
    if (own := explanation.reasoned) is not None:
        agreement = "agrees with" if explanation.agreement else "differs from"
        console.print(f"the language model's own verdict, before it saw a label: {own.label}, "
                      f"{percent(own.probabilities[own.label])}; it {agreement} the evidence")  # fmt: skip
    if explanation.unchecked:
        console.print("not checked: the text does not have the three sections that can be compared with the evidence")
        return
    for problem in explanation.checks.problems():
        console.print(f"check failed: {problem}")
    if explanation.checks.ok:
        console.print(f"checked: every statement matches the evidence ({ROUTES[explanation.checks.route]})")


def print_report(report: dict[str, Any], folder: Path) -> None:
    """Print the headline of an evaluation and the path of the full report."""
    console = stdout()
    console.print((folder / "report.md").read_text(encoding="utf-8").split("\n## ", 2)[0].strip(), soft_wrap=True)
    console.print(f"\nFull report: {folder / 'report.md'}", soft_wrap=True)


def print_models() -> None:
    from rich.table import Table

    from emoreason.models.registry import list_models

    columns = ("model", "kind", "labels", "accuracy", "UAR", "measured on", "base", "size")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for model in list_models():
        labels = f"{len(model.labels)}: {', '.join(model.labels[:2])}{', …' if len(model.labels) > 2 else ''}"
        labels = labels if model.labels else "of the base"
        accuracy, uar = ("–" if figure is None else f"{figure:.1f} %" for figure in (model.accuracy, model.uar))
        size = f"{model.bytes / 1e6:.1f} MB" if model.bytes >= 1e5 else f"{model.bytes / 1e3:.0f} kB"
        table.add_row(model.name, model.kind, labels, accuracy, uar, model.measured_on, model.base, size)
    stdout().print(table)
    stdout().print("You can also use any open_clip model: --model ViT-L-14/openai")
