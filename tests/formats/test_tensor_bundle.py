"""Bundles: sharded, partitioned, damaged."""

from pathlib import Path

import numpy as np
import pytest

from regraft.containers.ordered_code import slice_key
from regraft.errors import CheckpointError
from regraft.formats.tensor_bundle import Bundle
from tables import entry, field, shape_message, table, write_bundle

WHOLE = np.arange(12, dtype=np.float32).reshape(4, 3)


def partitioned(folder, extents=(((0, 1), (0, -1)), ((1, 3), (0, -1)))):
    """One array in two slices, each in a shard of its own."""
    entries = {b"": field(1, 2) + field(3, field(1, 1))}
    slices = b""
    for shard, place in enumerate(extents):
        (start, length), _ = place
        part = WHOLE[start : start + length]
        entries[slice_key("w", place)] = entry(part, 0, shard=shard)
        Path(f"{folder / 'm'}.data-{shard:05d}-of-00002").write_bytes(part.tobytes())
        slices += field(7, b"".join(field(1, field(1, s) + (field(2, n) if n >= 0 else b"")) for s, n in place))
    entries[b"w"] = field(1, 1) + field(2, shape_message((4, 3))) + slices
    Path(f"{folder / 'm'}.index").write_bytes(table(entries))
    return folder / "m"


def test_slices_over_several_shards_are_joined(tmp_path):
    """Told by the index."""
    bundle = Bundle(partitioned(tmp_path))

    np.testing.assert_array_equal(bundle.read("w"), WHOLE, strict=True)
    assert [path.name for path in bundle.files] == ["m.index", "m.data-00000-of-00002", "m.data-00001-of-00002"]


def test_slices_that_do_not_fill_the_array_are_refused(tmp_path):
    """When it is opened."""
    with pytest.raises(CheckpointError, match="slices of w hold 9 of 12 values"):
        Bundle(partitioned(tmp_path, (((0, 1), (0, -1)), ((1, 2), (0, -1)))))


def test_slices_that_overlap_are_refused(tmp_path):
    """The count is right and the places are not."""
    bundle = Bundle(partitioned(tmp_path, (((0, 2), (0, -1)), ((1, 2), (0, -1)))))

    with pytest.raises(CheckpointError, match=r"m\.index: w is damaged: its slices overlap and leave gaps"):
        bundle.read("w")


def test_missing_shards_are_named_all_at_once(tmp_path):
    """Before anything is read."""
    prefix = partitioned(tmp_path)
    for shard in tmp_path.glob("m.data*"):
        shard.unlink()

    with pytest.raises(CheckpointError, match=r"2 of 2 data files are missing: m\.data-00000-of-00002, m\.data-00001"):
        Bundle(prefix)


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ({b"": field(1, 1) + field(2, 1)}, "big-endian"),
        ({b"": field(1, b"list")}, "V1 format"),
        ({}, "does not record its number of data files"),
        ({b"": field(1, 1), b"w": field(1, 1) + field(3, 7) + field(5, 4)}, "names data file 7 of 1"),
        (
            {b"": field(1, 1), b"w": field(1, 1) + field(2, shape_message((1 << 50,))) + field(5, 4)},
            "but 4 bytes are",
        ),
        ({b"": field(1, 1), b"w": field(1, 1) + field(4, 1 << 50) + field(5, 4)}, "should end at byte"),
        ({b"": field(1, 1), b"w": field(1, 88) + field(5, 4)}, "dtype 'type 88'"),
    ],
)
def test_an_index_that_cannot_be_is_refused(tmp_path, index, told):
    """With the file's name, and without allocating what it claims."""
    (tmp_path / "m.index").write_bytes(table(index))
    (tmp_path / "m.data-00000-of-00001").write_bytes(bytes(4))

    with pytest.raises(CheckpointError, match=told) as caught:
        Bundle(tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value)


def test_a_changed_value_is_noticed(tmp_path):
    """By the array's own checksum, when it is read."""
    prefix = write_bundle(tmp_path / "m", {"w": WHOLE})
    data = tmp_path / "m.data-00000-of-00001"
    data.write_bytes(b"\x01" + data.read_bytes()[1:])

    with pytest.raises(CheckpointError, match=r"checksum of w is wrong \(bytes 0 to 48\)"):
        Bundle(prefix).read("w")


def test_bfloat16_is_widened(tmp_path):
    """Exactly."""
    (tmp_path / "m.index").write_bytes(table({
        b"": field(1, 1), b"w": entry(np.array([0x3FC0, 0xC000], np.uint16), 0, dtype="bfloat16"),
    }))  # fmt: skip
    (tmp_path / "m.data-00000-of-00001").write_bytes(bytes.fromhex("c03f00c0"))

    np.testing.assert_array_equal(Bundle(tmp_path / "m").read("w"), np.array([1.5, -2], np.float32), strict=True)
