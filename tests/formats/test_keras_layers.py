"""The names of Keras' weights, and facts that several layers tell together."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.formats.keras_config import read_config
from regraft.formats.keras_layers import class_by_weights, leaf_names, requirements
from regraft.loading import apply_plan
from regraft.matching import plan_reuse


def facts(*layers):
    """Requirements of a Sequential model, (layer, attribute) → value."""
    told = [{"class_name": kind, "config": {"name": name, **settings}} for name, kind, settings in layers]
    root = read_config(json.dumps({"class_name": "Sequential", "config": {"layers": told}}), Path("net.h5"))
    return {(one.layer, one.attribute): one.value for one in requirements(root)}


@pytest.mark.parametrize(("kind", "settings", "count", "names"), [
    ("Dense", {"use_bias": False}, 1, ("kernel",)),
    ("Dense", None, 1, ("kernel",)),
    ("BatchNormalization", {"scale": False}, 3, ("beta", "moving_mean", "moving_variance")),
    ("BatchNormalization", {"center": False}, 3, ("gamma", "moving_mean", "moving_variance")),
    ("BatchNormalization", None, 3, ("gamma_or_beta", "moving_mean", "moving_variance")),
    ("BatchNormalization", None, 2, ("moving_mean", "moving_variance")),
    ("Dense", {"use_bias": True}, 5, ("0", "1", "2", "3", "4")),
    ("Dense", {"use_bias": True}, 8, ("kernel", "bias", "inputs_scale", "inputs_amax_history", "kernel_scale",
                                      "kernel_amax_history", "outputs_grad_scale", "outputs_grad_amax_history")),
    ("Mine", {}, 2, ("0", "1")),
])  # fmt: skip
def test_numbered_weights_get_names_only_without_doubt(kind, settings, count, names):
    """By class and switches; else their numbers."""
    assert leaf_names(kind, settings, count) == names


def test_zeros_of_an_own_layer_are_the_convolution_s_padding():
    """keras.applications pad so: ZeroPadding2D, then a convolution without padding."""
    found = facts(
        ("pad", "ZeroPadding2D", {"padding": [[0, 1], [2, 3]]}),
        ("conv", "Conv2D", {"padding": "valid", "filters": 4}),
        ("other", "Conv2D", {"padding": "valid"}),
    )

    assert found["conv", "padding"] == [[0, 1], [2, 3]]
    assert found["conv", "padding_layer"] == "pad"
    assert found["other", "padding"] == "valid"


def test_the_flattened_channels_are_traced_back_to_the_convolution():
    """Older files hold no shapes; pooling, activations and a batch-norm keep the channels."""
    found = facts(
        ("conv", "Conv2D", {"filters": 6}), ("norm", "BatchNormalization", {}), ("pool", "MaxPooling2D", {}),
        ("flat", "Flatten", {}), ("drop", "Dropout", {}), ("dense", "Dense", {}), ("next", "Dense", {}),
    )  # fmt: skip

    assert (found["dense", "flatten_order"], found["dense", "flatten_channels"]) == ("channels_last", 6)
    assert ("next", "flatten_order") not in found


@pytest.mark.parametrize(("dims", "order", "axes"), [
    ([1, 2, 3], "channels_last", None), ([3, 1, 2], "channels_first", None), ([2, 1, 3], "permuted", ["w", "h", "c"]),
    ([3, 2, 1], "permuted", ["c", "w", "h"]), ([1, 3, 2], "permuted", ["h", "c", "w"]),
    ([2, 3, 1], "permuted", ["w", "c", "h"]), ([7], "permuted", None), ("x", "permuted", None),
])  # fmt: skip
def test_a_permutation_before_the_flatten_is_followed(dims, order, axes):
    """In all orders; (3, 1, 2) makes torch's own order, (2, 1, 3) keeps the channels last and swaps the others."""
    found = facts(("conv", "Conv2D", {"filters": 6}), ("turn", "Permute", {"dims": dims}), ("flat", "Flatten", {}),
                  ("dense", "Dense", {}))  # fmt: skip

    assert (found["dense", "flatten_order"], found.get(("dense", "flatten_axes"))) == (order, axes)
    assert ("dense", "flatten_sizes") not in found  # older files record no shapes


