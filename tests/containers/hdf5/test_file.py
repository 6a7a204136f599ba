"""Superblocks, bounds, and the count that ends what would go on for ever."""

import numpy as np
import pytest

from hdf5_files import VERSIONS, reopened, whole, write
from regraft.containers.hdf5.file import Hdf5File
from regraft.errors import CheckpointError


def one_array(file):
    file["a"] = np.arange(4, dtype="f")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("user_block", [0, 512, 2048])
def test_the_root_is_found_in_every_version_and_behind_a_user_block(tmp_path, version, user_block):
    """Superblocks 0, 2 and 3; a block of the user's own may stand before them."""
    path = write(tmp_path, one_array, version=version, userblock_size=user_block)

    with reopened(path) as root:
        assert root.names() == ["a"]
        np.testing.assert_array_equal(root.array("a").read(), np.arange(4, dtype="f"), strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_that_was_cut_says_how_long_it_should_be(tmp_path, version):
    """The superblock keeps the size."""
    path = write(tmp_path, one_array, version=version)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-3])

    with pytest.raises(CheckpointError, match=f"should have {size} bytes and has {size - 3}"):
        Hdf5File(whole(path))


def test_bytes_without_a_signature_are_refused(tmp_path):
    """And the search for it ends with the file."""
    path = tmp_path / "a.h5"
    path.write_bytes(bytes(5000))

    with pytest.raises(CheckpointError, match="has no signature"):
        Hdf5File(whole(path))


def test_a_newer_superblock_is_refused_by_its_version(tmp_path):
    """Not guessed at."""
    path = write(tmp_path, one_array, version="latest")
    content = bytearray(path.read_bytes())
    content[8] = 9
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match="superblock of version 9"):
        Hdf5File(whole(path))


def test_nothing_beyond_the_end_is_taken(tmp_path):
    """Neither behind it, nor before the beginning, nor with a negative size."""
    file = Hdf5File(whole(write(tmp_path, one_array)))

    for address, size in ((file.size, 1), (-1, 1), (0, file.size + 1), (8, -1), (1 << 63, 1 << 63)):
        with pytest.raises(CheckpointError, match="reaches beyond the end"):
            file.take(address, size, "thing")


def test_looking_at_the_same_bytes_for_ever_ends(tmp_path):
    """What a ring of structures would do."""
    file = Hdf5File(whole(write(tmp_path, one_array)))

    def look_for_ever():
        while True:
            file.take(0, file.size, "thing")

    with pytest.raises(CheckpointError, match="overlap, or contain themselves"):
        look_for_ever()


def test_a_structure_that_is_parsed_within_itself_is_refused(tmp_path):
    """Not followed until Python's stack ends."""
    file = Hdf5File(whole(write(tmp_path, one_array)))

    def inner():
        return file.once("group", 5, inner)

    with pytest.raises(CheckpointError, match="group at 5 contains itself"):
        inner()


def test_a_cursor_gives_numbers_and_ends_with_an_error(tmp_path):
    """Little-endian; an address of ones is none."""
    cursor = Hdf5File(whole(write(tmp_path, one_array))).cursor(0, 8, "head")
    cursor.content = b"\x01\x02name\0\xff\xff\xff\xff\xff\xff\xff\xff\x05"

    assert cursor.number(2) == 0x0201
    assert cursor.text() == "name"
    assert cursor.offset() is None
    with pytest.raises(CheckpointError, match="without an end"):
        cursor.text()
    with pytest.raises(CheckpointError, match="head needs 2 bytes and has 1 left"):
        cursor.raw(2)
