"""Progress bars."""

import io
import signal
import sys
import types

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


def test_a_narrow_terminal_keeps_the_bar_and_the_time(monkeypatch):
    """The note is cut short."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    with progress_bar("training", 300) as advance:
        advance(150, note="loss 0.2967, validation accuracy 0.3500 ± 0.0477 (n=100), loss 1.6992")
    shown = terminal.getvalue()
    assert "150/300" in shown
    assert "loss 0.29" in shown
    assert "…" in shown


def test_the_environment_silences_bars(monkeypatch):
    """For a terminal that is recorded."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("REGRAFT_PROGRESS", "off")
    with progress_bar("features", 3) as advance:
        advance(3)
    assert terminal.getvalue() == ""


def test_a_notebook_shows_a_bar_below_the_cell(monkeypatch):
    """Of HTML, which vanishes at the end; notes are text."""
    shown = []

    class Display:
        def update(self, html):
            shown.append(html)

    def display(html, *, display_id):
        shown.append(html)
        return Display()

    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(HTML=str, display=display))
    with progress_bar("training", 4) as advance:
        advance(1, note="<loss>")
        advance(1)
    assert shown[0] == 'training <progress value="0" max="4"></progress> 0/4 '
    assert shown[1] == 'training <progress value="1" max="4"></progress> 1/4 &lt;loss&gt;'
    assert shown[2:] == [""]  # the second step came within a tenth of a second


def test_an_error_that_a_library_made_of_the_interrupt_is_the_interrupt():
    """torch.save raises a RuntimeError where it is interrupted while it writes."""

    def save():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise RuntimeError("unexpected position") from None

    with pytest.raises(KeyboardInterrupt) as stopped, stoppable():
        save()
    assert stopped.value.args == (signal.SIGTERM,)
    with pytest.raises(RuntimeError, match="own"), stoppable():
        raise RuntimeError("its own")
