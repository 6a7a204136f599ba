"""Where chunks lie: every list of chunks that HDF5 knows, read or refused by name."""

import h5py
import numpy as np
import pytest

from hdf5_files import VERSIONS, object_at, reopened, write
from regraft.containers.hdf5.arrays import read_values
from regraft.errors import CheckpointError

ARRAY = np.arange(63, dtype="f").reshape(7, 9)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("chunk", [(7, 9), (2, 2), (1, 9), (7, 4)])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_chunks_that_do_not_divide_the_array_are_put_together(tmp_path, version, chunk, compression):
    """One chunk, a few, and those that reach over the edge."""
    options = {"chunks": chunk, "compression": compression}
    path = write(tmp_path, lambda file: file.create_dataset("a", data=ARRAY, **options), version=version)

    with reopened(path) as root:
        np.testing.assert_array_equal(root.array("a").read(), ARRAY, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_long_lists_of_chunks_are_read(tmp_path, version, compression):
    """Trees of several levels in old files, lists in pages in new ones."""
    array = np.arange(5000, dtype="i4")
    options = {"chunks": (2,), "compression": compression}
    path = write(tmp_path, lambda file: file.create_dataset("a", data=array, **options), version=version)

    with reopened(path) as root:
        np.testing.assert_array_equal(root.array("a").read(), array, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_chunks_without_a_list_are_read(tmp_path, version):
    """Allocated at once, new files need none."""

    def fill(file):
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((2, 4))
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        space = h5py.h5s.create_simple(ARRAY.shape)
        h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F32LE, space, plan).write(space, space, ARRAY)

    with reopened(write(tmp_path, fill, version=version)) as root:
        np.testing.assert_array_equal(root.array("a").read(), ARRAY, strict=True)


@pytest.mark.parametrize(("limits", "told"), [((None, 9), "an extensible list"), ((None, None), "a tree of version 2")])
def test_lists_of_growing_arrays_are_refused_by_name(tmp_path, limits, told):
    """No framework writes weights that grow; old files list them in a tree, which is read."""

    def fill(file):
        file.create_dataset("a", data=ARRAY, maxshape=limits, chunks=(2, 2))

    with pytest.raises(CheckpointError, match=rf"listed in {told}[\s\S]*h5repack"):
        read_values(object_at(write(tmp_path, fill, version="latest"), "a"))
    with reopened(write(tmp_path, fill)) as root:
        np.testing.assert_array_equal(root.array("a").read(), ARRAY, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_chunks_that_were_never_written_are_told(tmp_path, version):
    """Their values would be a guess."""

    def fill(file):
        file.create_dataset("a", (4, 4), "f4", chunks=(2, 2))[:2] = 1

    with pytest.raises(CheckpointError, match="2 of 4 chunks of an array were never written"):
        read_values(object_at(write(tmp_path, fill, version=version), "a")).content()


@pytest.mark.parametrize("version", VERSIONS)
def test_millions_of_chunks_are_refused_before_they_are_listed(tmp_path, version):
    """Chunks of one byte, none of them written: the list alone would take gigabytes."""

    def fill(file):
        file["filler"] = np.zeros(1 << 18, "u1")
        file.create_dataset("a", (1 << 22,), "u1", chunks=(1,))

    values = read_values(object_at(write(tmp_path, fill, version=version), "a"))

    with pytest.raises(CheckpointError, match=r"4194304 chunks in a file of \d+ bytes"):
        values.content()
