"""Object headers: messages in several blocks, and messages that lie in another object."""

import struct

import numpy as np
import pytest

from hdf5_files import VERSIONS, object_at, reopened, root_of, write
from regraft.containers.hdf5.objects import ATTRIBUTE, DATATYPE
from regraft.errors import CheckpointError


@pytest.mark.parametrize("version", VERSIONS)
def test_headers_that_go_on_elsewhere_are_read_to_the_end(tmp_path, version):
    """Attributes that are added one by one do not fit into the first block."""

    def fill(file):
        file["a"] = np.zeros(2)
        for number in range(7):
            file["a"].attrs[f"name{number}"] = "x" * 100

    found = object_at(write(tmp_path, fill, version=version), "a")

    assert len(found.contents(ATTRIBUTE)) == 7


@pytest.mark.parametrize("version", VERSIONS)
def test_a_type_that_the_file_names_is_read_from_its_own_object(tmp_path, version):
    """The array's header only refers to it."""

    def fill(file):
        file["type"] = np.dtype("f4")
        file.create_dataset("a", data=[1, 2], dtype=file["type"])

    path = write(tmp_path, fill, version=version)

    assert [one.is_shared for one in object_at(path, "a").messages if one.kind == DATATYPE] == [True]
    with reopened(path) as root:
        np.testing.assert_array_equal(root.array("a").read(), np.array([1, 2], "f"), strict=True)


def test_a_header_that_continues_in_itself_ends_with_an_error(tmp_path):
    """libhdf5 loops for ever on such files."""

    def fill(file):
        for number in range(20):
            file.attrs[f"name{number}"] = "x" * 100

    path = write(tmp_path, fill)
    content = bytearray(path.read_bytes())
    at = root_of(path).file.root
    while struct.unpack_from("<HH", content, at + 16)[0] != 0x10:
        at += 8
    place = at + 24
    start, size = struct.unpack_from("<QQ", content, place)
    # The continued block now holds one message: continue in this very block.
    content[start : start + 24] = struct.pack("<HHBxxxQQ", 0x10, 16, 0, start, size)
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match="overlap, or contain themselves"):
        root_of(path)


def test_what_is_no_header_is_refused(tmp_path):
    """By its place."""
    path = write(tmp_path, lambda file: file.create_group("g"))
    content = bytearray(path.read_bytes())
    content[root_of(path).file.root] = 7
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match="no object header at 96"):
        root_of(path)
