"""How the layers of a TensorFlow graph are connected."""

import numpy as np
import pytest

from graphs import constant, graph_bytes, node
from regraft.formats.tensorflow_graph import TensorFlowGraph, constant_of, requirements_of
from regraft.formats.tensorflow_nodes import nodes_of_graph


def connected(*nodes):
    """(layer → what feeds it, layer → operation and facts) of these nodes, whose constants are the arrays."""
    graph_nodes = nodes_of_graph(memoryview(graph_bytes(*nodes)))
    names = {one["name"] for one in nodes if "array" in one and one["array"].size > 1}
    graph = TensorFlowGraph(graph_nodes, names, lambda name: constant_of(graph_nodes, name))
    needs = list(requirements_of(graph, graph.layers()))
    inputs = {one.layer: one.value for one in needs if one.attribute == "inputs"}
    return inputs, {(one.layer, one.attribute): one.value for one in needs if one.attribute != "inputs"}


def conv(name, before):
    return [constant(f"{name}/k", np.ones((1, 1, 2, 2), "f")),
            node(f"{name}/Conv2D", "Conv2D", before, f"{name}/k", padding="SAME", strides=[1, 1, 1, 1])]  # fmt: skip


def test_joins_poolings_and_activations_have_keras_words():
    """A sum of two maps, a concatenation, a maximum; the loss behind the last layer is left out."""
    inputs, facts = connected(
        node("x", "Placeholder"), *conv("a", "x"), *conv("b", "a/Conv2D"),
        node("sum", "AddV2", "a/Conv2D", "b/Conv2D"), node("act", "Relu6", "sum"),
        node("pool", "MaxPool", "act", ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME"),
        constant("axis", np.array([3], np.int32)), node("cat", "ConcatV2", "pool", "pool", "axis"),
        node("same", "Identity", "cat"), *conv("c", "same"), node("loss", "L2Loss", "c/Conv2D"),
    )  # fmt: skip

    assert inputs == {
        "a": [""], "b": ["a"], "sum": ["a", "b"], "act": ["sum"], "pool": ["act"], "cat": ["pool", "pool"],
        "c": ["cat"],
    }  # fmt: skip
    assert (facts["sum", "operation"], facts["cat", "operation"], facts["act", "activation"]) == (
        "Add",
        "Concat",
        "relu6",
    )
    assert (facts["pool", "pool"], facts["pool", "pool_size"], facts["pool", "padding"]) == ("max", [3, 3], "same")


@pytest.mark.parametrize(
    ("slope", "inputs"),
    [
        (0.1, {"a": [""], "act": ["a"], "b": ["act"]}),
        (2.0, {"a": [""], "scaled": ["a"], "act": ["a", "scaled"], "b": ["act"]}),  # the smaller one for positive x
    ],
)
def test_the_larger_of_x_and_a_part_of_x_is_a_leaky_relu(slope, inputs):
    """As TensorFlow 1 had it written before there was an operation for it."""
    found, facts = connected(
        node("x", "Placeholder"), *conv("a", "x"), constant("slope", np.float32(slope)),
        node("scaled", "Mul", "slope", "a/Conv2D"), node("act", "Maximum", "a/Conv2D", "scaled"), *conv("b", "act"),
    )  # fmt: skip

    assert found == inputs
    assert facts.get(("act", "activation")) == ("leaky_relu(0.1)" if slope < 1 else None)


def test_a_batch_norm_in_pieces_is_one_layer():
    """tf.nn.batch_normalization: five nodes that only its own arrays feed beside the map."""
    arrays = [constant(f"n/{name}", np.ones(2, "f")) for name in ("gamma", "beta", "mean", "variance")]
    inputs, facts = connected(
        node("x", "Placeholder"), *conv("a", "x"), *arrays, constant("n/eps", np.float32(0.001)),
        node("n/add", "Add", "n/variance", "n/eps"), node("n/Rsqrt", "Rsqrt", "n/add"),
        node("n/mul", "Mul", "n/Rsqrt", "n/gamma"), node("n/mul_1", "Mul", "a/Conv2D", "n/mul"),
        node("n/mul_2", "Mul", "n/mean", "n/mul"), node("n/sub", "Sub", "n/beta", "n/mul_2"),
        node("n/add_1", "Add", "n/mul_1", "n/sub"), *conv("b", "n/add_1"),
    )  # fmt: skip

    assert inputs == {"a": [""], "n": ["a"], "b": ["n"]}
    assert (facts["n", "operation"], facts["n", "eps"]) == ("BatchNormalization", 0.001)


def test_circles_of_nodes_end():
    """Loops of old recurrent networks, and forged graphs."""
    inputs, _ = connected(
        node("x", "Placeholder"), node("merge", "Merge", "x", "next"), *conv("a", "merge"),
        node("next", "NextIteration", "a/Conv2D"),
    )  # fmt: skip

    assert inputs["a"] == ["merge"]
