"""Nodes of graphs in both writings."""

import json

import numpy as np
import pytest

from graphs import constant, graph_bytes, graph_json, node
from regraft.errors import CheckpointError
from regraft.formats.tensorflow_nodes import nodes_of_graph, nodes_of_json, tensor_dtype_and_shape

NODES = [
    node("a", "Conv2D", "x:1", "^wait", "k", padding="SAME", strides=[1, 2, 3, 1], fused_ops=["BiasAdd", "Relu"],
         transpose_b=True, epsilon=0.001),
    constant("k", np.ones((2, 3), "f")),
]  # fmt: skip


@pytest.mark.parametrize("nodes", [nodes_of_graph(memoryview(graph_bytes(*NODES))), nodes_of_json(graph_json(*NODES))])
def test_both_writings_say_the_same(nodes):
    """What is absent is empty; what a node only waits for is no input."""
    settings = nodes["a"].attributes

    assert (nodes["a"].op, nodes["a"].inputs) == ("Conv2D", ("x", "k"))
    assert (settings.text("padding"), settings.integers("strides")) == ("SAME", [1, 2, 3, 1])
    assert (settings.texts("fused_ops"), settings.flag("transpose_b")) == (["BiasAdd", "Relu"], True)
    assert settings.real("epsilon") == 0.001
    assert (settings.text("none"), settings.integers("none"), settings.real("none"), settings.flag("none")) == (
        "", [], 0.0, False,
    )  # fmt: skip


def test_a_constant_has_its_dtype_and_shape():
    """From the graph's own bytes."""
    assert tensor_dtype_and_shape(nodes_of_graph(memoryview(graph_bytes(*NODES)))["k"].tensor) == (1, (2, 3))


@pytest.mark.parametrize("node", [{"op": "a"}, 3, {"name": "a", "op": "b", "input": 3}])
def test_damaged_json_is_refused(node):
    """A node without a name, say."""
    with pytest.raises(CheckpointError, match="a node of the graph is damaged"):
        nodes_of_json(json.loads(json.dumps({"node": [node]})))
