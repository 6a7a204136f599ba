"""Dense layers behind flattened maps take their inputs in the code's order."""

from regraft.networks.flattened import keeps_flat, reordered
from regraft.networks.network import Array, Node
from regraft.operations.moves import PermuteFlat

FLAT = ((2, 3, 4), (2, 0, 1))


def test_the_inputs_of_a_dense_layer_are_put_in_the_codes_order():
    """Not its bias; and all arrays of a norm, which are along the map."""
    kernel, vector = Array(("w",)), Array(("b",))

    assert reordered(kernel, FLAT, "weight", "linear").operations == (PermuteFlat(1, *FLAT),)
    assert reordered(vector, FLAT, "bias", "linear") is vector
    assert reordered(vector, FLAT, "bias", "batch_norm").operations == (PermuteFlat(0, *FLAT),)
    assert reordered(kernel, None, "weight", "linear") is kernel


def test_a_dense_layer_ends_a_flattened_map():
    """Its outputs are no places of the map."""
    assert not keeps_flat(Node("linear", ("x",), ("y",)))
