"""Reductions, softmax, pooling, resizing and products of ONNX compute what ONNX Runtime computes."""

import numpy as np
import pytest
from tests.onnx_networks import build_onnx, compare, floats, node, write_onnx

from regraft.errors import BuildError

X = floats(2, 3, 6, 8)
REDUCTIONS = ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
              "ReduceLogSumExp", "ReduceSumSquare"]  # fmt: skip


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("operator", REDUCTIONS)
def test_a_reduction_computes_as_onnx_does(tmp_path, operator, keep):
    """Over some axes, which are an input since opset 18 and an attribute before."""
    arrays = {"a": np.array([1, -1], np.int64)}

    compare(tmp_path, [node(operator, "x a", "y", keepdims=keep)], {"x": X}, arrays, opset=18)
    if operator != "ReduceSum":
        compare(tmp_path, [node(operator, "x", "y", keepdims=keep, axes=[1, -1])], {"x": X}, {}, opset=12)


CASES = {
    "sum of all": (13, [node("ReduceSum", "x", "y", keepdims=0)]),
    "no axes": (13, [node("ReduceSum", "x", "y", noop_with_empty_axes=1)]),
    "log of a sum": (17, [node("Abs", "x", "z"), node("ReduceLogSum", "z", "y", axes=[2])]),
    "argmax": (17, [node("ArgMax", "x", "y", axis=2)]),
    "argmin": (17, [node("ArgMin", "x", "y", axis=-1, keepdims=0)]),
    "softmax": (13, [node("Softmax", "x", "y")]),
    "softmax of an axis": (13, [node("Softmax", "x", "y", axis=1)]),
    "softmax before 13": (11, [node("Softmax", "x", "y")]),
    "log softmax": (13, [node("LogSoftmax", "x", "y", axis=2)]),
    "global average": (17, [node("GlobalAveragePool", "x", "y")]),
    "global max": (17, [node("GlobalMaxPool", "x", "y")]),
    "lrn": (17, [node("LRN", "x", "y", size=3, alpha=0.2, beta=0.6, bias=1.5)]),
    "lp": (17, [node("LpNormalization", "x", "y", axis=1)]),
    "max pool": (17, [node("MaxPool", "x", "y", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0])]),
    "max pool odd": (17, [node("MaxPool", "x", "y", kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])]),
    "max pool same": (17, [node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")]),
    "max pool holes": (17, [node("MaxPool", "x", "y", kernel_shape=[2, 2], dilations=[2, 2], strides=[1, 1])]),
    "max pool ceil": (17, [node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)]),
    "average pool": (17, [node("AveragePool", "x", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1])]),
    "average pool counted": (17, [node("AveragePool", "x", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1],
                                       count_include_pad=1)]),
    "average pool odd": (17, [node("AveragePool", "x", "y", kernel_shape=[2, 3], pads=[0, 1, 1, 1])]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_operator_along_axes_computes_as_onnx_does(tmp_path, name):
    """Defaults that depend on the opset included."""
    opset, nodes = CASES[name]

    compare(tmp_path, nodes, {"x": X}, {}, opset=opset)


@pytest.mark.parametrize("settings", [{}, {"reverse": 1}])
def test_cumsum_goes_both_ways(tmp_path, settings):
    """Along an axis that is an input."""
    compare(tmp_path, [node("CumSum", "x a", "y", **settings)], {"x": X}, {"a": np.array(2)})


@pytest.mark.parametrize("largest", [0, 1])
def test_topk_gives_values_and_indices(tmp_path, largest):
    """The largest, or the smallest."""
    nodes = [node("TopK", "x k", "y i", axis=2, largest=largest)]

    compare(tmp_path, nodes, {"x": X}, {"k": np.array([3])}, outputs=("y", "i"))


RESIZES = [
    ({"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, (2.0, 3.0)),
    ({"mode": "nearest"}, (2.0, 2.0)),
    ({"mode": "nearest"}, (1.5, 0.7)),
    ({"mode": "linear"}, (2.0, 1.5)),
    ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, (2.0, 1.5)),
    ({"mode": "linear", "coordinate_transformation_mode": "asymmetric"}, (2.0, 2.0)),
    ({"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}, (0.5, 2.0)),
    ({"mode": "cubic"}, (2.0, 2.0)),
]


@pytest.mark.parametrize(("settings", "scales"), RESIZES)
def test_resize_computes_as_onnx_does(tmp_path, settings, scales):
    """All modes and coordinates; a factor that is no whole number keeps to the factor, not to the sizes."""
    arrays = {"roi": np.zeros(0, np.float32), "s": np.array([1, 1, *scales], np.float32)}

    compare(tmp_path, [node("Resize", "x roi s", "y", **settings)], {"x": X}, arrays, tolerance=1e-5)


def test_resize_to_a_size(tmp_path):
    """The fourth input."""
    arrays = {"s": np.array([2, 3, 9, 5])}

    compare(tmp_path, [node("Resize", "x   s", "y", mode="linear")], {"x": X}, arrays, tolerance=1e-5)


@pytest.mark.parametrize(("settings", "text"), [
    ({"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}, "its coordinates are tf_crop"),
    ({"mode": "cubic", "cubic_coeff_a": -0.5}, "its cubic has another coefficient"),
    ({"mode": "linear", "antialias": 1}, "filters against aliasing"),
])  # fmt: skip
def test_a_resize_that_has_no_translation_is_refused(tmp_path, settings, text):
    """With the setting."""
    arrays = {"roi": np.zeros(8, np.float32), "s": np.array([1, 1, 2, 2], np.float32), "w": floats(2)}
    path = write_onnx(tmp_path / "net.onnx", [node("Resize", "x roi s", "y", **settings)], {"x": X}, arrays, opset=18)

    with pytest.raises(BuildError, match=text):
        build_onnx(path)


PRODUCTS = {
    "matmul": [node("MatMul", "a b", "y")],
    "gemm": [node("Gemm", "m n k", "y", alpha=0.5, beta=2.0, transA=1, transB=1)],
    "gemm without": [node("Gemm", "m n", "y", transA=1, transB=1)],
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_values_compute_as_onnx_does(tmp_path, name):
    """Neither factor is an array of the file."""
    inputs = {"a": floats(2, 3, 4), "b": floats(4, 5), "m": floats(4, 3), "n": floats(5, 4), "k": floats(5)}

    compare(tmp_path, PRODUCTS[name], inputs, {}, tolerance=1e-5)


def test_positions_of_a_pooling_are_refused(tmp_path):
    """They are only needed by an unpooling."""
    nodes = [node("MaxPool", "x", "z i", kernel_shape=[2, 2]), node("Cast", "i", "y", to=1)]
    path = write_onnx(tmp_path / "net.onnx", nodes, {"x": X}, {"w": floats(2)})

    with pytest.raises(BuildError, match="it gives the positions of the largest values"):
        build_onnx(path)
