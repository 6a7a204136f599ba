"""Heaps and trees of large groups: compact, one block, several levels."""

import pytest

from hdf5_files import VERSIONS, root_of, write
from regraft.containers.hdf5.attributes import attributes
from regraft.containers.hdf5.heaps import global_object
from regraft.containers.hdf5.links import links
from regraft.errors import CheckpointError


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("count", [3, 12, 2500])
@pytest.mark.parametrize("length", [4, 60])
def test_every_name_of_a_large_group_is_found(tmp_path, version, count, length):
    """In old groups a tree of nodes, in new ones messages, a heap's block, and blocks of blocks."""
    names = {f"{number:0{length}}" for number in range(count)}
    path = write(tmp_path, lambda file: [file.create_group(name) for name in names], version=version)

    assert links(root_of(path)).keys() == names


@pytest.mark.parametrize("version", ["v108", "latest"])
def test_every_attribute_of_many_is_found(tmp_path, version):
    """More than eight lie in a heap."""

    def fill(file):
        for number in range(300):
            file.attrs[f"name{number}"] = [f"v{number}".encode(), b"second"]

    found = attributes(root_of(write(tmp_path, fill, version=version)))

    assert found == {f"name{number}": [f"v{number}", "second"] for number in range(300)}


def test_texts_of_any_length_are_found_in_their_heap(tmp_path):
    """Several collections, by address and number."""
    texts = [f"{number}" * number for number in range(200)]

    path = write(tmp_path, lambda file: file.attrs.__setitem__("texts", texts))

    assert attributes(root_of(path))["texts"] == texts


def test_an_object_that_the_heap_lacks_is_refused(tmp_path):
    """By its number and the heap's place."""
    path = write(tmp_path, lambda file: file.attrs.__setitem__("text", "long enough"))
    at = path.read_bytes().index(b"GCOL")

    assert global_object(root_of(path).file, at, 1) == b"long enough"
    with pytest.raises(CheckpointError, match=f"no object 9 in the heap at {at}"):
        global_object(root_of(path).file, at, 9)


@pytest.mark.parametrize("signature", [b"FRHP", b"FHIB", b"BTHD", b"BTIN"])
def test_damaged_heaps_and_trees_are_refused_or_read(tmp_path, signature):
    """Any number of their first 64 bytes may be anything; it ends, with an error or without."""
    path = write(tmp_path, lambda file: [file.create_group(f"{number:060}") for number in range(600)], version="v108")
    content = path.read_bytes()
    at = content.index(signature)
    refused = 0
    for place in range(at, at + 64, 4):
        for number in (b"\xff\xff", b"\x00\x00", b"\x01\x80"):
            path.write_bytes(content[:place] + number + content[place + 2 :])
            try:
                links(root_of(path))
            except CheckpointError as error:
                refused += "damaged" in str(error) or "refused" in str(error)
    assert refused > 6
