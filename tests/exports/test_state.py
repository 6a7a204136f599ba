"""Where exports/state.py is tested: with the whole export, in tests/test_exporting.py."""

from regraft.exporting import TARGETS
from regraft.exports import state


def test_the_format_is_one_of_the_exports():
    """Each format is written by a file of this folder."""
    assert any(target.write.__module__ == state.__name__ for target in TARGETS.values())
