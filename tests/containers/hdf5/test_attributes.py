"""Attributes that are texts, in each of their forms."""

import h5py
import numpy as np
import pytest

from hdf5_files import VERSIONS, root_of, write
from regraft.containers.hdf5.attributes import attributes
from regraft.errors import CheckpointError


@pytest.mark.parametrize("version", VERSIONS)
def test_texts_of_every_form_are_read_and_numbers_passed_over(tmp_path, version):
    """Of one length, of any length, one or a list, in the header or in a heap."""

    def fill(file):
        file.attrs["bytes"] = np.bytes_("gr\u00f6\u00dfe".encode())
        file.attrs["text"] = "层"
        file.attrs["empty"] = ""
        file.attrs["list of bytes"] = [b"ab", b"c"]
        file.attrs["list of texts"] = ["ab", "", "c" * 1000]
        file.attrs["number"] = 3.5
        file.attrs["nothing"] = h5py.Empty("S3")
        file["type"] = h5py.string_dtype()
        file.attrs.create("named type", "x", dtype=file["type"])

    assert attributes(root_of(write(tmp_path, fill, version=version))) == {
        "bytes": ["größe"], "text": ["层"], "empty": [""], "list of bytes": ["ab", "c"],
        "list of texts": ["ab", "", "c" * 1000], "named type": ["x"],
        "number": None, "nothing": None,
    }  # fmt: skip


def test_an_attribute_that_claims_more_than_it_holds_is_refused(tmp_path):
    """Before anything is allocated for it."""
    path = write(tmp_path, lambda file: file.attrs.__setitem__("names", np.array([b"abc"] * 3)))
    content = path.read_bytes()
    at = content.index(b"names\0\0\0") + 8 + 8 + 8  # behind the name and the type: version, rank, flags …, length
    assert content[at] == 3
    path.write_bytes(content[:at] + (1 << 40).to_bytes(8, "little") + content[at + 8 :])

    with pytest.raises(CheckpointError, match="attribute of 1099511627776 texts has 16 bytes"):
        attributes(root_of(path))
