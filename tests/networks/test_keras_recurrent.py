"""Keras' recurrent layers as torch's, or as the own one."""

import pytest

from keras_layers import layer_call, steps
from regraft.networks import keras_recurrent as translate
from regraft.networks.keras_builder import RefusedError

LSTM = {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}


def test_torch_s_layer_is_used_where_it_computes_the_same():
    """With tanh and sigmoid; the last step where no sequence is asked for."""
    call = layer_call("LSTM", {"units": 4, "activation": "tanh", "recurrent_activation": "sigmoid"}, **LSTM)

    translate.recurrent(call)

    assert [operator for operator, _ in steps(call)] == ["lstm", "index"]


def test_other_activations_take_the_own_layer():
    """Keras 2.2 and older: hard_sigmoid, with the slope of its time."""
    call = layer_call("LSTM", {"units": 4}, is_keras_3=False, **LSTM)

    translate.recurrent(call)

    operator, settings = steps(call)[0]
    assert (operator, settings["gates"]) == ("recurrent", "hard_sigmoid")


def test_a_layer_that_keeps_its_state_is_refused():
    """Its outputs depend on the calls before."""
    with pytest.raises(RefusedError, match="stateful"):
        translate.recurrent(layer_call("LSTM", {"units": 4, "stateful": True}, **LSTM))
