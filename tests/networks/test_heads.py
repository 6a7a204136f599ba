"""New heads."""

import pytest

from regraft.arrays import ArrayInfo
from regraft.errors import BuildError
from regraft.networks.heads import NewHead, with_new_head
from regraft.networks.network import Array, Literal, Network, NetworkInput, Node

INFOS = {name: ArrayInfo(shape, "float32") for name, shape in {"a": (8, 4), "b": (5, 8), "c": (5, 4, 1, 1)}.items()}


def linear(name, given, result):
    """A dense layer."""
    return Node("linear", (given,), (result,), {}, f"layer_{name}", {"weight": Array((name,))})


VECTORS = (linear("a", "x", "h"), Node("relu", ("h",), ("r",)), linear("b", "r", "s"))


def test_the_last_dense_layer_is_made_new_and_what_is_behind_it_left_out():
    """Both are said."""
    network = Network(
        (NetworkInput("x", (None, 4)),), (*VECTORS, Node("softmax", ("s",), ("p",), {"axis": -1})), ("p",)
    )

    made = with_new_head(network, INFOS, NewHead(3))

    assert made.outputs == ("s",)
    assert [node.operator for node in made.nodes] == ["linear", "relu", "linear"]
    assert made.nodes[-1].arrays["weight"].shape == (3, 8)
    assert made.notes == (
        "The dense layer layer_b of 5 outputs is replaced by a new one of 3.",
        "Cut off behind it: softmax.",
    )


def test_another_layer_can_be_named():
    """Everything behind it goes; a wrong name is answered with the right ones."""
    network = Network((NetworkInput("x", (None, 4)),), VECTORS, ("s",))

    assert len(with_new_head(network, INFOS, NewHead(3, "layer_a")).nodes) == 1
    with pytest.raises(BuildError, match="layer_b"):
        with_new_head(network, INFOS, NewHead(3, "layer_c"))


def test_a_convolution_behind_which_the_map_is_averaged_keeps_the_average():
    """So that there is one vector for each example."""
    conv = Node("conv", ("x",), ("m",), {"channels_last": True}, "conv", {"weight": Array(("c",))})
    behind = (Node("relu", ("m",), ("r",)), Node("mean", ("r",), ("y",), {"axes": (1, 2)}))

    made = with_new_head(Network((NetworkInput("x", (None, 9, 9, 4)),), (conv, *behind), ("y",)), INFOS, NewHead(3))

    assert [(node.operator, node.settings.get("axes")) for node in made.nodes] == [("conv", None), ("mean", (1, 2))]


def test_two_outputs_with_layers_of_their_own_are_asked_for():
    """By name, as advice."""
    nodes = (linear("a", "x", "h"), linear("b", "h", "s"), Node("mul", ("x", Literal(2.0)), ("y",)))
    other = Node("linear", ("y",), ("t",), {}, "other", {"weight": Array(("a",))})
    network = Network((NetworkInput("x", (None, 4)),), (*nodes, other), ("s", "t"))

    with pytest.raises(BuildError, match="2 outputs") as caught:
        with_new_head(network, INFOS, NewHead(3))

    assert 'Pass head={"classes": 2, "layer": "other"} to replace other.' in str(caught.value)
