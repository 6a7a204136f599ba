"""Long work as its user meets it: progress bars on a terminal, silence elsewhere, Ctrl-C that is not lost.

An import or a finaliser of other code may swallow the KeyboardInterrupt that it meets; the next step raises it again.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_asked: list[int] = []  # the signals that came while a command was `stoppable`


@contextmanager
def stoppable() -> Iterator[None]:
    """While in the block, Ctrl-C raises KeyboardInterrupt at once, and again in `stop_if_asked` if it was swallowed.

    So does the signal by which systems end a process (SIGTERM): what is half-written is then removed. The interrupt
    has the signal's number as its argument.
    """
    before = {number: signal.signal(number, _ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


def stop_if_asked() -> None:
    """Raise KeyboardInterrupt if Ctrl-C was pressed in a `stoppable` block that still goes on. For long loops."""
    if _asked:
        raise KeyboardInterrupt(_asked[0])


def _ask(number: int, frame: FrameType | None) -> None:
    """The handler of the signal."""
    _asked.append(number)
    raise KeyboardInterrupt(number)


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
