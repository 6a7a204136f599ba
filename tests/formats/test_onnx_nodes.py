"""What an ONNX file holds besides initializers of the main graph."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.errors import CheckpointError
from regraft.formats.onnx import Onnx

KERNEL = np.arange(12, dtype=np.float32).reshape(4, 3)
OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]


def saved(folder, nodes, inits=(), functions=(), sparse=()):
    graph = helper.make_graph(nodes, "g", [], [], list(inits), sparse_initializer=list(sparse))
    onnx.save(helper.make_model(graph, opset_imports=OPSETS, functions=list(functions)), folder / "m.onnx")
    return folder / "m.onnx"


def test_constants_of_numbers_are_found(tmp_path):
    """Opset 12 writes them without a tensor; a bias may be one."""
    nodes = [
        helper.make_node("Constant", [], ["b"], value_floats=[1.5, -2.0, 0.25, 3.0]),
        helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1, name="fc"),
    ]

    checkpoint = Onnx().open(saved(tmp_path, nodes, [numpy_helper.from_array(KERNEL, "w")]))

    np.testing.assert_array_equal(checkpoint.read("b"), np.array([1.5, -2, 0.25, 3], np.float32), strict=True)
    assert (checkpoint["b"].layer, checkpoint["b"].leaf) == (checkpoint["w"].layer, "bias")


@pytest.mark.parametrize("places", [[1, 7], [[0, 1], [2, 1]]], ids=["flat", "by axes"])
@pytest.mark.parametrize("where", ["initializer", "constant"])
def test_sparse_tensors_are_filled_with_zeros(tmp_path, places, where):
    """Both ways to tell the places, both places to stand."""
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.5, 2.5])
    tensor = helper.make_sparse_tensor(
        values, helper.make_tensor("i", TensorProto.INT64, np.shape(places), np.ravel(places)), [4, 3]
    )
    gemm = helper.make_node("Gemm", ["x", "w"], ["y"], name="fc")
    if where == "initializer":
        path = saved(tmp_path, [gemm], sparse=[tensor])
    else:
        path = saved(tmp_path, [helper.make_node("Constant", [], ["w"], sparse_value=tensor), gemm])

    found = Onnx().open(path).read("w")

    assert found.shape == (4, 3)
    assert {place: value for place, value in enumerate(found.ravel().tolist()) if value} == {1: 1.5, 7: 2.5}


@pytest.mark.parametrize(("size", "place", "told"), [
    (1 << 40, 1, "claims 4398046511104 bytes from 2 values"), (12, 12, "places of the values"),
])  # fmt: skip
def test_a_sparse_tensor_is_no_way_to_allocate_or_to_write_outside(tmp_path, size, place, told):
    """Terabytes of zeros, and a value behind the end."""
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.5, 2.5])
    tensor = helper.make_sparse_tensor(values, helper.make_tensor("i", TensorProto.INT64, [2], [0, place]), [size])

    with pytest.raises(CheckpointError, match=told):
        Onnx().open(saved(tmp_path, [helper.make_node("Relu", ["w"], ["y"])], sparse=[tensor])).read("w")


def linear(name="Linear", inner="MatMul", domain=""):
    """A function that holds its own kernel and adds a bias that it is given."""
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(KERNEL.T.copy())),
        helper.make_node(inner, ["x", "w"], ["h"], domain=domain),
        helper.make_node("Add", ["h", "b"], ["y"]),
    ]
    return helper.make_function("own", name, ["x", "b"], ["y"], nodes, OPSETS)


def test_weights_inside_a_function_belong_to_the_layer_that_it_makes(tmp_path):
    """Each call is a layer of its own, with the bias that the caller gives."""
    nodes = [
        helper.make_node("Linear", ["x", "b1"], ["h"], domain="own", name="first"),
        helper.make_node("Linear", ["h", "b2"], ["y"], domain="own", name="second"),
    ]
    inits = [numpy_helper.from_array(np.full(4, number, "f"), f"b{number}") for number in (1, 2)]

    checkpoint = Onnx().open(saved(tmp_path, nodes, inits, [linear()]))

    assert {info.layer for info in checkpoint.values()} == {"first", "second"}
    assert [checkpoint["b2"].layer, checkpoint["second/w"].layer] == ["second", "second"]
    np.testing.assert_array_equal(checkpoint.read("first/w"), KERNEL.T)


def test_functions_that_call_each_other_end(tmp_path):
    """Ten that each call the next ten times would run for ever; so would one that calls itself."""
    ring = linear(inner="Linear", domain="own")
    many = [
        helper.make_function(
            "own", f"f{depth}", ["x"], ["y"],
            [helper.make_node(f"f{depth + 1}", ["x"], [f"y{call}"], domain="own") for call in range(200)], OPSETS,
        )
        for depth in range(14)
    ]  # fmt: skip

    for functions, first in (([ring], "Linear"), (many, "f0")):
        path = saved(tmp_path, [helper.make_node(first, ["x", "b"], ["y"], domain="own")], functions=functions)
        with pytest.raises(CheckpointError, match="graphs nest deeper than 16 levels, or functions make too many"):
            Onnx().open(path)


def test_texts_are_left_out_with_a_note(tmp_path):
    """They are no weights, and nothing is left out in silence."""
    texts = helper.make_tensor("labels", TensorProto.STRING, [2], [b"cat", b"dog"])

    checkpoint = Onnx().open(
        saved(tmp_path, [helper.make_node("Gemm", ["x", "w"], ["y"])], [texts, numpy_helper.from_array(KERNEL, "w")])
    )

    assert list(checkpoint) == ["w"]
    assert checkpoint.notes == ("1 tensors are texts or of two bits and are left out: labels.",)
