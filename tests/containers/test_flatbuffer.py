"""FlatBuffers: fields, defaults, and offsets that lead nowhere."""

from contextlib import suppress
from struct import pack

import numpy as np
import pytest

from flat import flat
from regraft.containers.flatbuffer import root_table
from regraft.errors import CheckpointError

ROOT = {0: ("i", -5), 2: "name", 3: np.array([1, 2, 3], "<i4"), 4: {0: ("b", 1)}, 5: [{0: ("B", 7)}, {}]}


def test_fields_of_each_kind_are_read():
    """Scalars, texts, vectors, tables."""
    table = root_table(flat(ROOT, b"TEST"))

    assert table.number(0, "i") == -5
    assert table.text(2) == "name"
    assert table.numbers(3, "<i4").tolist() == [1, 2, 3]
    assert table.table(4).number(0, "b") == 1
    assert [inner.number(0, "B", 9) for inner in table.tables(5)] == [7, 9]


def test_absent_fields_have_their_defaults():
    """Also those that a newer schema has added behind the last."""
    table = root_table(flat(ROOT, b"TEST"))

    for field in (1, 40):
        assert table.number(field, "i", 3) == 3
        assert table.text(field) == ""
        assert table.numbers(field, "<i4").size == 0
        assert table.table(field) is None
        assert table.tables(field) == []


def test_offsets_that_lead_outside_are_refused():
    """At any place: the reader fails with its own error or not at all."""
    whole = flat(ROOT, b"TEST")
    for at in range(0, len(whole) - 3, 4):
        for value in (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", pack("<I", len(whole))):
            damaged = whole[:at] + value + whole[at + 4 :]
            with suppress(CheckpointError):
                table = root_table(damaged)
                table.text(2), table.numbers(3, "<i4"), table.table(4), table.tables(5)


def test_a_cut_buffer_is_refused():
    """With the place."""
    with pytest.raises(CheckpointError, match="leads to byte 0, the file has 2"):
        root_table(b"\0\0")
