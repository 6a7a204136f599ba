"""One network in each of the nineteen forms of `checkpoints/mnist` gives the logits that TensorFlow recorded."""

import json
from collections import OrderedDict
from itertools import pairwise

import numpy as np
import pytest
from torch import nn

from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.reading import open_checkpoint
from regraft.verifying import verify
from shared import MNIST, needs_shared

LAYERS = [*(f"hidden{number}" for number in range(1, 6)), "outputs"]
# Differences between TensorFlow's and torch's order of sums are up to 6.7e-6 on these logits (MANIFEST.json).
ATOL = 2e-5

PREFIXED = {"rename": {r"(?:dnn|mnist10)/(.*)": r"\1"}}
POSITIONS = {
    str(2 * index + part): f"{layer}/{leaf}"
    for index, layer in enumerate(LAYERS)
    for part, leaf in enumerate(("kernel", "bias"))
}
# tf2onnx keeps the products' and the sums' names, and no layer's.
NUMBERED = [(f"_{index}" if index else "") for index in range(6)]
PRODUCTS = {f"MatMul{number}/b:0": f"{layer}/kernel" for number, layer in zip(NUMBERED, LAYERS, strict=True)}
SUMS = {f"add{number}/y:0": f"{layer}/bias" for number, layer in zip(NUMBERED, LAYERS, strict=True)}
PICKLED = {"rename": POSITIONS, "layout": "tensorflow"}

# form → what a user says of it, where the names of its layers are not the model's
WISHES = {
    "tf1_v2_mnist10_sgd": {},
    "tf1_v1format_mnist10_sgd": {},
    "tf1_v2_mnist0to4_5x90_leaky_adam": {"rename": {"logits/(.*)": r"outputs/\1"}},
    "tf1_v2_sharded_partitioned_adam_globalstep": PREFIXED,
    "keras3_keras": {},
    "keras3_weights_h5": {},
    "keras3_legacy_h5": {},
    "tf2_object_checkpoint_keras3": PREFIXED,
    "tf2_object_checkpoint_tfmodule": {},
    "tf2_savedmodel_keras3_export": PREFIXED,
    "tf2_savedmodel_tfmodule": {},
    "onnx_tf2onnx": {"rename": PRODUCTS | SUMS, "layout": "tensorflow"},
    "onnx_torch": {},
    "npz_mnist10_300-50x4-10": {"rename": {r"(\w+)__(\w+)": r"\1/\2"}, "layout": "tensorflow"},
    "npz_mnist10_slash_names": {},
    "pickle_float32_p2": PICKLED,
    "pickle_float64_p2": PICKLED,
    "pickle_python2_theano": PICKLED,
    "torch_state_dict": {},
}
MANIFEST = json.loads((MNIST / "MANIFEST.json").read_text()) if MNIST.is_dir() else {"entries": []}
ENTRIES = {entry["id"]: entry for entry in MANIFEST["entries"]}


def network(form):
    """The network under the names of its layers; the leaky one has five layers of 90 and tells five digits."""
    is_leaky = "leaky" in form
    widths = (784, 90, 90, 90, 90, 90, 5) if is_leaky else (784, 300, 50, 50, 50, 50, 10)
    layers = OrderedDict()
    for name, (inputs, outputs) in zip(LAYERS, pairwise(widths), strict=True):
        layers[name] = nn.Linear(inputs, outputs)
        layers[f"{name}_act"] = nn.LeakyReLU(0.1) if is_leaky else nn.ReLU()
    del layers["outputs_act"]
    return nn.Sequential(layers)


@needs_shared
@pytest.mark.parametrize("form", WISHES)
def test_each_form_gives_the_recorded_logits(form):
    checkpoint, model = open_checkpoint(MNIST / ENTRIES[form]["load_path"]), network(form)
    images = np.load(MNIST / "expected" / "mnist_test16_images_float32_0to1.npy")

    plan = plan_reuse(checkpoint, model, **WISHES[form])
    apply_plan(plan, checkpoint, model)

    assert len(plan.reused) == 12
    assert verify(model, images, np.load(MNIST / ENTRIES[form]["expected_logits"]), atol=ATOL).max_error <= ATOL


@needs_shared
def test_no_form_is_left_out():
    assert set(ENTRIES) == set(WISHES)
