"""Headers of `.npy`, of all versions and writers."""

import io
from pathlib import Path

import numpy as np
import pytest

from regraft.containers.npy_header import numpy_dtype, parse_npy_header
from regraft.errors import CheckpointError

PATH = Path("a.npz")


def header(text, version=1):
    """The beginning of an array with this header."""
    width = 2 if version == 1 else 4
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(width, "little") + text.encode("latin1")


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "|i1", "|b1", "<c8", "<u8", "|O"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 5)])
def test_numpys_own_headers_are_read(dtype, shape):
    """Byte order, shape and where the data begins."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.zeros(shape, dtype), allow_pickle=True)

    told = parse_npy_header(file.getvalue(), path=PATH, name="a")

    assert (told.dtype, told.shape, told.order) == (np.dtype(dtype).name, shape, ">" if dtype[0] == ">" else "<")
    assert told.start % 64 == 0


def test_columns_first_is_told():
    """Fortran order."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asfortranarray(np.zeros((2, 3))))

    assert parse_npy_header(file.getvalue(), path=PATH, name="a").is_fortran


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 4L), }", 1),
        ("{'shape':(3,4),'fortran_order':False,'descr':'<f4'}\n", 2),
        ("{'descr': 'float32', 'fortran_order': False, 'shape': (3, 4)}", 3),
    ],
)
def test_other_writers_headers_are_read(text, version):
    """Python 2's long integers, other orders of the keys."""
    told = parse_npy_header(header(text, version), path=PATH, name="a")

    assert (told.dtype, told.shape) == ("float32", (3, 4))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", "damaged header"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os').system('x')}", "damaged header"),
        ("{'descr': '<f4', 'fortran_order': 0, 'shape': (3,)}", "damaged header"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}", "structured dtype"),
        ("{'descr': '<U5', 'fortran_order': False, 'shape': (3,), }", "dtype '<U5'"),
        ("{'descr': '<M8', 'fortran_order': False, 'shape': (3,), }", "dtype '<M8'"),
        ("{'descr': '<f3', 'fortran_order': False, 'shape': (3,), }", "unknown dtype '<f3'"),
        ("(" * 3000, "damaged header"),
        (" " * 9, "damaged header"),
    ],
)
def test_headers_that_tell_no_array_of_numbers_are_refused(text, told):
    """Nothing of them is evaluated."""
    with pytest.raises(CheckpointError, match=f"a.npz: a has .*{told}"):
        parse_npy_header(header(text), path=PATH, name="a")


@pytest.mark.parametrize("begin", [b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x09\x00" + bytes(90), b"PK" + bytes(90)])
def test_what_is_no_header_is_refused(begin):
    """Also another version."""
    with pytest.raises(CheckpointError, match="does not begin as a NumPy array does"):
        parse_npy_header(begin, path=PATH, name="a")


def test_a_header_that_is_cut_off_is_refused():
    """Its size is told."""
    with pytest.raises(CheckpointError, match="header of 500 bytes that is cut off"):
        parse_npy_header(b"\x93NUMPY\x01\x00\xf4\x01{'descr'", path=PATH, name="a")


def test_two_raw_bytes_are_bfloat16():
    """What ml_dtypes' arrays become in NumPy's files."""
    assert numpy_dtype("|V2", path=PATH, name="a") == ("bfloat16", "<")
