"""The images of a network."""

import pytest

from regraft.networks.network import Literal, Network, NetworkInput, Node
from regraft.networks.preparation import ImageInput, image_input


@pytest.mark.parametrize("step", [("mul", 1 / 127.5), ("div", 255.0)])
def test_a_network_that_divides_bytes_takes_bytes(step):
    """By 255, or by half of it."""
    nodes = (Node(step[0], ("x", Literal(step[1])), ("y",)),)

    assert image_input(Network((NetworkInput("x", (None, 32, 24, 3)),), nodes, ("y",))) == ImageInput((32, 24), 3, True)


def test_other_networks_do_not_record_the_values_they_take():
    """A factor in the middle says nothing; a size may be any."""
    nodes = (Node("relu", ("x",), ("a",)), Node("mul", ("a", Literal(0.5)), ("y",)))

    assert image_input(Network((NetworkInput("x", (None, 3, None, None)),), nodes, ("y",))) == ImageInput(
        None, 3, False
    )
    assert image_input(Network((NetworkInput("x", (None, 7)),), (), ("x",))) is None


def test_a_vector_of_a_square_is_a_grey_image():
    """As the networks of the first textbooks take MNIST."""
    network = Network((NetworkInput("x", (None, 784)),), (), ("x",))
    assert image_input(network) == ImageInput((28, 28), 1, False, is_flat=True)
