"""Progress bars: shown on a terminal, silent everywhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from regraft.stopping import stop_if_asked


@contextmanager
def progress_bar(label: str, total: int) -> Iterator[Callable[..., None]]:
    """A function `advance(count=1, *, note="")` that moves the bar; on no terminal it does nothing.

    label   what is happening, in the words of the design: "features", "training"
    total   steps until the end

    The bar goes to standard error, so that standard output stays data. `advance` is where a lost Ctrl-C is noticed.
    """
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, note="")

        def advance(count: int = 1, *, note: str = "") -> None:
            stop_if_asked()
            if note:
                bar.update(task, note=note)
            bar.advance(task, count)

        yield advance


def _silent(count: int = 1, *, note: str = "") -> None:
    """No terminal: nobody looks."""
    stop_if_asked()
