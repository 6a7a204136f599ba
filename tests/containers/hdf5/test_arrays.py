"""Arrays in one piece, in the header, in chunks; and those whose values are elsewhere or nowhere."""

import h5py
import numpy as np
import pytest

from hdf5_files import VERSIONS, object_at, write
from regraft.containers.hdf5.arrays import read_values
from regraft.errors import CheckpointError


def values_of(path):
    return read_values(object_at(path, "a"))


@pytest.mark.parametrize("version", VERSIONS)
def test_values_in_one_piece_have_an_address(tmp_path, version):
    """Where a reader may map them."""
    array = np.arange(6, dtype="f").reshape(2, 3)
    path = write(tmp_path, lambda file: file.create_dataset("a", data=array), version=version)

    found = values_of(path)

    assert path.read_bytes()[found.address : found.address + found.size] == array.tobytes() == found.content()


@pytest.mark.parametrize("version", VERSIONS)
def test_values_in_the_header_are_read(tmp_path, version):
    """Small arrays may lie there."""

    def fill(file):
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file.id, b"a", h5py.h5t.STD_I16LE, space, plan).write(space, space, np.arange(4, dtype="i2"))

    found = values_of(write(tmp_path, fill, version=version))

    assert found.address is None
    assert found.content() == np.arange(4, dtype="i2").tobytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_values_that_were_never_written_are_told(tmp_path, version):
    """HDF5 would fill in zeros."""
    path = write(tmp_path, lambda file: file.create_dataset("a", (3,), "f4"), version=version)

    with pytest.raises(CheckpointError, match="never written"):
        values_of(path).content()


@pytest.mark.parametrize("version", ["v110", "latest"])
def test_values_in_other_files_are_refused(tmp_path, version):
    """Whatever files they name."""

    def virtual(file):
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource("/etc/passwd", "a", shape=(3,))
        file.create_virtual_dataset("a", layout)

    def external(file):
        file.create_dataset("a", (3,), "f4", external=[("/etc/passwd", 0, 12)])

    for fill in (virtual, external):
        with pytest.raises(CheckpointError, match="refused, an array's values lie in other files"):
            values_of(write(tmp_path, fill, version=version))


def test_zeros_that_pack_well_are_no_bomb_in_a_file_with_other_weights(tmp_path):
    """Slots of an optimiser are often zero: 1000 to one, but not for the whole file."""

    def fill(file):
        file["weights"] = np.ones(100_000, "f4")
        file.create_dataset("a", data=np.zeros(100_000, "f4"), compression="gzip")

    assert values_of(write(tmp_path, fill)).content() == bytes(400_000)


def test_an_array_far_larger_than_its_file_is_refused(tmp_path):
    """Four gigabytes of zeros in a few kilobytes."""

    def fill(file):
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((1 << 20,))
        h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((1 << 30,)), plan)

    with pytest.raises(CheckpointError, match="claims 4294967296 bytes in a file of"):
        values_of(write(tmp_path, fill)).check_size()
