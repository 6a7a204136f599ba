"""Progress bars."""

import io
import sys

from regraft.progress import progress_bar


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
