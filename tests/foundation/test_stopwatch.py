"""Seconds by part."""

from regraft.foundation.stopwatch import Stopwatch


def test_a_part_that_is_run_twice_adds_up():
    """Each block counts, also one that fails."""
    watch = Stopwatch()

    with watch("reading"):
        pass
    first = watch.seconds["reading"]
    with watch("reading"), watch("training"):
        sum(range(1000))

    assert list(watch.seconds) == ["reading", "training"]
    assert watch.seconds["reading"] > first >= 0
