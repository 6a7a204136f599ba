"""ONNX' `If`: known conditions, conditions on sizes, and conditions on values."""

import numpy as np
import pytest
import torch
from onnx import helper
from tests.onnx_networks import build_onnx, compare, floats, node, write_onnx

from regraft.errors import BuildError

X = floats(2, 3)


def branch(nodes, output):
    """A branch that takes the values of the graph around it."""
    return helper.make_graph(nodes, "branch", [], [helper.make_empty_tensor_value_info(output)])


def choice(condition, then=None, otherwise=None):
    """A node that doubles, or negates and shifts, what the graph around it holds."""
    then = then or branch([node("Identity", "x", "/branch/a:0"), node("Add", "/branch/a:0 x", "t")], "t")
    otherwise = otherwise or branch([node("Neg", "x", "minus"), node("Add", "minus shift", "e")], "e")
    return node("If", condition, "y", then_branch=then, else_branch=otherwise)


@pytest.mark.parametrize("value", [True, False])
def test_a_known_condition_leaves_one_branch(tmp_path, value):
    """The other one is not in the code."""
    built = compare(tmp_path, [choice("c")], {"x": X}, {"c": np.array(value), "shift": floats(3)})

    assert "if " not in built.text.split("def forward")[1]


@pytest.mark.parametrize("columns", [3, 4])
def test_a_condition_on_a_size_is_an_if_of_python(tmp_path, columns):
    """Both branches are in the code; the batch may be any."""
    nodes = [node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Equal", "n two", "c"), choice("c")]
    arrays = {"zero": np.array(0), "two": np.array(2), "shift": floats(columns)}

    built = compare(tmp_path, nodes, {"x": floats(2, columns)}, arrays)

    x = torch.ones(5, columns)
    assert torch.equal(built.model(x), -x + torch.from_numpy(arrays["shift"]))


@pytest.mark.parametrize("number", [1, 7])
def test_a_condition_on_a_value_is_decided_as_the_network_runs(tmp_path, number):
    """Such as the rate of an audio signal."""
    nodes = [node("Equal", "rate one", "c"), choice("c")]
    inputs = {"x": X, "rate": np.array(number)}

    compare(tmp_path, nodes, inputs, {"one": np.array(1), "shift": floats(3)})


def test_a_branch_that_the_sample_does_not_fit_is_refused_as_it_runs(tmp_path):
    """Its code cannot be tried, so that it is no code."""
    wrong = branch([node("Reshape", "x seven", "e")], "e")
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Equal", "n two", "c"),
        choice("c", otherwise=wrong),
    ]
    arrays = {"zero": np.array(0), "two": np.array(2), "seven": np.array([7, 1])}

    built = compare(tmp_path, nodes, {"x": X}, arrays)

    with pytest.raises(ValueError, match="a part of the network that could not be built"):
        built.model(torch.ones(7, 1))


def test_layers_of_branches_are_layers_of_the_model(tmp_path):
    """With the file's arrays."""
    then = branch([node("Gemm", "x fc.weight fc.bias", "t", transB=1)], "t")
    nodes = [node("ReduceSum", "x", "total", keepdims=0), node("Greater", "total zero", "c"), choice("c", then)]
    arrays = {"fc.weight": floats(3, 3), "fc.bias": floats(3), "zero": np.array(0, np.float32), "shift": floats(3)}

    built = compare(tmp_path, nodes, {"x": X}, arrays, tolerance=1e-5)
    compare(tmp_path, nodes, {"x": -X}, arrays, tolerance=1e-5)

    assert {"fc.weight", "fc.bias", "shift"} <= {name for name, _ in built.model.named_parameters()}


def test_a_function_of_the_file_is_written_where_it_is_called(tmp_path):
    """With the caller's attributes."""
    body = [node("LeakyRelu", "a", "b")]
    function = helper.make_function("local", "Leak", ["a"], ["b"], body, [helper.make_opsetid("", 17)], [])
    calls = [
        helper.make_node("Leak", ["x"], ["z"], domain="local"),
        helper.make_node("Leak", ["z"], ["y"], domain="local"),
    ]

    compare(tmp_path, calls, {"x": X}, {}, functions=[function])


def test_loops_are_refused(tmp_path):
    """By name."""
    body = helper.make_graph(
        [node("Identity", "cond", "go"), node("Add", "v one", "w")], "body",
        [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("cond", 9, []),
         helper.make_tensor_value_info("v", 1, [2, 3])],
        [helper.make_tensor_value_info("go", 9, []), helper.make_tensor_value_info("w", 1, [2, 3])],
    )  # fmt: skip
    arrays = {"n": np.array(3), "yes": np.array(True), "one": np.ones((2, 3), np.float32)}
    path = write_onnx(tmp_path / "loop.onnx", [node("Loop", "n yes x", "y", body=body)], {"x": X}, arrays)
    with pytest.raises(BuildError, match="Loop y: loops have no translation"):
        build_onnx(path)