def test_an_old_gru_resets_before():
    """The setting is younger than many files."""
    assert facts(("gru", "GRU", {}))["gru", "reset_after"] is False


def test_activations_are_words():
    """Names as they are, nothing as linear, objects by their class."""
    found = facts(
        ("a", "Dense", {"activation": "relu"}), ("b", "Dense", {"activation": None}),
        ("c", "Dense", {"activation": {"class_name": "LeakyReLU", "config": {"alpha": 0.1}}}),
        ("d", "Dense", {"activation": {"class_name": "function", "config": "my_act"}}),
    )  # fmt: skip

    assert [found[name, "activation"] for name in "abcd"] == ["relu", "linear", "LeakyReLU", "my_act"]


@pytest.mark.parametrize(("shapes", "kind"), [
    ({"kernel": (3, 3, 2, 4)}, ""),
    ({"kernel": (3, 4)}, "Dense"),
    ({"kernel": (3, 16), "recurrent_kernel": (4, 16)}, "LSTM"),
    ({"kernel": (3, 12), "recurrent_kernel": (4, 12)}, "GRU"),
    ({"kernel": (3, 4), "recurrent_kernel": (4, 4)}, "SimpleRNN"),
    ({"gamma": (3,), "beta": (3,)}, ""),
    ({"gamma": (3,), "moving_mean": (3,)}, "BatchNormalization"),
])  # fmt: skip
def test_weights_alone_tell_the_class_only_without_doubt(shapes, kind):
    """A kernel of rank 4 may be three layers'."""
    assert class_by_weights(shapes) == kind


def test_pooling_tells_its_window_strides_and_padding():
    """It holds no weights, but its function is part of the network."""
    found = facts(
        ("a", "MaxPooling2D", {"pool_size": [3, 2], "strides": None, "padding": "same"}),
        ("b", "AveragePooling1D", {"pool_size": 4, "strides": 2}), ("c", "GlobalMaxPooling2D", {}),
    )  # fmt: skip

    assert {key: value for key, value in found.items() if key[0] == "a"} == {
        ("a", "pool"): "max", ("a", "pool_size"): [3, 2], ("a", "strides"): [3, 2], ("a", "padding"): "same",
    }  # fmt: skip
    assert (found["b", "pool"], found["b", "pool_size"], found["b", "strides"]) == ("average", [4], [2])
    assert {key: value for key, value in found.items() if key[0] == "c"} == {("c", "function"): "global max"}


def test_a_flatten_of_a_map_with_its_channels_first():
    """Plain flattening keeps torch's order; `data_format="channels_first"` moves the channels last before it."""

    def order(conv, flatten):
        found = facts(
            ("conv", "Conv2D", {"filters": 6, "data_format": conv}), ("flat", "Flatten", {"data_format": flatten}),
            ("dense", "Dense", {}),
        )  # fmt: skip
        return found["dense", "flatten_order"]

    assert order("channels_first", "channels_last") == "channels_first"
    assert order("channels_first", "channels_first") == "channels_last"
    assert order("channels_last", "channels_last") == "channels_last"
    assert order("channels_last", "channels_first") == "permuted"


@pytest.mark.parametrize(("equation", "axes"), [
    ("abc,cd->abd", ["in", "out"]), ("abc, dc -> abd", ["out", "in"]), ("abc,cde->abde", None), ("ab,ab->ab", None),
    (None, None), ("...x,xy->...y", ["in", "out"]),
])  # fmt: skip
def test_an_einsum_tells_the_axes_of_its_kernel(equation, axes):
    """A square kernel's shape could not."""
    assert facts(("e", "EinsumDense", {"equation": equation})).get(("e", "kernel_axes")) == axes


