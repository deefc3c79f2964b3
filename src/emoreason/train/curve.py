"""Draws loss.png: the losses of a run over its steps or epochs."""

import io
from collections.abc import Mapping, Sequence

from emoreason.evaluate.plots import BLUE, GREY, VERMILION

COLOURS = (BLUE, VERMILION, "#009E73")
FEW_POINTS = 10
Point = tuple[float, float]


def draw(lines: Mapping[str, Sequence[Point]], x: str, y: str, kept: int | None = None) -> bytes:
    """Plot the lines as a PNG. lines: name -> points; kept: the step or epoch whose weights were kept."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6, 3.6))
    axes = figure.add_subplot()
    for (name, points), colour in zip(lines.items(), COLOURS, strict=False):
        if points:
            marker = "o" if len(points) < FEW_POINTS else None  # a line through a single point would be invisible
            axes.plot(*zip(*points, strict=True), color=colour, label=name, marker=marker, markersize=4)
    if kept is not None:
        axes.axvline(kept, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), label=f"kept: {x} {kept}")
    axes.set(xlabel=x, ylabel=y, ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(axes.lines) > 1:
        axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return picture.getvalue()
