"""The operators tell kind, padding, strides and activation of the layers whose constants they take."""

import numpy as np
import pytest

from flat import write_tflite
from regraft.formats.tflite import TFLite

KERNEL, BIAS = np.zeros((4, 3, 3, 2), np.float32), np.zeros(4, np.float32)


def opened(tmp_path, names, code, options, *, inputs=(2, 0, 1)):
    """A model with one operator over a kernel, a bias and the input tensor 2."""
    arrays = dict(zip(names, (KERNEL, BIAS), strict=True))
    operator = {0: ("I", 0), 1: np.array(inputs, "<i4"), 2: np.array([2], "<i4"), 4: options}
    return TFLite().open(write_tflite(tmp_path / "m.tflite", arrays, operators=[operator], codes=[code]))


def facts(checkpoint):
    wiring = ("inputs", "operation")
    return {need.attribute: need.value for need in checkpoint.requirements if need.attribute not in wiring}


class Model:
    """A model of several operators, by the names of their tensors; those that are no arrays are maps."""

    def __init__(self, **arrays):
        self.arrays = {name.replace("__", "/"): array for name, array in arrays.items()}
        self.maps, self.operators, self.codes = {}, [], []

    def add(self, code, inputs, output, options=None, shape=(1, 4, 4, 2)):
        """An operator; a map has this shape."""
        self.maps[output] = shape
        self.codes.append(code)
        self.operators.append((inputs, output, options))
        return self

    def opened(self, folder):
        """The checkpoint of it."""
        index = {name: number for number, name in enumerate([*self.arrays, "input", *self.maps])}
        operators = [
            {0: ("I", number), 1: np.array([index[name] for name in inputs], "<i4"),
             2: np.array([index[output]], "<i4"), **({4: options} if options else {})}
            for number, (inputs, output, options) in enumerate(self.operators)
        ]  # fmt: skip
        path = write_tflite(folder / "m.tflite", self.arrays, operators=operators, codes=self.codes, maps=self.maps)
        return TFLite().open(path)


CONV = {0: ("b", 1), 1: ("i", 2), 2: ("i", 2)}  # VALID, stride 2


@pytest.mark.parametrize(("code", "sides", "value", "options", "padding"), [
    (34, [[0, 0], [1, 2], [3, 4], [0, 0]], None, None, [[1, 2], [3, 4]]),
    (60, [[0, 0], [1, 2], [3, 4], [0, 0]], 0.0, None, [[1, 2], [3, 4]]),
    (60, [[0, 0], [1, 2], [3, 4], [0, 0]], 1.0, None, "computed by the graph"),
    (34, [[0, 0], [1, 2], [3, 4], [0, 1]], None, None, "computed by the graph"),
    (100, [[0, 0], [1, 1], [1, 1], [0, 0]], None, {0: ("b", 0)}, "reflect of [[1, 1], [1, 1]]"),
])  # fmt: skip
def test_a_pad_before_a_convolution_is_its_padding(tmp_path, code, sides, value, options, padding):
    """Keras' ZeroPadding2D; what is no number of zeros becomes words that no layer of a model has."""
    extra = {} if value is None else {"v": np.array([value], "f")}
    model = Model(conv__k=KERNEL, s=np.array(sides, np.int32), **extra)
    model.add(code, ["input", "s", *extra], "padded", options).add(3, ["padded", "conv/k"], "y", CONV)

    found = facts(model.opened(tmp_path))

    assert (found["padding"], found["padding_layer"]) == (padding, "padded")


