"""Keras' joins and shapes as steps."""

import pytest

from keras_layers import layer_call, steps
from regraft.networks import keras_shapes as translate
from regraft.networks.keras_builder import RefusedError


def test_an_average_of_three_is_their_sum_by_three():
    """Steps of two inputs."""
    call = layer_call("Average", inputs=("a", "b", "c"))

    translate.join(call)

    assert [operator for operator, _ in steps(call)] == ["add", "add", "div"]


def test_a_dense_einsum_is_a_linear_layer():
    """Over the last axis; others are steps."""
    dense = layer_call("EinsumDense", {"equation": "...x,xy->...y"}, kernel=(3, 4), bias=(4,))
    other = layer_call("EinsumDense", {"equation": "abc,cde->abde"}, kernel=(3, 2, 4))

    translate.einsum_dense(dense)
    translate.einsum_dense(other)

    assert [operator for operator, _ in steps(dense)] == ["linear"]
    assert [operator for operator, _ in steps(other)] == ["einsum"]


def test_a_reshape_keeps_the_batch():
    """Which Keras does not count."""
    call = layer_call("Reshape", {"target_shape": [-1, 4]})

    translate.reshape(call)

    assert steps(call) == [("reshape", {"shape": (0, -1, 4)})]


def test_a_resizing_that_the_backends_compute_differently_is_refused():
    """TensorFlow takes the nearest centre, torch the nearest corner; Keras 2 has TensorFlow alone."""
    settings = {"height": 5, "width": 7, "interpolation": "nearest"}

    with pytest.raises(RefusedError, match="backends"):
        translate.resizing(layer_call("Resizing", settings))

    old = layer_call("Resizing", settings, is_keras_3=False)
    translate.resizing(old)
    assert steps(old)[0][1]["coordinates"] == "tf_half_pixel_for_nn"
