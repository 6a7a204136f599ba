"""What a runtime recorded, and what is said when it is not installed."""

import sys

import pytest

from regraft.errors import VerifyError
from regraft.networks.network import Network, Node
from regraft.runtimes.recording import required, values_of


def test_a_missing_runtime_is_named_with_the_command_that_installs_it(monkeypatch):
    """As for keras and tensorflow, which few have beside torch."""
    monkeypatch.setitem(sys.modules, "keras", None)

    with pytest.raises(
        VerifyError, match=r"The runtime of Keras files is not installed .*pip install keras`.*--golden"
    ):
        required("keras", "keras", "Keras")


def test_the_values_of_a_network_are_what_its_nodes_give():
    """Inputs are none."""
    assert values_of(Network((), (Node("relu", ("x",), ("y",)), Node("split", ("y",), ("a", "b"))), ("a",))) == {
        "y",
        "a",
        "b",
    }
