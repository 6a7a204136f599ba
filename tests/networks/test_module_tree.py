"""Modules are put under their paths."""

import pytest
from torch import nn

from regraft.arrays import ArrayInfo
from regraft.errors import BuildError
from regraft.networks.module_tree import ModuleTree, container, put
from regraft.networks.network import Array, Network, Node
from regraft.networks.runtime_functions import FRAME
from regraft.networks.source import ModuleSource


def test_a_module_keeps_what_its_placeholder_held():
    """A layer that is also the scope of others."""
    root = nn.Module()
    put(root, "block", nn.Module())
    put(root, "block.conv", nn.ReLU())
    put(root, "block", nn.Linear(2, 3))

    assert isinstance(root.block, nn.Linear)
    assert isinstance(root.block.conv, nn.ReLU)


def test_containers_are_lists_dicts_or_plain_modules():
    """By the names of what they hold."""
    children = {"a": ["0", "1"], "b": ["0", "x"], "c": ["x", "y"]}

    assert [type(container(path, children)) for path in children] == [nn.ModuleList, nn.ModuleDict, nn.Module]


def test_a_layer_that_asks_for_other_arrays_than_the_file_has_is_refused():
    """Before its arrays are made: a number in a configuration could ask for any."""
    infos = {"w": ArrayInfo((8, 3), "float32")}
    node = Node("lstm", ("x",), ("y", "h", "c"), {"hidden": 10**6}, "rnn", {"weight_ih_l0": Array(("w",))})
    tree = ModuleTree(Network((), (node,), ()), infos, ModuleSource())

    with pytest.raises(
        BuildError, match=r"The layer rnn needs a weight_ih_l0 of shape \(4000000, 3\), the file has \(8, 3\)"
    ):
        tree.layer(node, "nn.LSTM(3, 1000000)", None, dict(FRAME))
