"""Checkpoints that TensorFlow, Keras and its converters wrote: every value, role and setting is the framework's own."""

import numpy as np
import pytest

from golden_files import GOLDEN, facts_of, golden_arrays
from regraft.reading import open_checkpoint

TF1, TF2 = golden_arrays("tf1.npz"), golden_arrays("tf2.npz")
TF1_FORMS = ("tf1_v2.ckpt", "tf1_v1.ckpt", "tf1_savedmodel")


def recorded(prefix):
    """layer/leaf → values as the framework holds them in memory."""
    return {name.removeprefix(prefix): value for name, value in TF2.items() if name.startswith(prefix)}


@pytest.mark.parametrize("form", TF1_FORMS)
def test_tf1_variables_are_bit_identical(form):
    """Also the partitioned one, its slots and bfloat16; V1 knows no bfloat16, and the converter left that out."""
    checkpoint = open_checkpoint(GOLDEN / form)

    missing = {"net/half"} if form == "tf1_v1.ckpt" else set()
    told = {name.removeprefix("w/") for name in TF1 if name.startswith("w/")} - missing
    assert told <= set(checkpoint)
    for name in told:
        np.testing.assert_array_equal(checkpoint.read(name), TF1[f"w/{name}"], err_msg=name)


@pytest.mark.parametrize("form", TF1_FORMS)
def test_tf1_roles(form):
    """Adam's slots, moving averages and counters are set aside, batch-norm's statistics are not."""
    checkpoint = open_checkpoint(GOLDEN / form)

    weights = {name for name, info in checkpoint.items() if info.role == "weight"} - {"net/half"}
    assert weights == {
        "net/conv/kernel", "net/conv/bias", "net/depthwise/kernel", "net/dense/kernel", "net/norm/gamma",
        "net/norm/beta", "net/norm/moving_mean", "net/norm/moving_variance",
    }  # fmt: skip
    assert checkpoint["net/conv/bias/ExponentialMovingAverage"].role == "ema"
    assert checkpoint["global_step"].role == "counter"


@pytest.mark.parametrize("form", ["tf1_v2.ckpt", "tf1_savedmodel"])
def test_tf1_graphs_tell_padding_strides_and_eps(form):
    """From the .meta beside the checkpoint, and from the SavedModel's program."""
    checkpoint = open_checkpoint(GOLDEN / form)

    assert facts_of(checkpoint, "net/conv") == {"padding": "same", "strides": [2, 2]}
    assert facts_of(checkpoint, "net/depthwise") == {"padding": "valid", "strides": [1, 1]}
    assert facts_of(checkpoint, "net/norm") == {"eps": 0.002}
    types = {name: info.layer_type for name, info in checkpoint.items() if info.layer_type}
    assert types["net/conv/bias"] == "Conv2D"
    assert types["net/dense/kernel"] == "Dense"
    assert types["net/norm/moving_variance"] == "BatchNormalization"


@pytest.mark.parametrize(
    ("form", "prefix"),
    [
        ("keras3_objects", "keras3/w/"),
        ("keras3_savedmodel", "keras3/w/"),
        ("tf_keras_objects", "tf_keras/w/"),
        ("tf_keras_savedmodel", "tf_keras/w/"),
    ],
)
def test_tf2_variables_are_bit_identical_under_their_real_names(form, prefix):
    """And nothing else is a weight."""
    checkpoint = open_checkpoint(GOLDEN / form)

    expected = recorded(prefix)
    assert {name for name, info in checkpoint.items() if info.role == "weight"} == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(checkpoint.read(name), value, strict=True, err_msg=name)


def test_keras_2_tells_its_layers_in_a_savedmodel():
    """From keras_metadata.pb."""
    checkpoint = open_checkpoint(GOLDEN / "tf_keras_savedmodel")

    assert facts_of(checkpoint, "norm")["eps"] == 0.002
    assert facts_of(checkpoint, "conv")["strides"] == [2, 2]
    assert facts_of(checkpoint, "hidden")["flatten_channels"] == 4
    assert checkpoint["up/kernel"].layer_type == "Conv2DTranspose"


def lite_kernel(name, layer_part):
    """(checkpoint, name of the kernel of the layer whose name holds `layer_part`)."""
    checkpoint = open_checkpoint(GOLDEN / name)
    (found,) = [n for n, info in checkpoint.items() if info.leaf == "kernel" and layer_part in info.layer]
    return checkpoint, found


@pytest.mark.parametrize(
    ("file", "rtol"),
    [
        ("float32.tflite", 0),
        ("float16.tflite", 2**-11),  # half of float16's last place
    ],
)
def test_lite_kernels_are_those_of_the_model(file, rtol):
    """(out, h, w, in) of TFLite is (h, w, in, out) of Keras, and (h, w, out, in) when transposed."""
    weights = recorded("keras3/w/")
    for layer, axes in (("conv_1", (3, 0, 1, 2)), ("up_1", (2, 0, 1, 3)), ("hidden_1", (1, 0)), ("logits_1", (1, 0))):
        checkpoint, name = lite_kernel(file, f"/{layer}")
        expected = weights[f"{layer.removesuffix('_1')}/kernel"].transpose(axes)
        np.testing.assert_allclose(
            checkpoint.read(name).astype("float32"), expected, rtol=rtol, atol=2**-25 * bool(rtol)
        )


@pytest.mark.parametrize(
    ("file", "layers"), [("dynamic.tflite", ["hidden_1"]), ("int8.tflite", ["conv_1", "up_1", "hidden_1"])]
)
def test_lite_integers_are_within_half_a_step_of_the_model(file, layers):
    """A step is the largest value of the channel / 127."""
    weights = recorded("keras3/w/")
    axes = {"conv_1": (3, 0, 1, 2), "up_1": (2, 0, 1, 3), "hidden_1": (1, 0)}
    for layer in layers:
        checkpoint, name = lite_kernel(file, f"/{layer}")
        expected = weights[f"{layer.removesuffix('_1')}/kernel"].transpose(axes[layer])
        step = np.abs(expected.reshape(len(expected), -1)).max(axis=1) / 127
        difference = np.abs(checkpoint.read(name) - expected).reshape(len(expected), -1).max(axis=1)
        assert (difference <= 0.501 * step).all(), layer  # 0.001: the scale itself is a float32
        assert "dequantised from int8" in checkpoint[name].note


@pytest.mark.parametrize("file", ["float32.tflite", "float16.tflite", "dynamic.tflite", "int8.tflite"])
def test_lite_operators_tell_their_settings(file):
    """The same of all four forms."""
    checkpoint, name = lite_kernel(file, "/conv_1")

    assert facts_of(checkpoint, checkpoint[name].layer) == {
        "padding": "same", "strides": [2, 2], "dilation": [1, 1], "activation": "relu",
    }  # fmt: skip
    depthwise = [need for need in checkpoint.requirements if need.attribute == "depth_multiplier"]
    assert [need.value for need in depthwise] == [2]
