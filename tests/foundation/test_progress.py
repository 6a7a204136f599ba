"""Progress bars."""

import io
import signal
import sys

import pytest

from regraft.foundation.progress import progress_bar, stop_if_asked, stoppable


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_it_is_silent_when_nobody_looks(capsys):
    """A log file holds no bars."""
    with progress_bar("features", 3) as advance:
        advance(2, note="loss 0.1")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_the_label_and_the_note(monkeypatch):
    """On standard error, so that standard output stays data."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar("features", 3) as advance:
        advance(3, note="loss 0.1")
    assert "features" in terminal.getvalue()
    assert "loss 0.1" in terminal.getvalue()


def test_an_interrupt_that_other_code_swallows_comes_again_at_the_next_step():
    """So does an import that catches everything; the loop around it would run on for hours."""
    with stoppable(), progress_bar("training", 10) as advance:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            swallowed = True
        with pytest.raises(KeyboardInterrupt):
            advance()
    assert swallowed


def test_afterwards_the_signal_is_handled_as_before():
    """And what was asked is forgotten."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stoppable():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    stop_if_asked()
