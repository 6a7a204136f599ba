"""Ctrl-C that is not lost: an import or a finaliser of other code may swallow the KeyboardInterrupt that it meets."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked: list[int] = []  # the signals that came while a command was `stoppable`


@contextmanager
def stoppable() -> Iterator[None]:
    """While in the block, Ctrl-C raises KeyboardInterrupt at once, and again in `stop_if_asked` if it was swallowed."""
    before = signal.signal(signal.SIGINT, _ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _asked.clear()


def stop_if_asked() -> None:
    """Raise KeyboardInterrupt if Ctrl-C was pressed in a `stoppable` block that still goes on. For long loops."""
    if _asked:
        raise KeyboardInterrupt


def _ask(number: int, frame: FrameType | None) -> None:
    """The handler of the signal."""
    _asked.append(number)
    raise KeyboardInterrupt
