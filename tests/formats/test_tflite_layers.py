"""The operators tell kind, padding, strides and activation of the layers whose constants they take."""

import numpy as np

from flat import write_tflite
from regraft.formats.tflite import TFLite

KERNEL, BIAS = np.zeros((4, 3, 3, 2), np.float32), np.zeros(4, np.float32)


def opened(tmp_path, names, code, options, *, inputs=(2, 0, 1)):
    """A model with one operator over a kernel, a bias and the input tensor 2."""
    arrays = dict(zip(names, (KERNEL, BIAS), strict=True))
    operator = {0: ("I", 0), 1: np.array(inputs, "<i4"), 2: np.array([2], "<i4"), 4: options}
    return TFLite().open(write_tflite(tmp_path / "m.tflite", arrays, operators=[operator], codes=[code]))


def facts(checkpoint):
    return {need.attribute: need.value for need in checkpoint.requirements}


def test_a_convolution_tells_its_settings(tmp_path):
    """Strides and dilation as (height, width), though the file has the width first."""
    options = {0: ("b", 1), 1: ("i", 3), 2: ("i", 2), 3: ("b", 3), 4: ("i", 5), 5: ("i", 4)}

    checkpoint = opened(tmp_path, ("net/conv/Conv2D", "net/conv/bias"), 3, options)

    assert facts(checkpoint) == {"padding": "valid", "strides": [2, 3], "dilation": [4, 5], "activation": "relu6"}
    assert {need.layer for need in checkpoint.requirements} == {"net/conv"}


def test_kernel_and_bias_belong_to_one_layer_whatever_their_names(tmp_path):
    """TensorFlow names a bias after the operation that adds it."""
    checkpoint = opened(tmp_path, ("net/conv/Conv2D", "other/BiasAdd;x"), 3, {1: ("i", 1), 2: ("i", 1)})

    told = [(info.layer_type, info.layer, info.leaf) for info in checkpoint.values()]
    assert told == [("Conv2D", "net/conv", "kernel"), ("Conv2D", "net/conv", "bias")]


def test_a_depthwise_convolution_tells_its_multiplier(tmp_path):
    """Padding 0 is SAME."""
    checkpoint = opened(tmp_path, ("a/k", "a/b"), 4, {1: ("i", 1), 2: ("i", 1), 3: ("i", 2)})

    assert facts(checkpoint) == {
        "padding": "same", "strides": [1, 1], "dilation": [1, 1], "depth_multiplier": 2, "activation": "linear",
    }  # fmt: skip


def test_a_transposed_convolution_keeps_its_input_third(tmp_path):
    """Its inputs are the output's shape, the kernel, the input and the bias."""
    checkpoint = opened(tmp_path, ("up/k", "up/b"), 67, {1: ("i", 2), 2: ("i", 2)}, inputs=(2, 0, 2, 1))

    assert [info.leaf for info in checkpoint.values()] == ["kernel", "bias"]
    assert facts(checkpoint)["strides"] == [2, 2]


def test_a_missing_bias_is_no_constant(tmp_path):
    """−1 says that there is none."""
    checkpoint = opened(tmp_path, ("fc/k", "lonely"), 9, {}, inputs=(2, 0, -1))

    assert checkpoint["lonely"].leaf == ""
    assert checkpoint["fc/k"].layer_type == "Dense"
