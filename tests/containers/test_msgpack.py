"""Msgpack trees: what Flax packs, and what it never would."""

import msgpack
import numpy as np
import pytest

from regraft.containers.msgpack import Unpacker, array_leaves
from regraft.errors import CheckpointError


def tree_of(tmp_path, content):
    unpacker = Unpacker(tmp_path / "a", content)
    return unpacker.value()


@pytest.mark.parametrize("value", [0, -1, 127, 128, -33, 65_536, 2**63, 1.5, None, True, "ä" * 40, [1, [2]], {"a": {}}])
def test_plain_values_are_python_s(tmp_path, value):
    """As msgpack packs them."""
    assert tree_of(tmp_path, msgpack.packb(value)) == value


def test_arrays_are_found_in_place_and_named_by_their_keys(tmp_path):
    """Their bytes are stepped over."""
    array = np.arange(6, dtype="f").reshape(2, 3)
    extension = msgpack.ExtType(1, msgpack.packb((array.shape, "float32", array.tobytes()), use_bin_type=True))
    content = msgpack.packb({"a": {"kernel": extension}, "list": [1, 2.5], 3: "text"})
    (tmp_path / "a").write_bytes(content)

    found = dict(array_leaves(tree_of(tmp_path, content), ""))

    assert list(found) == ["a/kernel", "list/0", "list/1"]
    np.testing.assert_array_equal(found["a/kernel"].read(), array, strict=True)
    assert found["list/1"].read() == 2.5


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xc1", "begins no value"), (b"\xdd\xff\xff\xff\xff", "bytes are claimed"), (b"\x91" * 200, "nests deeper"),
        (b"\x82\xa1a\x01\xa1a\x02", "comes twice"), (b"\xd4\x09\x00", "none of Flax's"), (b"", "bytes are claimed"),
    ],
)  # fmt: skip
def test_other_bytes_are_refused(tmp_path, content, told):
    """By what is wrong with them."""
    with pytest.raises(CheckpointError, match=told):
        tree_of(tmp_path, content)
