"""Long work as its user meets it: progress bars on a terminal, silence elsewhere, Ctrl-C that is not lost.

An import or a finaliser of other code may swallow the KeyboardInterrupt that it meets; the next step raises it again.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from types import FrameType

SWITCH = "REGRAFT_PROGRESS"
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
    except Exception as error:  # a library may make another error of the interrupt, as torch.save does while it writes
        if _asked:
            raise KeyboardInterrupt(_asked[0]) from error
        raise
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
    """A function `advance(count=1, *, note="")` that moves a bar in a terminal or notebook, nothing in a log.

    label   what is happening, in the words of the design: "features", "training"
    total   steps until the end

    The environment variable REGRAFT_PROGRESS=off silences all bars.
    The bar goes to standard error, so that standard output stays data. `advance` is where a lost Ctrl-C is noticed.
    """
    if os.environ.get(SWITCH, "").lower() in ("0", "off", "no"):
        yield _silent
    elif _is_notebook():
        with _notebook_bar(label, total) as advance:
            yield advance
    elif sys.stderr.isatty():
        with _terminal_bar(label, total) as advance:
            yield advance
    else:
        yield _silent


def _is_notebook() -> bool:
    """Whether a notebook's kernel runs this code: it alone can show HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def _notebook_bar(label: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar of the browser below the cell, at most ten times a second; it vanishes at the end."""
    from IPython.display import HTML, display

    shown = display(HTML(_bar_text(label, 0, total, "")), display_id=True)
    count, last, text = 0, 0.0, ""

    def advance(by: int = 1, *, note: str = "") -> None:
        nonlocal count, last, text
        stop_if_asked()
        count, text = count + by, note or text
        if time.monotonic() - last > 0.1:
            last = time.monotonic()
            shown.update(HTML(_bar_text(label, count, total, text)))

    try:
        yield advance
    finally:
        shown.update(HTML(""))


def _bar_text(label: str, count: int, total: int, note: str) -> str:
    return f'{escape(label)} <progress value="{count}" max="{total}"></progress> {count:,}/{total:,} {escape(note)}'


@contextmanager
def _terminal_bar(label: str, total: int) -> Iterator[Callable[..., None]]:
    """A line of the terminal; where it is narrow, the note is cut short, not the bar and the time."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = [
        TextColumn("{task.description:<10}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=20),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=9)),
        TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as bar:
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
