"""The operators that a network can have."""

import pytest

from regraft.errors import BuildError
from regraft.networks.network import Network, Node, Untranslated
from regraft.networks.vocabulary import OPERATORS, refuse_unknown


def test_operators_of_all_tables_are_known():
    """Layers, steps, and those with computed indices; sizes have a form where there is one."""
    assert {"conv", "relu", "slice_between"} <= OPERATORS.keys()
    assert OPERATORS["add"].sizes is not None


def test_unknown_nodes_are_refused_all_at_once_also_inside_of_branches():
    """With their count."""
    inner = Network((), (Node("magic", ("x",), ("z",)),), ("z",))
    nodes = (Node("relu", ("x",), ("y",)), Node("if", ("y",), ("w",), {"then": inner, "else": inner}))
    network = Network((), nodes, ("w",), untranslated=(Untranslated("Loop", "loop_1", "loops have no translation"),))

    with pytest.raises(BuildError, match=r"3 of 5 nodes .*\n  Loop loop_1: loops have no translation\n  magic z"):
        refuse_unknown(network)
