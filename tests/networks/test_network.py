"""A network as plain data."""

from regraft.arrays import ArrayInfo
from regraft.networks.network import Array, Network, Node, nodes_needed
from regraft.operations.moves import Transpose


def test_an_array_has_the_shape_after_its_operations():
    """As torch's layer takes it."""
    infos = {"kernel": ArrayInfo((3, 5), "float16")}

    assert Array(("kernel",), (Transpose((1, 0)),)).shape_in(infos) == (5, 3)
    assert Array(("kernel",)).dtype_in(infos) == "float16"
    assert Array((), shape=(2,)).shape_in(infos) == (2,)


def test_only_the_nodes_before_an_output_are_needed():
    """What nothing takes is left out."""
    nodes = (Node("relu", ("x",), ("a",)), Node("tanh", ("x",), ("b",)), Node("add", ("a", "x"), ("c",)))

    assert [node.outputs for node in nodes_needed(nodes, ["c"])] == [("a",), ("c",)]
    assert Network((), nodes, ("c",)).operators == {"relu": 1, "tanh": 1, "add": 1}
