"""Keras' activations as steps."""

import pytest

from keras_layers import layer_call, steps
from regraft.networks.keras_activations import activated
from regraft.networks.keras_builder import RefusedError


@pytest.mark.parametrize(("is_keras_3", "slope"), [(True, 1 / 6), (False, 0.2)])
def test_hard_sigmoid_has_another_slope_in_keras_3(is_keras_3, slope):
    """0.2 up to Keras 2."""
    call = layer_call("Dense", is_keras_3=is_keras_3)

    activated(call, "x", "hard_sigmoid")

    assert steps(call) == [("hardsigmoid", {"slope": slope, "offset": 0.5})]


def test_an_activation_may_be_a_layer():
    """Saved with its settings."""
    call = layer_call("Dense")

    activated(call, "x", {"class_name": "ReLU", "config": {"max_value": 6.0}})

    assert steps(call) == [("clamp", {"min": 0, "max": 6})]


def test_an_unknown_activation_is_refused_by_name():
    """A function of the user's own."""
    with pytest.raises(RefusedError, match="'mine'"):
        activated(layer_call("Dense"), "x", "mine")
