"""Links: to objects, elsewhere, and in rings."""

import struct

import h5py
import pytest

from hdf5_files import VERSIONS, object_at, root_of, write
from regraft.containers.hdf5.links import links
from regraft.errors import CheckpointError


@pytest.mark.parametrize("version", VERSIONS)
def test_soft_and_external_links_have_no_address(tmp_path, version):
    """They lead elsewhere; an array has no links at all."""

    def fill(file):
        file["a"] = [1.0]
        file["b"] = file["a"]
        file["soft"] = h5py.SoftLink("/a")
        file["external"] = h5py.ExternalLink("/etc/other.h5", "/a")

    path = write(tmp_path, fill, version=version)
    found = links(root_of(path))

    assert found["a"] == found["b"] is not None
    assert (found["soft"], found["external"]) == (None, None)
    assert links(object_at(path, "a")) is None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tracked", [False, True])
def test_names_in_any_script_are_found(tmp_path, version, tracked):
    """UTF-8, also where the order of creation is kept."""
    names = {"größe", "层", "a b", "." * 300}
    path = write(tmp_path, lambda file: [file.create_group(n) for n in names], version=version, track_order=tracked)

    assert links(root_of(path)).keys() == names


def test_a_tree_whose_node_is_its_own_child_ends_with_an_error(tmp_path):
    """The level must fall by one from node to node."""
    path = write(tmp_path, lambda file: [file.create_group(f"{number}") for number in range(500)])
    content = bytearray(path.read_bytes())
    at = content.index(b"TREE\x00\x01")
    struct.pack_into("<Q", content, at + 24 + 8, at)
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=f"tree node at {at} is of level 1"):
        links(root_of(path))
