"""The file that a network is written to."""

from regraft.networks.emitting import emit
from regraft.networks.network import Network, NetworkInput, Node
from regraft.networks.writing import used_helpers, write_source


def test_the_file_holds_the_functions_that_torch_lacks():
    """Those that it uses, and what these use."""
    assert used_helpers("x = max_pool_padded(x, 3, 2, 'same')") == ["same_widths", "_pool_widths", "max_pool_padded"]


def test_the_file_runs_and_a_name_cannot_leave_its_docstring():
    """A title with quotes is text."""
    network = Network((NetworkInput("v", (None, 8)),), (Node("relu", ("v",), ("y",)),), ("y",))

    text = write_source(emit(network, {}), 'net"""\nraise SystemExit\n"""\\')

    scope = {}
    exec(compile(text, "net.py", "exec"), scope)
    assert "Input   x (n, 8) float32\nOutput  (n, 8)" in scope["__doc__"]
