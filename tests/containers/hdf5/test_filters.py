"""Packed chunks: undone exactly, bounded, checked."""

import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdf5_files import object_at, reopened, root_of, write
from regraft.containers.hdf5.arrays import read_values
from regraft.containers.hdf5.filters import Filter, unfiltered
from regraft.errors import CheckpointError


@settings(max_examples=30)
@given(
    dtype=st.sampled_from(["f4", ">f8", "i2", "u1"]),
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    data=st.data(),
)
def test_every_combination_of_filters_is_undone(tmp_path, dtype, shape, data):
    """As h5py wrote them."""
    options = {
        "compression": data.draw(st.sampled_from([None, "gzip"])), "shuffle": data.draw(st.booleans()),
        "fletcher32": data.draw(st.booleans()), "chunks": tuple(data.draw(st.integers(1, size)) for size in shape),
    }  # fmt: skip
    array = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    path = write(tmp_path, lambda file: file.create_dataset("a", data=array, **options))

    with reopened(path) as root:
        np.testing.assert_array_equal(root.array("a").read(), array.astype(array.dtype.newbyteorder("=")), strict=True)


def test_a_wrong_checksum_is_told(tmp_path):
    """Fletcher's sums are compared."""
    array = np.arange(40, dtype="f")
    path = write(tmp_path, lambda file: file.create_dataset("a", data=array, chunks=(40,), fletcher32=True))
    content = path.read_bytes()
    at = content.index(array.tobytes())
    path.write_bytes(content[: at + 9] + b"\x55" + content[at + 10 :])

    with pytest.raises(CheckpointError, match="checksum is wrong"), reopened(path) as root:
        root.array("a").read()


@pytest.mark.parametrize(("packed", "name"), [("lzf", "lzf"), (h5py.h5z.FILTER_SCALEOFFSET, "scale-offset")])
def test_other_filters_are_refused_by_name(tmp_path, packed, name):
    """With the command that unpacks the file."""
    options = {"compression": packed} if packed == "lzf" else {"scaleoffset": 0}
    path = write(tmp_path, lambda file: file.create_dataset("a", data=np.arange(400), **options))

    with pytest.raises(CheckpointError, match=rf"packed with {name}[\s\S]*h5repack --filter=NONE"):
        read_values(object_at(path, "a"))


def test_a_bomb_unpacks_no_further_than_the_chunk(tmp_path):
    """Ten megabytes that should have been eight bytes."""
    file = root_of(write(tmp_path, lambda file: None)).file
    bomb = zlib.compress(bytes(10 << 20))

    with pytest.raises(CheckpointError, match="does not unpack to 12 bytes or less"):
        unfiltered(file, bomb, (Filter(1, 6),), 0, 8)
    with pytest.raises(CheckpointError, match="no gzip stream"):
        unfiltered(file, b"nonsense", (Filter(1, 6),), 0, 8)
    with pytest.raises(CheckpointError, match="has 3 bytes and should have 8"):
        unfiltered(file, b"abc", (Filter(1, 6),), 1, 8)
