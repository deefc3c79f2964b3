"""Prints the result of a data check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from emoreason.data.check import NO_LABEL, Copies, DataReport, SampleProblem
from emoreason.data.schema import label_name

MIN_FACES = 4  # of a label: two to train on, one to choose by, one for the report

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


def render(report: DataReport, limit: int = 5) -> Group:
    """Tables and lines for `rich.print`, with at most `limit` examples of each problem."""
    from rich.console import Group
    from rich.text import Text

    head = (
        f"{report.source} ({report.format}): {report.n:,} samples, {report.voted:,} with votes, {report.seconds:.1f} s"
    )
    parts: list[Text | Table] = [Text(head, style="bold"), _counts(report)]
    parts += [
        Text(f"{name}: " + ", ".join(f"{value} {count:,}" for value, count in values.items()))
        for name, values in report.groups.items()
        if len(values) <= 20
    ]
    lines = [
        *(["measured: " + ", ".join(f"{name} {n:,}" for name, n in report.measured.items())] * bool(report.measured)),
        *_troubles("missing", report.missing, limit),
        *_troubles("broken", report.broken, limit),
        *_some(
            "unknown label",
            [f"{w!r} ({e.count:,})" + _did_you_mean(e.nearest) for w, e in report.unknown_labels.items()],
            limit,
        ),
        *_hints(report),
        *_some("id is used more than once", report.repeated_ids, limit),
        *_copies("exact", report.exact, report, limit),
        *_copies("near", report.near, report, limit),
    ]
    parts += [Text(line) for line in lines]
    parts += [Text(f"✗ {problem}", style="red") for problem in report.problems] or [
        Text("✓ nothing to repair", "green")
    ]
    return Group(*parts)


def _hints(report: DataReport) -> list[str]:
    """Hints on what is valid in the data but may not be what the user meant."""
    total = report.total
    few = [f"{label} {n}" for label, n in total.items() if label != NO_LABEL and n < MIN_FACES]
    nothing = set(total) == {NO_LABEL} and not report.voted and not report.measured
    all_missing = report.n and len(report.missing) == report.n
    found = {label_name(label) for label in total}
    absent = [word for word in report.expected if label_name(word) not in found]
    own_labels = ",".join(
        sorted(
            words[0] if len(words := report.words.get(label, ())) == 1 else label
            for label in total
            if label != NO_LABEL
        )
    )
    lines = (
        (absent, f"no sample has the label {', '.join(absent)}"),
        (report.unknown_labels and not report.expected,
         f"labels of your own are fine; name them to find only the unknown ones: --labels '{own_labels}'"),
        (nothing, "no sample has a label: expected a folder per label or a column label, emotion, expression or class"),
        (few, f"few: {', '.join(few)}; emoreason finetune needs at least {MIN_FACES} faces of each label"),
        (all_missing, "none of the files exist: paths in a table are relative to the folder of the table"),
    )  # fmt: skip
    return [line for applies, line in lines if applies]


def _counts(report: DataReport) -> Table:
    from rich.table import Table

    table = Table("label", *report.counts, *(["all"] if len(report.counts) > 1 else []))
    for column in table.columns[1:]:
        column.justify = "right"
    labels = sorted(report.total)
    rows = [[counts.get(label, 0) for counts in report.counts.values()] for label in labels]
    for name, row in sorted(zip(labels, rows, strict=True), key=lambda pair: -sum(pair[1])):
        words = report.words.get(name, ())
        more = ", …" if len(words) > 3 else ""
        table.add_row(f"{name} ({', '.join(words[:3])}{more})" if words else name, *_cells(row))
    table.add_section()
    table.add_row("all", *_cells([sum(counts.values()) for counts in report.counts.values()]))
    return table


def _cells(row: Sequence[int]) -> list[str]:
    return [f"{count:,}" for count in (*row, *([sum(row)] if len(row) > 1 else []))]


def _troubles(kind: str, troubles: Sequence[SampleProblem], limit: int) -> list[str]:
    return _some(kind, [f"{t.id}: {t.why}" for t in troubles], limit)


def _copies(kind: str, groups: Sequence[Copies], report: DataReport, limit: int) -> list[str]:
    if not groups:
        return []
    samples = sum(len(group.ids) for group in groups)
    conflicts = sum(group.conflicts for group in groups)
    pictures = "1 picture" if len(groups) == 1 else f"{len(groups):,} pictures"
    lines = [f"{kind} copies: {pictures}, {samples:,} samples; {conflicts:,} with different labels"]
    for pair, counts in report.leaks(kind).items():
        of_split = ", ".join(f"{counts[name]:,} of {name}" for name in pair.split(" + "))
        shown = "1 picture" if counts["groups"] == 1 else f"{counts['groups']:,} pictures"
        lines.append(f"  in {pair}: {shown} ({of_split})")
    leaking = [group for group in groups if group.leaks] or groups
    return lines + [_members(group) for group in leaking[:limit]]


def _members(group: Copies) -> str:
    """`train: a.png (fear) = validation: b.png (fear)`. Long groups show their first two and last samples."""
    parts = [
        f"{s}: {i} ({label or NO_LABEL})" for i, s, label in zip(group.ids, group.splits, group.labels, strict=True)
    ]
    if len(parts) > 4:
        parts = [*parts[:2], f"… {len(parts) - 3} more …", parts[-1]]
    return "  " + " = ".join(parts)


def _some(kind: str, entries: Sequence[str], limit: int) -> list[str]:
    more = [f"{kind}: … and {len(entries) - limit:,} more"] if len(entries) > limit else []
    return [f"{kind}: {entry}" for entry in entries[:limit]] + more


def _did_you_mean(words: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(words)}?" if words else ""
