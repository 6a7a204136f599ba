"""TensorFlow.js models: shards, quantisation, and Keras layers' settings."""

import json

import numpy as np
import pytest

from golden_files import facts_of
from graphs import graph_json, padded_network
from javascript import write_tfjs
from regraft.errors import CheckpointError
from regraft.formats.tensorflow_js import TensorFlowJS
from regraft.reading import open_checkpoint

ARRAYS = {"a": np.arange(7, dtype=np.float32), "b": np.arange(6, dtype=np.int32).reshape(2, 3), "c": np.float32(3)}


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
def test_arrays_may_lie_over_several_shards(tmp_path, shards):
    """Shards are cut at any byte."""
    checkpoint = TensorFlowJS().open(write_tfjs(tmp_path, ARRAYS, shards=shards))

    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(checkpoint.read(name), array)
    assert len(checkpoint.files) == 1 + shards


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_affine_integers_become_numbers(tmp_path, dtype):
    """value = scale × integer + min, told in a note."""
    integers = np.array([0, 1, 200], dtype)
    path = write_tfjs(
        tmp_path,
        {"w": np.zeros(3, np.float32)},
        quantised={"w": (integers, {"dtype": dtype, "scale": 0.25, "min": -3.0, "original_dtype": "float32"})},
    )

    checkpoint = TensorFlowJS().open(path)

    np.testing.assert_array_equal(checkpoint.read("w"), np.array([-3, -2.75, 47], np.float32), strict=True)
    assert checkpoint["w"].note == f"dequantised from {dtype}, one scale"


def test_a_constant_array_has_scale_zero(tmp_path):
    """The converter writes scale 1 or 0 when all values are equal."""
    path = write_tfjs(
        tmp_path,
        {"w": np.zeros(2, np.float32)},
        quantised={"w": (np.zeros(2, np.uint8), {"dtype": "uint8", "scale": 0, "min": 0.5})},
    )

    np.testing.assert_array_equal(TensorFlowJS().open(path).read("w"), [0.5, 0.5])


def test_halves_are_read_as_they_are(tmp_path):
    """float16 is no affine code."""
    halves = np.array([0.5, -2], np.float16)
    path = write_tfjs(tmp_path, {"w": np.zeros(2, np.float32)}, quantised={"w": (halves, {"dtype": "float16"})})

    np.testing.assert_array_equal(TensorFlowJS().open(path).read("w"), halves, strict=True)


def test_keras_layers_tell_their_settings(tmp_path):
    """By the topology, also for a layer inside a nested model."""
    conv = {"class_name": "Conv2D", "config": {"name": "conv", "padding": "same", "strides": [2, 2], "use_bias": True}}
    block = {"class_name": "Sequential", "config": {"name": "block", "layers": [conv]}}
    norm = {"class_name": "BatchNormalization", "config": {"name": "norm", "epsilon": 0.002}}
    topology = {"model_config": {"class_name": "Sequential", "config": {"name": "net", "layers": [block, norm]}}}
    arrays = {"conv/kernel": np.zeros((3, 3, 1, 2), np.float32), "norm/gamma": np.ones(2, np.float32)}

    checkpoint = TensorFlowJS().open(write_tfjs(tmp_path, arrays, topology=topology))

    kernel = checkpoint["conv/kernel"]
    assert (kernel.layer_type, kernel.layer, kernel.leaf) == ("Conv2D", "block/conv", "kernel")
    assert facts_of(checkpoint, "block/conv")["padding"] == "same"
    assert facts_of(checkpoint, "norm")["eps"] == 0.002
    assert checkpoint.layout == "keras"


def test_a_layers_model_is_connected_as_its_topology_says(tmp_path):
    """So that match="structure" finds its layers under any name."""
    layers = [
        {"class_name": "Conv2D", "config": {"name": "conv", "padding": "same"}},
        {"class_name": "BatchNormalization", "config": {"name": "norm"}},
    ]
    topology = {"model_config": {"class_name": "Sequential", "config": {"name": "net", "layers": layers}}}

    checkpoint = TensorFlowJS().open(write_tfjs(tmp_path, {"conv/kernel": np.zeros((3, 3, 1, 2), "f")},
                                                topology=topology))  # fmt: skip

    assert {one.layer: one.value for one in checkpoint.requirements if one.attribute == "inputs"} == {
        "conv": [""], "norm": ["conv"],
    }  # fmt: skip


