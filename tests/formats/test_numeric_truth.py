"""Arrays of real checkpoints, put through the network in NumPy, give the outputs that the source framework recorded."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest

from regraft.reading import open_checkpoint
from shared import CHECKPOINTS, MNIST, needs_shared

OURS = ("tf1_", "tf2_", "npz_", "pickle_", "torch_", "keras3_")
ENTRIES = [
    entry
    for entry in (json.loads((MNIST / "MANIFEST.json").read_text())["entries"] if MNIST.is_dir() else [])
    if entry["id"].startswith(OURS)
]
# Differences between TensorFlow's and NumPy's order of sums are up to 6.7e-6 on these logits (MANIFEST.json).
ATOL = 2e-5


def dense_layers(checkpoint):
    """(kernel (in, out), bias) of each layer in order, told by the names; by position where names are numbers."""
    weights = {name: checkpoint.read(name) for name, info in checkpoint.items() if info.role == "weight"}
    if all(name.isdigit() for name in weights):
        ordered = [weights[str(index)] for index in range(len(weights))]
        return list(zip(ordered[0::2], ordered[1::2], strict=True))
    layers = {}
    for name, array in weights.items():
        layer = re.search(r"hidden\d|outputs|logits", name)[0]
        layers.setdefault(layer, {})["bias" if name.endswith("bias") else "kernel"] = array
    kernels = [
        (layers[layer]["kernel"].T if checkpoint.layout == "torch" else layers[layer]["kernel"], layers[layer]["bias"])
        for layer in sorted(layers)
    ]
    assert all(len(bias) == kernel.shape[1] for kernel, bias in kernels)
    assert all(len(one[1]) == len(two[0]) for one, two in pairwise(kernels))
    return kernels


@needs_shared
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_logits_are_those_of_the_source_framework(entry):
    """One network in each of its forms."""
    layers = dense_layers(open_checkpoint(MNIST / entry["load_path"]))
    slope = 0.1 if "leaky" in entry["id"] else 0.0

    x = np.load(MNIST / "expected" / "mnist_test16_images_float32_0to1.npy")
    for number, (kernel, bias) in enumerate(layers):
        x = x @ kernel.astype(np.float32) + bias.astype(np.float32)
        x = np.maximum(x, slope * x) if number < len(layers) - 1 else x

    np.testing.assert_allclose(x, np.load(MNIST / entry["expected_logits"]), rtol=0, atol=ATOL)


@needs_shared
def test_mobilenet_has_the_same_values_in_its_checkpoint_and_its_tflite_file():
    """(h, w, in, out) and (h, w, channel, 1) of the checkpoint are (out, h, w, in) and (1, h, w, channel) of TFLite."""
    folder = CHECKPOINTS / "mobilenet_v1_025"
    checkpoint = open_checkpoint(folder / "mobilenet_v1_0.25_224.ckpt")
    lite = open_checkpoint(folder / "mobilenet_v1_0.25_224.tflite")
    values = [lite.read(name) for name, info in lite.items() if info.dtype == "float32" and info.role == "weight"]

    weights = [name for name, info in checkpoint.items() if info.role == "weight"]
    for name in weights:
        array = checkpoint.read(name)
        if array.ndim == 4:
            array = array.transpose(3, 0, 1, 2)
        same = [value for value in values if value.shape == array.shape and np.array_equal(value, array)]
        assert same, f"{name} {array.shape} is not in the TFLite file"
    assert sum(value.size for value in values) == sum(checkpoint[name].count for name in weights)
