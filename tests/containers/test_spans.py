"""Bytes in files, and the arrays that they are."""

from pathlib import Path

import numpy as np
import pytest

from regraft.containers.spans import (
    Span,
    checked_bytes,
    checked_size,
    decoded_array,
    full_extents,
    joined,
    located,
    mapped,
)
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

    got = decoded_array(
        bytearray(values.astype(values.dtype.newbyteorder(order)).tobytes()), dtype, (1, 3), order=order
    )

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
        np.testing.assert_array_equal(
            decoded_array(bits.tobytes(), dtype, bits.shape), expected, strict=True, err_msg=dtype
        )


def test_a_bool_is_any_byte_but_zero():
    """A byte 2 would be neither True nor False for NumPy."""
    assert decoded_array(b"\x00\x01\x02", "bool", (3,)).tolist() == [False, True, True]


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


def test_a_shape_that_numpy_cannot_count_is_refused_though_the_array_is_empty():
    with pytest.raises(CheckpointError, match="w has the impossible shape"):
        checked_size((3, 2**62, 0), "float32", path=Path("x"), name="w")


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


def test_absent_lengths_are_whole_axes():
    """−1 is all of the axis."""
    assert full_extents(((2, 3), (0, -1)), (8, 4)) == ((2, 3), (0, 4))


@pytest.mark.parametrize("extents", [((0, 9),), ((-1, 2),), ((5, 4),), ((0, 2), (0, 2)), ((1, -1),)])
def test_slices_outside_of_the_shape_have_no_place(extents):
    """Too long, negative, of another rank."""
    assert full_extents(extents, (8,)) is None


def test_slices_are_put_together():
    """Wherever they lie."""
    whole = np.arange(12, dtype=np.float32).reshape(4, 3)

    got = joined((4, 3), "float32", [(((2, 2), (0, 3)), whole[2:]), (((0, 2), (0, 3)), whole[:2])])

    np.testing.assert_array_equal(got, whole, strict=True)


def test_a_gap_is_an_error():
    """Two slices of one place leave another one empty."""
    part = np.zeros(2, np.float32)
    with pytest.raises(CheckpointError, match="overlap and leave gaps"):
        joined((4,), "float32", [(((0, 2),), part), (((0, 2),), part)])


def test_a_slice_of_another_shape_than_its_place_is_refused():
    """Damaged metadata of a distributed checkpoint say so."""
    with pytest.raises(CheckpointError, match=r"a slice of shape \(2,\) does not fit its place, \(3,\)"):
        joined((4,), "float32", [(((0, 3),), np.zeros(2, np.float32))])
