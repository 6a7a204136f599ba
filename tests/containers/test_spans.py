"""Bytes in files, and the arrays that they are."""

from pathlib import Path

import numpy as np
import pytest

from regraft.containers.spans import Span, checked_bytes, checked_size, decode, mapped
from regraft.errors import CheckpointError


@pytest.mark.parametrize(("offset", "size"), [(0, 11), (8, 3), (-1, 2), (0, -1), (1 << 60, 1)])
def test_a_span_outside_of_the_file_is_refused(tmp_path, offset, size):
    """Before anything is allocated."""
    (tmp_path / "f").write_bytes(bytes(10))

    with pytest.raises(CheckpointError, match=r"f: expected .* the file has 10"):
        Span(tmp_path / "f", offset, size).read()


def test_a_missing_file_is_an_error_of_ours(tmp_path):
    """In the system's words."""
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        Span(tmp_path / "f", 0, 1).read()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint16", "int8", "complex64"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_come_in_the_native_one(dtype, order):
    """Writable, too."""
    values = np.array([[1, 2, 3]], dtype)

    got = decode(bytearray(values.astype(values.dtype.newbyteorder(order)).tobytes()), dtype, (1, 3), order=order)

    np.testing.assert_array_equal(got, values, strict=True)
    assert got.dtype.isnative


def test_every_bfloat16_and_float8_is_widened_as_torch_does():
    """All bit patterns; NaN stays NaN."""
    import torch

    for dtype, kind, bits in (
        ("bfloat16", torch.bfloat16, np.arange(1 << 16).astype(np.uint16)),
        ("float8_e4m3fn", torch.float8_e4m3fn, np.arange(256).astype(np.uint8)),
        ("float8_e5m2", torch.float8_e5m2, np.arange(256).astype(np.uint8)),
    ):
        expected = torch.from_numpy(bits.view(f"int{8 * bits.itemsize}").copy()).view(kind).float().numpy()
        np.testing.assert_array_equal(decode(bits.tobytes(), dtype, bits.shape), expected, strict=True, err_msg=dtype)


def test_a_bool_is_any_byte_but_zero():
    """A byte 2 would be neither True nor False for NumPy."""
    assert decode(b"\x00\x01\x02", "bool", (3,)).tolist() == [False, True, True]


def test_impossible_shapes_and_dtypes_are_refused(tmp_path):
    """With the array's name."""
    assert checked_size((1 << 40, 3), "float32", path=tmp_path, name="w") == 3 << 42
    with pytest.raises(CheckpointError, match=r"w has the impossible shape \(-1,\)"):
        checked_size((-1,), "float32", path=tmp_path, name="w")
    with pytest.raises(CheckpointError, match="w has the impossible shape"):
        checked_size((1,) * 33, "float32", path=tmp_path, name="w")
    with pytest.raises(CheckpointError, match="dtype 'text', which is none of float64"):
        checked_size((1,), "text", path=tmp_path, name="w")


def test_content_must_have_the_arrays_size():
    """Neither more nor less."""
    assert checked_bytes(b"abcd", "float32", ()) == bytearray(b"abcd")
    with pytest.raises(CheckpointError, match="has 4 bytes, expected 8"):
        checked_bytes(b"abcd", "float32", (2,))
    with pytest.raises(CheckpointError, match="expected 4"):
        checked_bytes(b"abcd", "float32", (-1, -1))


def test_an_empty_file_cannot_be_mapped(tmp_path):
    """And says so."""
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(CheckpointError, match="f is empty"), mapped(tmp_path / "f"):
        pass


def test_a_shape_that_numpy_cannot_count_is_refused_though_the_array_is_empty():
    with pytest.raises(CheckpointError, match="w has the impossible shape"):
        checked_size((3, 2**62, 0), "float32", path=Path("x"), name="w")
