"""What an assignment sets."""

import pytest
import torch

from regraft.networks.assigning import are_sizes, held_of, targets_text
from regraft.networks.network import Node


def test_the_left_side_of_an_assignment():
    """The states of an LSTM come in a tuple; a single part of a split needs a comma."""
    assert targets_text(Node("lstm", ("x",), ("y", "h", "c")), ["y", "h", "c"]) == "y, (h, c)"
    assert targets_text(Node("split", ("x",), ("a",)), ["a"]) == "a,"
    assert targets_text(Node("relu", ("x",), ("a",)), ["a"]) == "a"


def test_the_value_of_a_variable():
    """A tensor in its order, or sizes of Python."""
    assert held_of("x", torch.zeros(2, 3), (1, 0), None).order == (1, 0)
    assert held_of("n", (2, 3), (), None).plain == (2, 3)


def test_sizes_are_numbers_of_python():
    """A tensor beside them makes a tensor."""
    size, tensor = held_of("n", 3, (), None), held_of("x", torch.zeros(2), (0,), None)

    assert are_sizes([size, None, size])
    assert not are_sizes([size, tensor])
    assert not are_sizes([])


@pytest.mark.parametrize("value", [1 << 64, (2, -(1 << 64)), (1,) * 5000])
def test_sizes_that_no_tensor_has_are_refused(value):
    """Steps that square or double them would never end."""
    with pytest.raises(OverflowError, match="sizes are computed that no tensor has"):
        held_of("x", value, (), None)
