"""Networks as lines of Python: the order of axes, constants, names."""

import pytest

from regraft.arrays import ArrayInfo
from regraft.errors import BuildError
from regraft.networks.emitting import emit
from regraft.networks.network import Array, Literal, Network, NetworkInput, Node, Untranslated
from regraft.operations.moves import Transpose

INFOS = {
    "conv/kernel": ArrayInfo((3, 3, 3, 8), "float32"),
    "dense/kernel": ArrayInfo((4 * 4 * 8, 5), "float32"),
    "shift": ArrayInfo((8,), "float32"),
}
CONV = Array(("conv/kernel",), (Transpose((3, 2, 0, 1)),))
DENSE = Array(("dense/kernel",), (Transpose((1, 0)),))
IMAGE = NetworkInput("image", (None, 6, 6, 3))


def lines(*nodes, outputs, entries=(IMAGE,)):
    """(lines of the forward, the source)."""
    source = emit(Network(entries, nodes, outputs), INFOS)
    return [statement.line for statement in source.statements], source


def conv(given="image", result="map"):
    """A convolution of channels last."""
    return Node("conv", (given,), (result,), {"channels_last": True}, "conv", {"weight": CONV})


def test_an_image_with_channels_last_comes_with_channels_second():
    """No step moves an axis; the note says what the module takes."""
    written, source = lines(conv(), Node("mean", ("map",), ("y",), {"axes": (1, 2)}), outputs=("y",))

    assert written == ["x = self.conv(x)", "x = x.mean((2, 3))"]
    assert source.inputs == [("x", "(n, 3, 6, 6)", "float32")]
    assert "channels last" in source.notes[0]


def test_a_map_is_flattened_in_the_code_s_order_and_the_dense_layer_reordered():
    """As a person would write it; the plan reorders the kernel."""
    dense = Node("linear", ("flat",), ("y",), {}, "dense", {"weight": DENSE})
    written, source = lines(conv(), Node("flatten", ("map",), ("flat",)), dense, outputs=("y",))

    assert written == ["x = self.conv(x)", "x = torch.flatten(x, 1)", "x = self.dense(x)"]
    assert "flattened map (4, 4, 8) -> (8, 4, 4)" in str(source.arrays["dense.weight"].operations[-1])


def test_a_flattened_map_that_is_given_out_keeps_the_order_of_the_file():
    """Nothing behind it could be reordered."""
    written, _source = lines(conv(), Node("flatten", ("map",), ("flat",)), outputs=("flat",))

    assert written == ["x = self.conv(x)", "x = torch.flatten(x.permute(0, 2, 3, 1), 1)"]


def test_a_vector_of_channels_spreads_over_the_code_s_order():
    """(c,) is added to (n, c, h, w)."""
    written, _ = lines(conv(), Node("add", ("map", Array(("shift",))), ("y",)), outputs=("y",))

    assert written[1] == "x = x + self.shift.reshape(8, 1, 1)"


def test_a_transpose_moves_nothing():
    """(n, h, w, c) → (n, c, h, w) is what the code has anyway."""
    turn = Node("permute", ("map",), ("turned",), {"axes": (0, 3, 1, 2)})
    written, _ = lines(conv(), turn, Node("softmax", ("turned",), ("y",), {"axis": 1}), outputs=("y",))

    assert written == ["x = self.conv(x)", "x = x.softmax(1)"]


def test_a_value_that_is_used_again_keeps_its_variable():
    """A sum with what was before."""
    entry = NetworkInput("v", (None, 8))
    nodes = (Node("relu", ("v",), ("a",)), Node("tanh", ("a",), ("b",)), Node("add", ("a", "b"), ("c",)))

    written, _ = lines(*nodes, outputs=("c",), entries=(entry,))

    assert written == ["x = F.relu(x)", "y = torch.tanh(x)", "x = x + y"]


def test_constants_of_several_numbers_are_buffers():
    """So that they move with the module."""
    written, source = lines(
        Node("mul", ("v", Literal((1.0, 2.0))), ("y",)), outputs=("y",), entries=(NetworkInput("v", (None, 2)),)
    )

    assert written == ["x = x * self.constant"]
    assert source.constants == {"constant": "torch.tensor((1.0, 2.0), dtype=torch.float32)"}


def test_everything_without_a_translation_is_listed_at_once():
    """With the count of what there is."""
    nodes = (Node("relu", ("image",), ("a",)), Node("warp", ("a",), ("b",)))
    network = Network((IMAGE,), nodes, ("b",), untranslated=(Untranslated("Lambda", "net/shift", "code"),))

    with pytest.raises(BuildError, match=r"2 of 3 nodes .*\n  Lambda net/shift: code\n  warp b"):
        emit(network, INFOS)
