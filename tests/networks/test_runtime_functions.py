"""The functions that torch lacks are found by name, whichever module holds them."""

from regraft.networks import runtime, runtime_indexing
from regraft.networks.runtime_functions import FRAME, HELPERS


def test_helpers_are_the_functions_of_both_modules():
    """And nothing that they import."""
    assert HELPERS["resize"] is runtime.resize
    assert HELPERS["put_nd"] is runtime_indexing.put_nd
    assert "torch" not in HELPERS
    assert "Sequence" not in HELPERS
    assert set(FRAME) == {"torch", "F", "nn", "Tensor", "math"}
