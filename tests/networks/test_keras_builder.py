"""What translations write into."""

import pytest

from keras_layers import layer_call
from regraft.networks.keras_builder import RefusedError


def test_a_layer_finds_its_arrays_by_leaf():
    """And says which one the file lacks."""
    call = layer_call("Dense", kernel=(2, 3))

    assert call.array("kernel").sources == ("l/kernel",)
    assert call.shape("kernel") == (2, 3)
    with pytest.raises(RefusedError, match="no bias"):
        call.array("bias")


def test_values_have_names_of_their_own():
    """Numbered by the layer."""
    call = layer_call("Dense")

    assert [call.step("relu", "x"), call.step("relu", "x")] == ["l:1", "l:2"]
    with pytest.raises(RefusedError, match="takes 2 inputs"):
        _ = layer_call("Dense", inputs=("a", "b")).x
