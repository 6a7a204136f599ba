"""ONNX' layers become layers of torch under the file's own names, and compute what ONNX Runtime computes."""

import numpy as np
import pytest
import torch
from tests.onnx_networks import build_onnx, compare, floats, node, write_onnx
from torch import nn

from regraft.errors import BuildError

X = floats(2, 4, 7, 8)
CONV = {"stem.conv.weight": floats(6, 4, 3, 3), "stem.conv.bias": floats(6)}
CONVOLUTIONS = [
    {}, {"pads": [1, 1, 1, 1]}, {"pads": [0, 1, 2, 1]}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"auto_pad": "VALID"}, {"dilations": [2, 1]}, {"strides": [2, 3]},
]  # fmt: skip


@pytest.mark.parametrize("settings", CONVOLUTIONS)
def test_a_convolution_is_a_layer_under_its_own_name(tmp_path, settings):
    """With every padding."""
    built = compare(tmp_path, [node("Conv", "x stem.conv.weight stem.conv.bias", "y", **settings)], {"x": X}, CONV,
                    tolerance=1e-5)  # fmt: skip

    assert isinstance(built.model.stem.conv, nn.Conv2d)
    assert torch.equal(built.model.stem.conv.weight, torch.from_numpy(CONV["stem.conv.weight"]))


def test_a_convolution_of_groups_and_one_over_time(tmp_path):
    """Depthwise, and of one axis."""
    arrays = {"a.weight": floats(4, 1, 3, 3), "b.weight": floats(5, 4, 3)}
    nodes = [node("Conv", "x a.weight", "y", group=4), node("Conv", "t b.weight", "z", strides=[2])]

    built = compare(tmp_path, nodes, {"x": X, "t": floats(2, 4, 9)}, arrays, outputs=("y", "z"), tolerance=1e-5)

    assert isinstance(built.model.b, nn.Conv1d)
    assert built.model.a.groups == 4


