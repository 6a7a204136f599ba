"""The ways in which ONNX writes a tensor's values."""

import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.errors import CheckpointError
from regraft.formats.onnx import Onnx


def opened(folder, *tensors):
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], list(tensors))), folder / "m.onnx")
    return Onnx().open(folder / "m.onnx")


@pytest.mark.parametrize("dtype", [
    "float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    "complex64", "complex128",
])  # fmt: skip
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "numbers"])
def test_every_dtype_reads_equal_both_ways(tmp_path, dtype, raw):
    """As raw bytes and as protobuf's numbers."""
    array = np.array([[0, 1, 3], [1, 0, 100]]).astype(dtype)
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    values = array.tobytes() if raw else array.ravel()

    checkpoint = opened(tmp_path, helper.make_tensor("t", number, array.shape, values, raw=raw))

    np.testing.assert_array_equal(checkpoint.read("t"), array, strict=True)


def test_negative_numbers_survive(tmp_path):
    """Protobuf writes them as 64 bits."""
    array = np.array([-1, -(2**31), 5], "int32")

    checkpoint = opened(tmp_path, helper.make_tensor("t", TensorProto.INT32, [3], array))

    np.testing.assert_array_equal(checkpoint.read("t"), array, strict=True)


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "numbers"])
def test_bfloat16_is_widened(tmp_path, raw):
    """Exactly."""
    bits = np.array([0x3FC0, 0xC000], np.uint16)
    tensor = helper.make_tensor("t", TensorProto.BFLOAT16, [2], bits.tobytes() if raw else [1.5, -2.0], raw=raw)

    checkpoint = opened(tmp_path, tensor)

    np.testing.assert_array_equal(checkpoint.read("t"), np.array([1.5, -2], "float32"), strict=True)
    assert checkpoint["t"].dtype == "bfloat16"


def external(folder, location, *, offset="0", length="8"):
    """A model whose tensor lies in another file."""
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=value)
    (folder / "m.onnx").write_bytes(helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString())
    return folder / "m.onnx"


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:\\secret", "", "x\0y"]
)
def test_values_outside_the_folder_are_refused(tmp_path, location):
    """The path is the attacker's."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(8))

    with pytest.raises(CheckpointError, match="refused to read values from"):
        Onnx().open(external(folder, location))


def test_a_link_out_of_the_folder_is_refused_unless_the_model_is_one_too(tmp_path):
    """Download caches link both into a folder of blobs."""
    blobs, cache, other = tmp_path / "blobs", tmp_path / "cache", tmp_path / "other"
    for folder in (blobs, cache, other):
        folder.mkdir()
    (blobs / "data").write_bytes(np.array([1, 2], "<f4").tobytes())
    shutil.move(external(tmp_path, "t.data"), blobs / "model")
    shutil.copy(blobs / "model", other / "m.onnx")
    for folder in (cache, other):
        (folder / "t.data").symlink_to(blobs / "data")
    (cache / "m.onnx").symlink_to(blobs / "model")

    np.testing.assert_array_equal(Onnx().open(cache / "m.onnx").read("t"), [1, 2])
    with pytest.raises(CheckpointError, match="refused to read values from"):
        Onnx().open(other / "m.onnx")


@pytest.mark.parametrize(("changes", "told"), [
    ({"offset": "4"}, "belong together"), ({"offset": "-4"}, "belong together"), ({"length": "800"}, "belong together"),
    ({"offset": "x"}, "no number"),
])  # fmt: skip
def test_values_beyond_the_other_file_are_refused(tmp_path, changes, told):
    """Before anything is allocated."""
    (tmp_path / "t.data").write_bytes(bytes(8))

    with pytest.raises(CheckpointError, match=told):
        Onnx().open(external(tmp_path, "t.data", **changes))


def test_a_missing_file_of_values_is_named(tmp_path):
    """It was not downloaded."""
    with pytest.raises(CheckpointError, match=r"t\.data, which holds the values of 't', is not in its folder"):
        Onnx().open(external(tmp_path, "t.data"))


@pytest.mark.parametrize("dims", [[2, 2], [-1, -2], [1 << 40], [3]])
def test_a_shape_that_does_not_fit_its_bytes_is_refused(tmp_path, dims):
    """Whatever it claims."""
    tensor = numpy_helper.from_array(np.ones(2, "f"), "t")
    tensor.dims[:] = dims

    with pytest.raises(CheckpointError, match=r"holds 8|impossible shape"):
        opened(tmp_path, tensor)


def test_texts_are_left_out(tmp_path):
    """They are no arrays of numbers."""
    text = helper.make_tensor("words", TensorProto.STRING, [1], [b"x"])

    assert list(opened(tmp_path, text, numpy_helper.from_array(np.ones(2, "f"), "t"))) == ["t"]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "numbers"])
@pytest.mark.parametrize(("kind", "values", "dtype"), [
    (TensorProto.INT4, [-8, 7, 3], "int4"), (TensorProto.UINT4, [15, 0, 9], "uint4"),
    (TensorProto.FLOAT4E2M1, [-6.0, 0.5, 4.0], "float4_e2m1fn"),
])  # fmt: skip
def test_numbers_of_four_bits_lie_two_in_a_byte(tmp_path, kind, values, dtype, raw):
    """An odd count, so that half a byte is left over."""
    tensor = helper.make_tensor("t", kind, [3], values)
    if raw:
        codes = b"".join(number.to_bytes(1) for number in tensor.int32_data)
        tensor = helper.make_tensor("t", kind, [3], codes, raw=True)

    checkpoint = opened(tmp_path, tensor)

    assert checkpoint.read("t").tolist() == values
    assert checkpoint["t"].dtype == dtype
