"""Progress bars on stderr. Nothing is drawn if stderr is not a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from emoreason.label import Labeled


@contextmanager
def labeling_bar(total: int, done: int) -> Iterator[Callable[[Labeled], None]]:
    """A bar with pictures done, rate, time left, and failures."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.0f}/s" if task.speed else "–/s")

    failures = TextColumn("{task.fields[failed]} failed")
    columns = (TextColumn("labeling"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(), failures)
    with Progress(*columns, console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as bar:
        task, failed = bar.add_task("labeling", total=total, completed=done, failed=0), 0

        def advance(labeled: Labeled) -> None:
            nonlocal failed
            failed += sum(row["status"] == "error" for row in labeled.rows)
            bar.update(task, advance=1, failed=failed)

        yield advance


@contextmanager
def counting_bar(what: str) -> Iterator[Callable[[int], None]]:
    """A counter for work of unknown size. Gives a function to call with the number of items done so far."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn(what), TextColumn("{task.completed:.0f}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done: bar.update(task, completed=done)
