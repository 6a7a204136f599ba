"""Arrays that are read where they lie."""

import numpy as np
import pytest

from regraft.containers.located import located, mapped
from regraft.errors import CheckpointError


def test_values_are_read_from_their_place(tmp_path):
    """With a shape and a dtype, and writable."""
    (tmp_path / "f").write_bytes(b"head" + np.arange(6, dtype="<i2").tobytes() + b"tail")

    array = located(tmp_path / "f", "a", 4, (2, 3), "int16").read()

    np.testing.assert_array_equal(array, np.arange(6, dtype="int16").reshape(2, 3), strict=True)
    assert array.flags.writeable


def test_a_file_that_became_shorter_is_refused(tmp_path):
    """Between opening and reading."""
    (tmp_path / "f").write_bytes(bytes(24))
    array = located(tmp_path / "f", "a", 0, (6,), "float32")
    (tmp_path / "f").write_bytes(bytes(20))

    with pytest.raises(CheckpointError, match="expected 24 bytes at offset 0, the file has 20"):
        array.read()


def test_an_empty_file_maps_to_nothing_and_a_missing_one_is_named(tmp_path):
    """The system refuses to map no bytes."""
    (tmp_path / "empty").write_bytes(b"")

    assert mapped(tmp_path / "empty") == b""
    with pytest.raises(CheckpointError, match="missing cannot be read"):
        mapped(tmp_path / "missing")
