"""Every ONNX operator that moves numbers computes what ONNX Runtime computes."""

import numpy as np
import pytest
import torch
from tests.onnx_networks import build_onnx, compare, floats, node, write_onnx

from regraft.errors import BuildError

X = floats(2, 3, 4, 5)


def i64(*numbers):
    """A list of whole numbers."""
    return np.array(numbers, np.int64)


CASES = {
    "reshape": ([node("Reshape", "x s", "y")], {"s": i64(0, -1, 10)}),
    "flatten": ([node("Flatten", "x", "y")], {}),
    "flatten 0": ([node("Flatten", "x", "y", axis=0)], {}),
    "flatten 2": ([node("Flatten", "x", "y", axis=2)], {}),
    "transpose": ([node("Transpose", "x", "z", perm=[2, 0, 3, 1]), node("MatMul", "z w", "y")], {"w": floats(3, 2)}),
    "transpose all": ([node("Transpose", "x", "y")], {}),
    "squeeze": ([node("Slice", "x a b c", "z"), node("Squeeze", "z c", "y")], {"a": i64(1), "b": i64(2), "c": i64(1)}),
    "unsqueeze": ([node("Unsqueeze", "x a", "y")], {"a": i64(0, -1)}),
    "expand": ([node("Expand", "x s", "y")], {"s": i64(2, 2, 1, 1, 5)}),
    "tile": ([node("Tile", "x s", "y")], {"s": i64(1, 2, 1, 3)}),
    "slice": ([node("Slice", "x a b c d", "y")], {"a": i64(1, -4), "b": i64(3, 1 << 60), "c": i64(1, 3), "d": i64(1,
        2)}),
    "slice back": ([node("Slice", "x a b c d", "y")], {"a": i64(-1), "b": i64(-(1 << 60)), "c": i64(2), "d": i64(-1)}),
    "split": ([node("Split", "x s", "a b", axis=3), node("Concat", "b a", "y", axis=-1)], {"s": i64(2, 3)}),
    "split even": ([node("Split", "x", "a b", axis=2, num_outputs=2), node("Sub", "b a", "y")], {}),
    "gather": ([node("Gather", "x i", "y", axis=2)], {"i": np.array([[0, -1], [2, 1]])}),
    "gather one": ([node("Gather", "x i", "y", axis=-1)], {"i": np.array(-2)}),
    "gather elements": ([node("GatherElements", "x i", "y", axis=3)], {"i": np.array([[[[0, -1, 2]] * 4] * 3] * 2)}),
    "gather nd": ([node("GatherND", "x i", "y")], {"i": np.array([[0, 1], [1, -1]])}),
    "gather nd batch": ([node("GatherND", "x i", "y", batch_dims=1)], {"i": np.array([[0], [2]])}),
    "scatter nd": ([node("ScatterND", "x i u", "y")], {"i": np.array([[0, 1], [1, 2]]), "u": floats(2, 4, 5)}),
    "scatter nd add": ([node("ScatterND", "x i u", "y", reduction="add")],
                       {"i": np.array([[0, 1], [0, 1]]), "u": floats(2, 4, 5)}),
    "scatter elements": ([node("ScatterElements", "x i u", "y", axis=1)],
                         {"i": np.array([[[[1] * 5] * 4]] * 2), "u": floats(2, 1, 4, 5)}),
    "one hot": ([node("ArgMax", "x", "i", axis=3, keepdims=0), node("OneHot", "i d v", "y", axis=1)],
                {"d": i64(6), "v": np.array([0.5, 2], np.float32)}),
    "pad": ([node("Pad", "x p v", "y")], {"p": i64(0, 1, 0, 2, 0, 0, 3, 1), "v": np.array(7, np.float32)}),
    "pad cut": ([node("Pad", "x p", "y")], {"p": i64(0, 0, -1, 0, 0, 0, 0, 1)}),
    "pad axes": ([node("Pad", "x p  a", "y")], {"p": i64(1, 2), "a": i64(3)}),
    "pad reflect": ([node("Pad", "x p", "y", mode="reflect")], {"p": i64(0, 0, 1, 2, 0, 0, 3, 1)}),
    "pad edge": ([node("Pad", "x p", "y", mode="edge")], {"p": i64(0, 0, 1, 2, 0, 0, 3, 1)}),
    "triangle": ([node("Trilu", "x k", "y", upper=0)], {"k": np.array(1)}),
    "triangle up": ([node("Trilu", "x", "y")], {}),
    "einsum": ([node("Einsum", "x w", "y", equation="bchw, cd -> bdhw")], {"w": floats(3, 2)}),
    "shape": ([node("Shape", "x", "s", start=1), node("Cast", "s", "y", to=1)], {}),
    "size": ([node("Size", "x", "s"), node("Cast", "s", "y", to=1)], {}),
    "fill": ([node("Shape", "x", "s"), node("ConstantOfShape", "s", "z"), node("Add", "x z", "y")], {}),
    "range": ([node("Shape", "x", "s"), node("Gather", "s i", "n"), node("Range", "z n o", "y")],
              {"i": np.array(3), "z": np.array(0), "o": np.array(1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_as_onnx_does(tmp_path, name):
    """Settings that are constants are written into the code."""
    nodes, arrays = CASES[name]

    compare(tmp_path, nodes, {"x": X}, arrays, opset=18)


BLOCKS = [("DepthToSpace", (2, 8, 3, 4), {}), ("DepthToSpace", (2, 8, 3, 4), {"mode": "CRD"}),
          ("SpaceToDepth", (2, 3, 4, 6), {})]  # fmt: skip


@pytest.mark.parametrize(("operator", "shape", "settings"), BLOCKS)
def test_blocks_move_between_channels_and_space(tmp_path, operator, shape, settings):
    """In both orders of the channels."""
    compare(tmp_path, [node(operator, "x", "y", blocksize=2, **settings)], {"x": floats(*shape)}, {})


def test_sizes_that_are_computed_stay_numbers_of_python(tmp_path):
    """A reshape to sizes of another value, with an axis that is kept: no tensor is made for them."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s first", "n"),
        node("Gather", "s last", "c"),
        node("Mul", "c two", "c2"),
        node("Unsqueeze", "n zero", "n1"),
        node("Unsqueeze", "c2 zero", "c1"),
        node("Concat", "n1 minus c1", "shape", axis=0),
        node("Reshape", "x shape", "y"),
    ]
    arrays = {"first": np.array(0), "last": np.array(-1), "two": np.array(2), "zero": i64(0), "minus": i64(-1)}

    built = compare(tmp_path, nodes, {"x": X}, arrays)

    assert "torch.tensor" not in built.text
    assert ".reshape((" in built.text or ".reshape(" in built.text


def test_a_size_of_0_keeps_the_axis_also_among_computed_sizes(tmp_path):
    """ONNX' own rule for Reshape."""
    nodes = [
        node("Shape", "x", "s"),
        node("Slice", "s a b", "n"),
        node("Concat", "zero n minus", "shape", axis=0),
        node("Reshape", "x shape", "y"),
    ]

    compare(tmp_path, nodes, {"x": X}, {"a": i64(1), "b": i64(2), "zero": i64(0), "minus": i64(-1)})


def test_a_slice_between_computed_bounds(tmp_path):
    """The end is half of a size."""
    nodes = [
        node("Shape", "x", "s"),
        node("Slice", "s a b", "n"),
        node("Div", "n two", "half"),
        node("Slice", "x zero half axis", "y"),
    ]
    arrays = {"a": i64(2), "b": i64(3), "two": i64(2), "zero": i64(0), "axis": i64(2)}

    compare(tmp_path, nodes, {"x": X}, arrays)


def test_settings_of_old_files_are_attributes(tmp_path):
    """Axes, starts and widths up to opset 9."""
    nodes = [
        node("Slice", "x", "a", starts=[1], ends=[3], axes=[1]),
        node("Pad", "a", "b", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=2.0),
        node("Unsqueeze", "b", "c", axes=[0]),
        node("Squeeze", "c", "y", axes=[0]),
    ]

    compare(tmp_path, nodes, {"x": X}, {}, opset=9)


@pytest.mark.parametrize(("bound", "step"), [(0, -1), (-3, -2)])
def test_a_slice_that_torch_does_not_have_is_refused(tmp_path, bound, step):
    """Backwards over a part of an axis."""
    arrays = {"a": i64(-1), "b": i64(bound), "c": i64(2), "d": i64(step)}
    path = write_onnx(tmp_path / "net.onnx", [node("Slice", "x a b c d", "y")], {"x": X}, arrays | {"w": floats(2)})

    with pytest.raises(BuildError, match="it goes backwards from -1 to"):
        build_onnx(path)


def test_a_padding_by_computed_widths(tmp_path):
    """As tf2onnx writes "same": the widths depend on the size of the map; parts of a list of sizes stay sizes."""
    arrays = {"three": np.array([3], np.int64), "zero4": np.zeros(4, np.int64), "zero3": np.zeros(3, np.int64)}
    nodes = [
        node("Shape", "x", "shape"),
        node("Split", "shape", "n c h w", axis=0),
        node("Mod", "w three", "rest"),
        node("Concat", "zero4 zero3 rest", "widths", axis=0),
        node("Pad", "x widths", "y"),
    ]

    built = compare(tmp_path, nodes, {"x": floats(2, 3, 4, 5)}, arrays)

    assert "pad_sizes(x, " in built.text
    assert "torch.tensor(" not in built.text
    with torch.no_grad():
        assert built.model(torch.zeros(2, 3, 4, 7)).shape == (2, 3, 4, 8)
