"""What a hostile file writes in the place of a number is refused before any code of the network runs."""

import pytest

from regraft.errors import BuildError
from regraft.networks.emitting import emit
from regraft.networks.network import Literal, Network, NetworkInput, Node
from regraft.networks.words import refuse_code

CALL = "print('executed') or 1"
IMAGE = NetworkInput("image", (None, 6, 6, 3))


@pytest.mark.parametrize(
    ("operator", "settings"),
    [
        ("reshape", {"shape": (CALL,)}),
        ("slice", {"axes": (1,), "starts": (CALL,), "ends": (2,)}),
        ("index", {"axes": (1,), "index": CALL}),
        ("stack", {"axis": CALL}),
        ("cast", {"dtype": f"float32) or {CALL}, ("}),
        ("mean", {"axes": {"deep": [CALL]}}),
    ],
)
def test_a_text_that_could_be_code_is_refused_and_not_run(operator, settings, capsys):
    """Found with a Keras `Reshape` whose target shape was a call."""
    network = Network((IMAGE,), (Node(operator, ("image",), ("y",), settings),), ("y",))

    with pytest.raises(BuildError, match=rf"Refused: {operator} y has the setting .*, which is not a word or a number"):
        emit(network, {})
    assert capsys.readouterr().out == ""


def test_inputs_and_constants_are_looked_at_too():
    entry = NetworkInput("image", (None, 6), f"float32, {CALL}")
    literal = Node("add", ("image", Literal((1, 2), f"int64)) or ({CALL}")), ("y",))

    with pytest.raises(BuildError, match="the input image has the shape"):
        refuse_code(Network((entry,), (), ("image",)))
    with pytest.raises(BuildError, match="add y has the setting"):
        refuse_code(Network((IMAGE,), (literal,), ("y",)))


def test_words_and_equations_pass():
    settings = {"mode": "nearest", "equation": "...ab, bc -> ...ac", "size": (2, 2), "scale": None}
    refuse_code(Network((IMAGE,), (Node("einsum", ("image",), ("y",), settings),), ("y",)))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((None, f'"""\n{CALL}\n"""'), "float32"), ((None, -1), "float32"), ((None, 1 << 40), "float32"),
     ((None, True), "float32"), ((2,) * 40, "float32"), ((None, 3), "load")],
)  # fmt: skip
def test_an_input_has_sizes_and_a_dtype_of_torch(shape, dtype, capsys):
    """Its sizes are written into the docstring of the source."""
    network = Network((NetworkInput("image", shape, dtype),), (Node("relu", ("image",), ("y",)),), ("y",))

    with pytest.raises(BuildError, match="Refused: the input image has the shape"):
        emit(network, {}, {"image": (2, 3)})
    assert capsys.readouterr().out == ""
