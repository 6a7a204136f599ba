"""Keras' norms as layers."""

import pytest

from keras_layers import layer_call
from regraft.networks import keras_norms as translate
from regraft.networks.keras_builder import RefusedError


def test_a_norm_without_scale_has_a_scale_of_one():
    """And torch's momentum is one minus Keras'."""
    call = layer_call("BatchNormalization", {"momentum": 0.9}, beta=(4,), moving_mean=(4,), moving_variance=(4,))

    translate.batch_norm(call)

    node = call.builder.nodes[0]
    assert str(node.arrays["weight"].operations[0]) == "filled with 1"
    assert node.settings == {"eps": 1e-3, "momentum": 0.1, "axis": -1}


def test_masked_zeros_are_refused():
    """The layers behind it would skip them."""
    with pytest.raises(RefusedError, match="mask_zero"):
        translate.embedding(layer_call("Embedding", {"mask_zero": True}, embeddings=(3, 4)))


def test_statistics_of_preprocessing_do_not_train():
    """They are buffers."""
    call = layer_call("Normalization", {"axis": -1}, mean=(3,), variance=(3,), count=())

    translate.normalization(call)

    assert all(array.is_fixed for node in call.builder.nodes for array in node.all_arrays())
