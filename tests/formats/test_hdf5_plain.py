"""HDF5 files of programs other than Keras."""

import h5py
import numpy as np
import pytest

from hdf5_files import VERSIONS, write
from regraft.errors import CheckpointError
from regraft.formats.keras import KerasH5

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("version", VERSIONS)
def test_arrays_are_named_by_their_places(tmp_path, version):
    """As Chainer, MATLAB and people's own scripts write them; nothing says whose axis orders they follow."""
    path = write(tmp_path, lambda file: file.update({"predictor/fc/W": KERNEL, "step": np.int64(3)}), version=version)

    checkpoint = KerasH5().open(path)

    assert {name: info.role for name, info in checkpoint.items()} == {"predictor/fc/W": "weight", "step": "counter"}
    np.testing.assert_array_equal(checkpoint.read("predictor/fc/W"), KERNEL, strict=True)
    assert (checkpoint.format, checkpoint.layout) == ("hdf5", None)
    assert "Keras did not write this HDF5 file" in checkpoint.notes[0]


def test_texts_tables_and_links_are_left_out_with_a_note(tmp_path):
    """A link may lead anywhere; it is not followed, and the arrays beside it are read."""

    def fill(file):
        file["kernel"] = KERNEL
        file["names"] = ["a", "b"]
        file["table"] = np.zeros(2, [("a", "f4"), ("b", "i4")])
        file["soft"] = h5py.SoftLink("/kernel")
        file["outside"] = h5py.ExternalLink("../../other.h5", "/kernel")

    checkpoint = KerasH5().open(write(tmp_path, fill))

    assert list(checkpoint) == ["kernel"]
    assert checkpoint.notes[1] == "4 texts, tables and links are left out: names, outside, soft, table."


def test_groups_that_hold_each_other_are_entered_once(tmp_path):
    """HDF5 allows a ring of groups."""

    def fill(file):
        file["a/kernel"] = KERNEL
        file["a/again"] = file["/"]

    assert list(KerasH5().open(write(tmp_path, fill))) == ["a/kernel"]


def test_a_file_of_texts_alone_is_refused(tmp_path):
    """There is nothing to reuse."""
    with pytest.raises(CheckpointError, match="holds no array of numbers"):
        KerasH5().open(write(tmp_path, lambda file: file.update({"names": ["a", "b"]})))
