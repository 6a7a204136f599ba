"""What a value of a TensorFlow graph is: a value, an array of the checkpoint, or a constant in the code."""

from pathlib import Path

from regraft.networks.network import Array, Literal
from regraft.networks.tflite import network_of_tflite
from regraft.reading import open_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"


def inputs_of(operator):
    """All inputs of the nodes of an operator in the golden file."""
    network = network_of_tflite(open_checkpoint(GOLDEN / "graph_operations.tflite"))
    return [value for node in network.nodes if node.operator == operator for value in node.inputs]


def test_vectors_are_arrays_and_single_numbers_are_constants():
    """A factor for each channel trains; the number 1.5 does not."""
    values = [*inputs_of("mul"), *inputs_of("sub")]

    assert any(isinstance(value, Array) for value in values)
    assert Literal(1.5) in values


def test_a_layer_is_named_after_the_scope_of_its_array():
    """And shared arrays with other settings are another layer."""
    network = network_of_tflite(open_checkpoint(GOLDEN / "graph_operations.tflite"))

    names = [node.layer for node in network.nodes if node.layer]
    assert len(set(names)) == len(names)