def test_layers_in_a_ring_end():
    """A forged description may feed a layer with itself."""
    kinds = (("drop", "Dropout", "drop"), ("flat", "Flatten", "drop"), ("dense", "Dense", "flat"))
    told = [
        {"class_name": kind, "config": {"name": name}, "inbound_nodes": [[[before, 0, 0, {}]]]}
        for name, kind, before in kinds
    ]
    root = read_config(json.dumps({"class_name": "Functional", "config": {"layers": told}}), Path("net.h5"))

    assert "flatten_order" in {one.attribute for one in requirements(root)}


def test_only_a_layer_of_its_own_reads_backwards():
    """Inside a Bidirectional it is the other direction of torch's layer."""
    inner = {"class_name": "LSTM", "config": {"name": "lstm", "go_backwards": False}}
    backward = {"class_name": "LSTM", "config": {"name": "backward_lstm", "go_backwards": True}}
    both = {"layer": inner, "backward_layer": backward}
    found = facts(("alone", "LSTM", {"go_backwards": True}), ("both", "Bidirectional", both))

    assert found["alone", "go_backwards"] is True
    assert ("both/backward_lstm", "go_backwards") not in found


@pytest.mark.parametrize("dims", list(itertools.permutations((1, 2, 3))))
@pytest.mark.parametrize("moves", [False, True], ids=["flatten", "flatten channels_first"])
def test_a_dense_layer_behind_a_permuted_map_computes_what_keras_computes(dims, moves):
    """The golden value is NumPy's: transpose by the file's numbers, flatten as Keras documents it, multiply."""
    rng = np.random.default_rng(0)
    kernel, maps = rng.normal(size=(24, 5)).astype("f"), rng.normal(size=(2, 3, 4, 2)).astype("f")  # (n, h, w, c)
    turned = maps.transpose(0, *dims)
    flat = (np.moveaxis(turned, 1, -1) if moves else turned).reshape(2, -1)
    layers = [
        {"class_name": "Conv2D", "config": {"name": "conv", "filters": 2, "data_format": "channels_last"}},
        {"class_name": "Permute", "config": {"name": "turn", "dims": list(dims)}},
        {"class_name": "Flatten", "config": {"name": "flat", "data_format": f"channels_{'first' if moves else 'last'}"},
         "build_config": {"input_shape": [None, *turned.shape[1:]]}},
        {"class_name": "Dense", "config": {"name": "1"}},
    ]  # fmt: skip
    root = read_config(json.dumps({"class_name": "Sequential", "config": {"layers": layers}}), Path("net.h5"))
    checkpoint = Checkpoint(
        path=Path("net.h5"), format="keras-h5", layout="keras", reader=lambda name: kernel,
        infos={"1/kernel": ArrayInfo((24, 5), "float32", layer="1", leaf="kernel", layer_type="Dense")},
        requirements=tuple(one for one in requirements(root) if one.layer == "1"),
    )  # fmt: skip
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 5, bias=False))

    apply_plan(plan_reuse(checkpoint, model), checkpoint, model)

    got = model(torch.from_numpy(maps.transpose(0, 3, 1, 2).copy())).detach().numpy()
    np.testing.assert_allclose(got, flat @ kernel, rtol=1e-5, atol=1e-5)  # another order of the same sums


@pytest.mark.parametrize(
    ("layers", "is_masked"),
    [
        ([("e", "Embedding", {"mask_zero": True}), ("d", "Dropout", {}), ("r", "LSTM", {})], True),
        ([("m", "Masking", {}), ("r", "GRU", {})], True),
        ([("e", "Embedding", {"mask_zero": False}), ("r", "LSTM", {})], False),
        ([("e", "Embedding", {"mask_zero": True}), ("c", "Conv1D", {}), ("r", "LSTM", {})], False),
    ],
)
def test_a_recurrent_layer_knows_of_the_mask_before_it(layers, is_masked):
    """Keras skips the steps; a convolution ends the mask."""
    assert facts(*layers).get(("r", "masked"), False) is is_masked