TRANSPOSED = [
    {}, {"strides": [2, 2]}, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, {"strides": [2, 2], "output_padding": [1, 1]},
    {"strides": [2, 2], "pads": [0, 0, 1, 1]}, {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
]  # fmt: skip


@pytest.mark.parametrize("settings", TRANSPOSED)
def test_a_transposed_convolution_cuts_its_output_as_the_file_says(tmp_path, settings):
    """Also more behind than before."""
    arrays = {"up.weight": floats(4, 5, 3, 3), "up.bias": floats(5)}

    compare(tmp_path, [node("ConvTranspose", "x up.weight up.bias", "y", **settings)], {"x": X}, arrays, tolerance=1e-5)


DENSE = {
    "gemm": ([node("Gemm", "x fc.weight fc.bias", "y", transB=1)], {"fc.weight": floats(3, 5), "fc.bias": floats(3)}),
    "gemm turned": ([node("Gemm", "x fc.weight fc.bias", "y")], {"fc.weight": floats(5, 3), "fc.bias": floats(3)}),
    "matmul": ([node("MatMul", "x fc.weight", "z"), node("Add", "z fc.bias", "y")],
               {"fc.weight": floats(5, 3), "fc.bias": floats(3)}),
    "matmul turned": ([node("Transpose", "fc.weight", "t", perm=[1, 0]), node("MatMul", "x t", "z"),
                       node("Add", "fc.bias z", "y")], {"fc.weight": floats(3, 5), "fc.bias": floats(3)}),
}  # fmt: skip


@pytest.mark.parametrize("name", DENSE)
def test_a_product_with_an_array_is_a_dense_layer_with_its_bias(tmp_path, name):
    """Whichever way the matrix is stored, and wherever the bias is added."""
    nodes, arrays = DENSE[name]

    built = compare(tmp_path, nodes, {"x": floats(4, 5)}, arrays, tolerance=1e-5)

    assert isinstance(built.model.fc, nn.Linear)
    assert torch.equal(built.model.fc.bias, torch.from_numpy(arrays["fc.bias"]))


def test_a_bias_that_is_used_elsewhere_too_stays_a_step(tmp_path):
    """The layer's own output is an output of the graph."""
    arrays = {"fc.weight": floats(5, 3), "fc.bias": floats(3)}
    nodes = [node("MatMul", "x fc.weight", "z"), node("Add", "z fc.bias", "y")]

    compare(tmp_path, nodes, {"x": floats(4, 5)}, arrays, outputs=("y", "z"), tolerance=1e-5)


def test_two_nodes_with_the_same_arrays_are_one_layer(tmp_path):
    """A shared layer trains as one."""
    arrays = {"fc.weight": floats(5, 5), "fc.bias": floats(5)}
    nodes = [node("Gemm", "x fc.weight fc.bias", "z"), node("Gemm", "z fc.weight fc.bias", "y")]

    built = compare(tmp_path, nodes, {"x": floats(4, 5)}, arrays, tolerance=1e-5)

    assert [type(layer) for layer in built.model.children()] == [nn.Linear]


NORM = {"n.scale": floats(4), "n.shift": floats(4), "n.mean": floats(4), "n.variance": np.abs(floats(4)) + 0.5}
NORMS = {
    "batch": ([node("BatchNormalization", "x n.scale n.shift n.mean n.variance", "y", epsilon=0.01, momentum=0.8)],
        NORM,
              nn.BatchNorm2d),
    "instance": ([node("InstanceNormalization", "x n.scale n.shift", "y", epsilon=0.01)],
                 {name: NORM[name] for name in ("n.scale", "n.shift")}, nn.InstanceNorm2d),
    "layer": ([node("LayerNormalization", "x n.scale n.shift", "y", epsilon=0.01)],
              {"n.scale": floats(8), "n.shift": floats(8)}, nn.LayerNorm),
    "group": ([node("GroupNormalization", "x n.scale n.shift", "y", epsilon=0.01, num_groups=2)],
              {name: NORM[name] for name in ("n.scale", "n.shift")}, nn.GroupNorm),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_is_a_layer(tmp_path, name):
    """With its eps."""
    nodes, arrays, kind = NORMS[name]

    built = compare(tmp_path, nodes, {"x": X}, arrays, opset=21 if name == "group" else 17, tolerance=1e-5)

    assert isinstance(built.model.n, kind)
    assert built.model.n.eps == 0.01
    if name == "batch":
        assert built.model.n.momentum == 0.2


def unfused_norm(mean_axes):
    """The nodes of a layer norm before opset 17."""
    return [
        node("ReduceMean", "x", "m", axes=mean_axes), node("Sub", "x m", "c"), node("Pow", "c two", "s"),
        node("ReduceMean", "s", "v", axes=mean_axes), node("Add", "v eps", "e"), node("Sqrt", "e", "d"),
        node("Div", "c d", "n"), node("Mul", "n norm.weight", "w"), node("Add", "w norm.bias", "y"),
    ]  # fmt: skip


@pytest.mark.parametrize(("axes", "is_layer"), [([-1], True), ([-2], False)])
def test_the_nodes_of_a_layer_norm_are_one_layer(tmp_path, axes, is_layer):
    """Over the last axis alone: over another one they stay steps."""
    arrays = {"norm.weight": floats(8), "norm.bias": floats(8), "two": np.array(2, np.float32),
              "eps": np.array(0.01, np.float32)}  # fmt: skip

    built = compare(tmp_path, unfused_norm(axes), {"x": X}, arrays, opset=13, tolerance=1e-5)

    assert any(isinstance(layer, nn.LayerNorm) for layer in built.model.modules()) == is_layer


@pytest.mark.parametrize(("scale", "is_layer"), [(1.0, True), (2.0, False)])
def test_the_nodes_of_a_group_norm_are_one_layer(tmp_path, scale, is_layer):
    """As torch exports it: an instance norm of the groups, whose own scale is 1."""
    arrays = {
        "groups": np.array([0, 2, -1]), "ones": np.full(2, scale, np.float32), "zeros": np.zeros(2, np.float32),
        "back": np.array([2, 4, 7, 8]), "norm.weight": floats(4, 1, 1), "norm.bias": floats(4, 1, 1),
    }  # fmt: skip
    nodes = [
        node("Reshape", "x groups", "g"), node("InstanceNormalization", "g ones zeros", "i", epsilon=0.01),
        node("Reshape", "i back", "b"), node("Mul", "b norm.weight", "w"), node("Add", "w norm.bias", "y"),
    ]  # fmt: skip

    built = compare(tmp_path, nodes, {"x": X}, arrays, tolerance=1e-5)

    assert any(isinstance(layer, nn.GroupNorm) for layer in built.model.modules()) == is_layer


def test_rows_of_a_table_are_an_embedding(tmp_path):
    """And places of a shape are not."""
    built = compare(tmp_path, [node("Gather", "words.weight i", "y")], {"i": np.array([[1, 3], [0, 2]])},
                    {"words.weight": floats(5, 3)})  # fmt: skip

    assert isinstance(built.model.words, nn.Embedding)


@pytest.mark.parametrize("shape", [(4, 1, 1), (1,)])
def test_a_slope_is_a_layer(tmp_path, shape):
    """One for each channel, or one."""
    built = compare(tmp_path, [node("PRelu", "x act.slope", "y")], {"x": X}, {"act.slope": floats(*shape)})

    assert isinstance(built.model.act, nn.PReLU)


def test_dropout_is_a_layer_that_works_in_training(tmp_path):
    """In evaluation it changes nothing."""
    built = compare(
        tmp_path, [node("Dropout", "x p", "y", name="/drop/Dropout")], {"x": X}, {"p": np.array(0.3, np.float32)}
    )

    assert [layer.p for layer in built.model.modules() if isinstance(layer, nn.Dropout)] == [pytest.approx(0.3)]


REFUSED = {
    "weights": ([node("Add", "w w", "v"), node("Conv", "x v", "y")], {"w": floats(4, 4, 1, 1)},
                "its weights are computed as the network runs"),
    "training": ([node("BatchNormalization", "x n.scale n.shift n.mean n.variance", "y", training_mode=1)], NORM,
                 "it is in training mode"),
    "size": ([node("ConvTranspose", "x w", "y", output_shape=[9, 9])], {"w": floats(4, 4, 3, 3)},
             "it names the size of its output"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_that_torch_does_not_have_is_refused(tmp_path, name):
    """By node, with the reason."""
    nodes, arrays, text = REFUSED[name]
    path = write_onnx(tmp_path / "net.onnx", nodes, {"x": X}, arrays)

    with pytest.raises(BuildError, match=text):
        build_onnx(path)
