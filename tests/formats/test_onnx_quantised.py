"""Integers of an ONNX graph that stand for real numbers."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from golden_files import facts_of
from regraft.errors import CheckpointError
from regraft.formats.onnx import Onnx

CODES = np.array([[-127, 3, 5], [7, -9, 100]], np.int8)
SCALES = np.array([0.5, 0.25], np.float32)


def opened(folder, nodes, **tensors):
    inits = [
        array if isinstance(array, TensorProto) else numpy_helper.from_array(np.asarray(array), name)
        for name, array in tensors.items()
    ]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], inits)), folder / "m.onnx")
    return Onnx().open(folder / "m.onnx")


def test_a_dequantised_weight_is_read_as_numbers_and_belongs_to_its_layer(tmp_path):
    """The integers as they lie would be another network."""
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0),
        helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1, name="fc"),
    ]
    zeros = np.array([1, -2], np.int8)

    checkpoint = opened(tmp_path, nodes, q=CODES, s=SCALES, z=zeros, b=np.ones(2, "f"))

    expected = (CODES.astype("f") - zeros[:, None]) * SCALES[:, None]
    np.testing.assert_array_equal(checkpoint.read("q"), expected, strict=True)
    assert checkpoint["q"].dtype == "float32"
    assert checkpoint["q"].layer_type == "Gemm"
    assert checkpoint["q"].note == "dequantised from int8, 2 scales along axis 0"
    assert checkpoint["s"].role == checkpoint["z"].role == "constant"
    assert facts_of(checkpoint, checkpoint["q"].layer)["kernel_axes"] == ["out", "in"]
    assert checkpoint.notes == ("1 arrays are quantised: their values are near those of the original.",)


def test_one_scale_holds_for_the_whole_tensor(tmp_path):
    """A scalar, without a zero point."""
    node = helper.make_node("DequantizeLinear", ["q", "s"], ["w"])

    checkpoint = opened(tmp_path, [node], q=CODES, s=np.float32(0.5))

    np.testing.assert_array_equal(checkpoint.read("q"), CODES.astype("f") * 0.5)


def test_blocks_of_int4_have_a_scale_each(tmp_path):
    """Opset 21's form of weights for language models; the last block is shorter."""
    codes = np.array([[1, -8, 7], [0, 3, -3]])
    tensor = helper.make_tensor("q", TensorProto.INT4, [2, 3], codes.ravel())
    node = helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=1, block_size=2)
    scales = np.array([[0.5, 2], [1, 3]], np.float32)

    checkpoint = opened(tmp_path, [node], q=tensor, s=scales)

    np.testing.assert_array_equal(checkpoint.read("q"), [[0.5, -4, 14], [0, 3, -9]])


def test_a_convolution_of_integers_is_a_convolution(tmp_path):
    """Its kernel has a scale for each filter, its bias the scale of the input times that."""
    kernel = np.arange(-8, 8, dtype=np.int8).reshape(2, 2, 2, 2)
    names = ["x", "xs", "xz", "q", "s", "z", "ys", "yz", "b"]
    node = helper.make_node("QLinearConv", names, ["y"], name="conv", strides=[2, 2])

    checkpoint = opened(
        tmp_path, [node], q=kernel, s=SCALES, z=np.zeros(2, np.int8), xs=np.float32(0.5), xz=np.uint8(3),
        ys=np.float32(1), yz=np.uint8(0), b=np.array([4, -8], np.int32),
    )  # fmt: skip

    np.testing.assert_array_equal(checkpoint.read("q"), kernel * SCALES[:, None, None, None])
    np.testing.assert_array_equal(checkpoint.read("b"), [1, -1])
    assert (checkpoint["q"].layer_type, checkpoint["b"].leaf) == ("Conv", "bias")
    assert facts_of(checkpoint, checkpoint["q"].layer)["strides"] == [2, 2]


