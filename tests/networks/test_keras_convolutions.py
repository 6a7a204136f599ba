"""Keras' convolutions as layers."""

from keras_layers import layer_call, steps
from regraft.networks import keras_convolutions as translate


def test_a_causal_convolution_pads_before_alone():
    """By (kernel - 1) × dilation."""
    call = layer_call("Conv1D", {"padding": "causal", "dilation_rate": [2]}, kernel=(3, 4, 5))

    translate.conv(call)

    assert steps(call)[0][1]["padding"] == ((4, 0),)


def test_a_separable_convolution_is_two():
    """Their weights are arrays of one layer in the file."""
    call = layer_call("SeparableConv2D", {}, depthwise_kernel=(3, 3, 4, 2), pointwise_kernel=(1, 1, 8, 5), bias=(5,))

    translate.separable(call)

    assert [node.layer for node in call.builder.nodes] == ["l/depthwise", "l/pointwise"]
    shapes = [node.arrays["weight"].shape_in(call.builder.infos) for node in call.builder.nodes]
    assert shapes == [(8, 1, 3, 3), (5, 8, 1, 1)]


def test_poolings_and_paddings_have_a_number_for_each_axis():
    """Strides are the window's size unless recorded."""
    call = layer_call("MaxPooling2D", {"pool_size": [3, 3], "strides": None, "padding": "same"})

    translate.pooling(call)
    translate.zero_padding(layer := layer_call("ZeroPadding2D", {"padding": [[0, 1], [2, 3]]}))

    assert steps(call)[0][1]["stride"] == (3, 3)
    assert steps(layer)[0][1]["pads"] == ((0, 0), (0, 1), (2, 3), (0, 0))
