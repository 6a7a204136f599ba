"""Zarr arrays: chunks put together, unpacked within bounds, or read by tensorstore."""

import json
import sys
import zlib

import numpy as np
import pytest

from golden_files import GOLDEN
from regraft.containers.zarr_array import read_array
from regraft.containers.zarr_stores import Folders
from regraft.errors import CheckpointError, MissingLibraryError
from written import write_zarr

ARRAY = np.arange(63, dtype="f").reshape(7, 9)


@pytest.mark.parametrize("compressor", [None, "zlib", "gzip"])
@pytest.mark.parametrize("chunk", [(7, 9), (2, 2), (1, 9), (7, 4)])
@pytest.mark.parametrize("separator", [".", "/"])
def test_chunks_are_put_together_without_tensorstore(tmp_path, monkeypatch, compressor, chunk, separator):
    """Those over the edge too, and chunks in folders of their own."""
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    write_zarr(tmp_path, "a", ARRAY, chunk=chunk, compressor=compressor, separator=separator)

    np.testing.assert_array_equal(read_array(Folders(tmp_path), "a").read(), ARRAY, strict=True)


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", "|i1", "<i8", "|u1", "|b1", "<c8"])
def test_types_and_byte_orders_are_zarr_s(tmp_path, dtype):
    """Read in the machine's order."""
    array = np.arange(6).reshape(2, 3).astype(dtype)
    write_zarr(tmp_path, "a", array)

    found = read_array(Folders(tmp_path), "a")

    native = array.astype(array.dtype.newbyteorder("="))
    assert found.dtype == native.dtype.name
    np.testing.assert_array_equal(found.read(), native, strict=True)


def test_a_scalar_is_one_chunk(tmp_path):
    """Its key is 0."""
    write_zarr(tmp_path, "a", np.array(2.5, "f"))

    np.testing.assert_array_equal(read_array(Folders(tmp_path), "a").read(), np.array(2.5, "f"), strict=True)


def test_what_zstd_packed_needs_tensorstore(monkeypatch):
    """The error says how to install it."""
    array = read_array(Folders(GOLDEN / "orbax_folders"), "params.Dense_0.kernel")
    assert array.read().shape == (4, 3)

    monkeypatch.setitem(sys.modules, "tensorstore", None)

    with pytest.raises(MissingLibraryError, match=r'packed with zstd; [\s\S]*pip install "regraft\[orbax\]"'):
        array.read()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is cut short, or longer"), (b"nonsense", "no zlib stream"),
        (zlib.compress(bytes(10 << 20)), "cut short, or longer than 252 bytes"),
        (zlib.compress(bytes(9)), "has 9 bytes and should have 252"), (zlib.compress(bytes(252))[:-1], "cut short"),
    ],
)  # fmt: skip
def test_damaged_chunks_and_bombs_are_refused(tmp_path, content, told):
    """No more is unpacked than the chunk should have."""
    home = write_zarr(tmp_path, "a", ARRAY, compressor="zlib")
    (home / "0.0").write_bytes(content)

    with pytest.raises(CheckpointError, match=told):
        read_array(Folders(tmp_path), "a").read()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shape": [1 << 40, 9]}, "claims"), ({"chunks": [1 << 40, 9]}, "claims"), ({"chunks": [0, 9]}, "has chunks"),
        ({"chunks": [7]}, "has chunks"), ({"dtype": "|O"}, "is damaged"), ({"shape": [-7, 9]}, "impossible shape"),
        ({"shape": None}, "is damaged"), ({"dtype": "<f3"}, "dtype 'float24'"), ({"compressor": 5}, "is damaged"),
    ],
)  # fmt: skip
def test_descriptions_that_cannot_be_are_refused(tmp_path, change, told):
    """Before anything is allocated."""
    home = write_zarr(tmp_path, "a", ARRAY)
    described = json.loads((home / ".zarray").read_text()) | change
    (home / ".zarray").write_text(json.dumps(described))

    with pytest.raises(CheckpointError, match=told):
        read_array(Folders(tmp_path), "a")


@pytest.mark.parametrize("keep", [0, 3, 20])
def test_what_tensorstore_refuses_is_told(tmp_path, keep):
    """In its words."""
    home = write_zarr(tmp_path, "a", ARRAY)
    described = json.loads((home / ".zarray").read_text()) | {"compressor": {"id": "zstd", "level": 1}}
    (home / ".zarray").write_text(json.dumps(described))
    (home / "0.0").write_bytes(bytes(keep))

    with pytest.raises(CheckpointError, match="a is damaged or cut short"):
        read_array(Folders(tmp_path), "a").read()