def test_onnx_runtime_s_dynamic_quantisation_is_known_by_its_names(tmp_path):
    """The scale stands in a Mul behind the layer; the quantiser's names say which it is."""
    node = helper.make_node("MatMulInteger", ["x", "fc_quantized", "xz", "fc_zero_point"], ["y"])

    checkpoint = opened(tmp_path, [node], fc_quantized=CODES, fc_scale=np.float32(0.5), fc_zero_point=np.int8(3))

    np.testing.assert_array_equal(checkpoint.read("fc_quantized"), (CODES - 3.0) * 0.5)
    assert checkpoint["fc_quantized"].layer_type == "MatMul"


def test_integers_without_a_scale_are_no_weights(tmp_path):
    """Nothing is guessed."""
    node = helper.make_node("MatMulInteger", ["x", "codes"], ["y"])

    assert opened(tmp_path, [node], codes=CODES)["codes"].role == "constant"


def test_scales_that_do_not_fit_are_refused(tmp_path):
    """Three for two rows."""
    node = helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0)

    with pytest.raises(CheckpointError, match=r"'q' of shape \(2, 3\) has scales of shape \(3,\)"):
        opened(tmp_path, [node], q=CODES, s=np.ones(3, "f"))


@pytest.mark.parametrize(("scale_shape", "zero"), [((), None), ((1, 4), None), ((4,), 3), ((3, 1), None)])
def test_integers_that_are_cast_and_multiplied_read_as_numbers(tmp_path, scale_shape, zero):
    """Quantisers of people's own write Cast and Mul; the golden values are ONNX' own reference's."""
    rng = np.random.default_rng(0)
    integers, scale = rng.integers(-128, 127, (3, 4)).astype("i1"), rng.random(scale_shape).astype("f") + 0.1
    nodes = [helper.make_node("Cast", ["q"], ["f"], to=TensorProto.FLOAT)]
    tensors = {"q": integers, "s": np.asarray(scale, "f")}
    if zero is not None:
        nodes.append(helper.make_node("Sub", ["f", "z"], ["g"]))
        tensors["z"] = np.asarray(zero, "f")
    nodes += [
        helper.make_node("Mul", ["f" if zero is None else "g", "s"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="fc"),
    ]
    inits = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", 1, [2, 3])], [value("y", 1, [2, 4])], inits)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    x = np.eye(3, dtype="f")[:2]

    checkpoint = Onnx().open(tmp_path / "m.onnx")

    assert [(name, info.layer, info.dtype) for name, info in checkpoint.items() if info.role == "weight"] == [
        ("q", "fc", "float32")
    ]
    (expected,) = ReferenceEvaluator(str(tmp_path / "m.onnx")).run(None, {"x": x})
    np.testing.assert_allclose(x @ checkpoint.read("q"), expected, rtol=1e-6)  # one rounding
    assert "dequantised from int8" in checkpoint["q"].note


def test_the_kernels_of_onnx_runtimes_quantised_cell_are_those_of_the_cell(tmp_path):
    """DynamicQuantizeLSTM keeps them in int8 as (directions, in, gates); two directions, one scale each."""
    from onnxruntime.quantization import quantize_dynamic

    rng = np.random.default_rng(0)
    arrays = {"W": rng.normal(size=(2, 12, 4)), "R": rng.normal(size=(2, 12, 3)), "B": rng.normal(size=(2, 24))}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    node = helper.make_node("LSTM", ["x", *arrays], ["y"], "cell", hidden_size=3, direction="bidirectional")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([node], "g", [x], [y], tensors)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), tmp_path / "whole.onnx"
    )
    quantize_dynamic(tmp_path / "whole.onnx", tmp_path / "codes.onnx")

    whole, codes = Onnx().open(tmp_path / "whole.onnx"), Onnx().open(tmp_path / "codes.onnx")

    assert {info.leaf for info in codes.values() if info.role == "weight"} == {"W", "R", "B"}
    named = {info.leaf: name for name, info in codes.items()}
    for name, info in whole.items():
        step = np.abs(arrays[info.leaf]).max() / 127
        assert np.abs(codes.read(named[info.leaf]) - whole.read(name)).max() <= step
