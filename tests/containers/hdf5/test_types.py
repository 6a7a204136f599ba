"""Types and shapes, as h5py writes them."""

import h5py
import numpy as np
import pytest

from hdf5_files import VERSIONS, object_at, write
from regraft.containers.hdf5.arrays import read_values
from regraft.containers.hdf5.types import ElementType

NUMBERS = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "c8", "c16", "?"]


@pytest.mark.parametrize("version", VERSIONS)
def test_numbers_have_numpy_s_names(tmp_path, version):
    """Both byte orders; booleans and complex numbers as h5py composes them."""
    types = {np.dtype(f"{order}{kind}") for kind in NUMBERS for order in "<>"}
    path = write(tmp_path, lambda file: [file.create_dataset(one.str, (2, 3), one) for one in types], version=version)

    for one in types:
        found = read_values(object_at(path, one.str))
        order = ">" if one.str[0] == ">" else "<"
        assert found.type == ElementType(one.newbyteorder("=").name, one.itemsize, order)
        assert found.shape == (2, 3)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("dtype", "told"),
    [
        (h5py.string_dtype(), "text"), (h5py.string_dtype(length=5), "text"), (np.dtype("V3"), "opaque"),
        (np.dtype([("x", "f4"), ("y", "f4")]), "compound"), (np.dtype([("r", "f4"), ("i", "f8")]), "compound"),
        (np.dtype([("r", "f4"), ("i", "f4"), ("k", "f4")]), "compound"), (h5py.vlen_dtype("f4"), "variable length"),
        (h5py.ref_dtype, "reference"), (np.dtype(("f4", (2,))), "array"), (h5py.enum_dtype({"A": 0, "B": 1}), "uint8"),
    ],
)  # fmt: skip
def test_other_types_are_told_in_words(tmp_path, version, dtype, told):
    """So that the error says what the array holds."""

    def fill(file):
        kind = (
            h5py.h5t.array_create(h5py.h5t.IEEE_F32LE, (2,))
            if told == "array"
            else h5py.h5t.py_create(dtype, logical=1)
        )
        h5py.h5d.create(file.id, b"a", kind, h5py.h5s.create_simple((2,)))

    assert read_values(object_at(write(tmp_path, fill, version=version), "a")).type.dtype == told


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("bias", "told"), [(127, "bfloat16"), (126, "odd float")])
def test_bfloat16_is_told_by_its_fields(tmp_path, version, bias, told):
    """Eight bits of exponent, seven of mantissa; another bias is another number."""

    def fill(file):
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_fields(15, 7, 8, 0, 7)
        kind.set_precision(16)
        kind.set_size(2)
        kind.set_ebias(bias)
        h5py.h5d.create(file.id, b"a", kind, h5py.h5s.create_simple((2,)))

    assert read_values(object_at(write(tmp_path, fill, version=version), "a")).type.dtype == told


@pytest.mark.parametrize("version", VERSIONS)
def test_scalars_and_empty_spaces_are_told_apart(tmp_path, version):
    """() is one number, Empty is none."""

    def fill(file):
        file["scalar"], file["nothing"], file["no rows"] = 3.5, h5py.Empty("f4"), np.zeros((0, 3))

    path = write(tmp_path, fill, version=version)

    assert read_values(object_at(path, "scalar")).shape == ()
    assert read_values(object_at(path, "nothing")) is None
    assert read_values(object_at(path, "no rows")).shape == (0, 3)