def test_a_pad_before_same_is_both(tmp_path):
    """Neither alone would be right."""
    model = Model(conv__k=KERNEL, s=np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    model.add(34, ["input", "s"], "padded").add(3, ["padded", "conv/k"], "y", CONV | {0: ("b", 0)})

    assert facts(model.opened(tmp_path))["padding"] == "[[1, 1], [1, 1]], then same"


def test_the_layers_are_connected(tmp_path):
    """Joins, poolings and activations in Keras' words; an activation that is fused with a sum is a step of its own."""
    model = Model(a__k=KERNEL, b__k=KERNEL, axes=np.array([1, 2], np.int32), fc__k=np.ones((5, 4), "f"))
    pool = {0: ("b", 0), 1: ("i", 2), 2: ("i", 2), 3: ("i", 3), 4: ("i", 3)}
    model.add(3, ["input", "a/k"], "a", CONV | {3: ("b", 1)}).add(3, ["input", "b/k"], "b", CONV)
    model.add(0, ["a", "b"], "sum", {0: ("b", 3)}).add(
        17,
        [
            "sum",
        ],
        "pool",
        pool,
    ).add(117, ["pool"], "act")
    model.add(40, ["act", "axes"], "mean").add(9, ["mean", "fc/k"], "y", shape=(1, 5))

    needs = {(one.layer, one.attribute): one.value for one in model.opened(tmp_path).requirements}

    assert {layer: value for (layer, attribute), value in needs.items() if attribute == "inputs"} == {
        "a": [""], "b": [""], "sum": ["a", "b"], "sum (relu6)": ["sum"], "pool": ["sum (relu6)"], "act": ["pool"],
        "mean": ["act"], "fc": ["mean"],
    }  # fmt: skip
    assert (needs["a", "activation"], needs["sum (relu6)", "activation"]) == ("relu", "relu6")
    assert (needs["pool", "pool"], needs["pool", "pool_size"], needs["act", "activation"]) == (
        "max",
        [3, 3],
        "hard_swish",
    )
    assert (needs["sum", "operation"], needs["mean", "operation"]) == ("Add", "GlobalAveragePooling2D")


@pytest.mark.parametrize(("size", "output", "operation"), [
    ((7, 7), (1, 1, 1, 4), "GlobalAveragePooling2D"), ((3, 7), (1, 3, 1, 4), "AveragePooling2D"),
])  # fmt: skip
def test_a_pooling_over_its_whole_map_is_global(tmp_path, size, output, operation):
    """MobileNet's 7×7 average over a 7×7 map is a mean over height and width, whatever its stride."""
    options = {0: ("b", 1), 1: ("i", 2), 2: ("i", 2), 3: ("i", size[1]), 4: ("i", size[0])}
    model = Model(conv__k=KERNEL)
    model.add(3, ["input", "conv/k"], "map", CONV, shape=(1, 7, 7, 4)).add(1, ["map"], "pool", options, shape=output)

    needs = {row.attribute: row.value for row in model.opened(tmp_path).requirements if row.layer == "pool"}

    assert needs["operation"] == operation
    assert needs.get("pool_size") == (None if operation.startswith("Global") else list(size))


@pytest.mark.parametrize(("perm", "order", "axes"), [
    (None, "channels_last", None), ([0, 3, 1, 2], "channels_first", None), ([0, 2, 1, 3], "permuted", ["w", "h", "c"]),
])  # fmt: skip
def test_a_flattened_map_has_the_order_of_its_axes(tmp_path, perm, order, axes):
    """(h, w, c), unless the graph transposes it; the sizes are in the file."""
    arrays = {"conv__k": KERNEL, "shape": np.array([1, 24], np.int32), "fc__k": np.ones((5, 24), "f")}
    model = Model(**arrays, **({} if perm is None else {"perm": np.array(perm, np.int32)}))
    model.add(3, ["input", "conv/k"], "map", CONV, shape=(1, 2, 3, 4))
    if perm is not None:
        model.add(39, ["map", "perm"], "turned", shape=tuple((1, 2, 3, 4)[axis] for axis in perm))
    model.add(22, ["map" if perm is None else "turned", "shape"], "flat", shape=(1, 24))
    model.add(9, ["flat", "fc/k"], "y", shape=(1, 5))

    found = {one.attribute: one.value for one in model.opened(tmp_path).requirements if one.layer == "fc"}

    assert (found["flatten_order"], found.get("flatten_axes")) == (order, axes)
    assert found.get("flatten_sizes") == (None if axes is None else [3, 2, 4])
    assert found.get("flatten_channels") == (4 if order == "channels_last" else None)


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