def test_a_graph_model_has_its_layers_paddings_and_connections(tmp_path):
    """The nodes are TensorFlow's, in JSON; a Pad node before a convolution is its padding."""
    rng = np.random.default_rng(0)
    nodes = padded_network(rng.normal(size=(3, 3, 3, 4)).astype("f"), np.ones(4, "f"), np.ones((4, 5), "f"))
    fused = {one["name"]: one for one in nodes}
    fused["conv/Conv2D"] |= {"op": "_FusedConv2D", "input": ["pad", "conv/kernel", "conv/bias"]}
    fused["conv/Conv2D"]["attr"] = fused["conv/Conv2D"]["attr"] | {"fused_ops": ["BiasAdd", "Relu6"]}
    fused["mean"]["input"][0] = "conv/Conv2D"
    topology = graph_json(*(one for name, one in fused.items() if name not in ("conv/BiasAdd", "relu")))
    arrays = {one["name"]: one["array"] for one in nodes if "array" in one}

    checkpoint = TensorFlowJS().open(write_tfjs(tmp_path, arrays, topology=topology))

    assert [(name, info.layer, info.leaf, info.role) for name, info in checkpoint.items()] == [
        ("conv/kernel", "conv", "kernel", "weight"), ("conv/bias", "conv", "bias", "weight"),
        ("fc/kernel", "fc", "kernel", "weight"), ("pad/sides", "", "", "constant"), ("mean/axes", "", "", "constant"),
    ]  # fmt: skip
    facts = facts_of(checkpoint, "conv")
    assert (facts["padding"], facts["strides"], facts["activation"]) == ([[1, 1], [1, 1]], [2, 2], "relu6")
    connected = {one.layer: one.value for one in checkpoint.requirements if one.attribute == "inputs"}
    assert connected == {"pad": [""], "conv": ["pad"], "mean": ["conv"], "fc": ["mean"]}
    assert checkpoint.layout == "tensorflow"


def test_a_manifest_without_its_model_is_opened(tmp_path):
    """face-api.js' files are a JSON list of groups, and say nothing of the network."""
    path = write_tfjs(tmp_path, ARRAYS)
    manifest = tmp_path / "net-weights_manifest.json"
    manifest.write_text(json.dumps(json.loads(path.read_text())["weightsManifest"]))

    checkpoint = open_checkpoint(manifest)

    assert (list(checkpoint), checkpoint.format, checkpoint.layout) == (list(ARRAYS), "tfjs", "tensorflow")
    np.testing.assert_array_equal(checkpoint.read("b"), ARRAYS["b"])
    assert "without a model" in checkpoint.notes[0]


@pytest.mark.parametrize("name", ["../weights.bin", "/etc/passwd", "sub/weights.bin", "..\\weights.bin", "a\0b"])
def test_shards_outside_of_the_folder_are_refused(tmp_path, name):
    """Whatever the JSON says."""
    (tmp_path / "weights.bin").write_bytes(b"\0" * 4)
    manifest = [{"paths": [name], "weights": [{"name": "w", "shape": [1], "dtype": "float32"}]}]
    (tmp_path / "model.json").write_text(json.dumps({"modelTopology": {}, "weightsManifest": manifest}))

    with pytest.raises(CheckpointError, match=r"refused to open .*must be in the folder of the model"):
        TensorFlowJS().open(tmp_path / "model.json")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shape": [1 << 39]}, "should end at byte"),
        ({"shape": [-1]}, "entry of a weight is damaged"),
        ({"dtype": "string"}, "is of 'string', expected one of float32"),
        ({"shape": [1]}, "have 4 bytes, its shards 8"),
        ({"quantization": {"dtype": "uint8"}}, "entry of a weight is damaged"),
    ],
)
def test_entries_that_do_not_fit_are_refused(tmp_path, change, told):
    """Before anything is read."""
    path = write_tfjs(tmp_path, {"w": np.zeros(2, np.float32)}, shards=1)
    model = json.loads(path.read_text())
    model["weightsManifest"][0]["weights"][0] |= change
    path.write_text(json.dumps(model))

    with pytest.raises(CheckpointError, match=told):
        TensorFlowJS().open(path)


def test_a_missing_shard_is_named(tmp_path):
    """All missing ones at once."""
    path = write_tfjs(tmp_path, ARRAYS)
    (tmp_path / "group1-shard2of2.bin").unlink()

    with pytest.raises(CheckpointError, match=r"1 of 2 shards are missing: group1-shard2of2\.bin"):
        TensorFlowJS().open(path)
