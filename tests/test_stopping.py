"""Ctrl-C."""

import signal

import pytest

from regraft.progress import progress_bar
from regraft.stopping import stop_if_asked, stoppable


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
