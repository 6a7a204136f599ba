"""The contract of a reader."""

import pytest

from regraft.formats.format import Format


def test_a_reader_must_recognise_and_open():
    """Half a reader cannot be made."""

    class Half(Format):
        name = "half"

        def recognises(self, path, head):
            return False

    with pytest.raises(TypeError, match=r"abstract method '?open"):
        Half()
