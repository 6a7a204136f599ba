"""The symbol beside MXNet's parameters: settings, and how operators are connected."""

import json

import numpy as np
import pytest

from golden_files import facts_of
from regraft.errors import CheckpointError
from regraft.formats.mxnet import MXNet
from regraft.formats.mxnet_symbol import read_symbol
from written import write_params


@pytest.mark.parametrize("text", ["[]", "{", '{"nodes": [{}]}', '{"nodes": 3}',
                                  '{"nodes": [{"name": "a", "op": "b", "inputs": [[9, 0]]}]}'])  # fmt: skip
def test_a_damaged_symbol_beside_the_file_is_named(tmp_path, text):
    """And can be moved away."""
    path = write_params(tmp_path / "n-0001.params", {"a": np.ones(2, "f")})
    (tmp_path / "n-symbol.json").write_text(text)

    with pytest.raises(CheckpointError, match=r"(?s)n-symbol\.json: .*not an MXNet symbol.* move it to another folder"):
        MXNet().open(path)


def test_settings_under_all_three_keys_are_read(tmp_path):
    """MXNet called them param, attr and attrs."""
    path = write_params(tmp_path / "n-0001.params", {f"arg:{name}_gamma": np.zeros(2, "f") for name in "abc"})
    nodes = []
    for number, (name, key) in enumerate(zip("abc", ("param", "attr", "attrs"), strict=True)):
        nodes += [
            {"op": "null", "name": f"{name}_gamma", "inputs": []},
            {"op": "BatchNorm", "name": name, key: {"eps": "0.5", "fix_gamma": "False"}, "inputs": [[2 * number, 0]]},
        ]
    (tmp_path / "n-symbol.json").write_text(json.dumps({"nodes": nodes}))

    checkpoint = MXNet().open(path)

    assert [facts_of(checkpoint, name)["eps"] for name in "abc"] == [0.5] * 3
    np.testing.assert_array_equal(checkpoint.read("a_gamma"), np.zeros(2, "f"))


def symbol(folder, *nodes):
    """A symbol of (name, operator, settings, names of its inputs), in order."""
    index = {name: number for number, (name, *_) in enumerate(nodes)}
    written = [
        {"name": name, "op": op, "attrs": settings, "inputs": [[index[one], 0, 0] for one in inputs]}
        for name, op, settings, inputs in nodes
    ]
    (folder / "n-symbol.json").write_text(json.dumps({"nodes": written}))
    return read_symbol(folder / "n-symbol.json")


def variable(name):
    return name, "null", {}, []


@pytest.mark.parametrize(("settings", "padding"), [
    ({"mode": "constant", "pad_width": "(0, 0, 0, 0, 1, 2, 3, 4)"}, [[2, 3], [4, 5]]),
    ({"mode": "constant", "pad_width": "(0, 0, 0, 0, 1, 2, 3, 4)", "constant_value": "1"}, "computed by the graph"),
    ({"mode": "constant", "pad_width": "(0, 0, 1, 0, 1, 2, 3, 4)"}, "computed by the graph"),
    ({"mode": "reflect", "pad_width": "(0, 0, 0, 0, 1, 1, 1, 1)"}, "reflect of [[1, 1], [1, 1]]"),
])  # fmt: skip
def test_a_pad_before_a_convolution_is_its_padding(tmp_path, settings, padding):
    """Zeros are added to the convolution's own; what is no number of zeros becomes words."""
    found = symbol(
        tmp_path, variable("data"), ("pad0", "Pad", settings, ["data"]), variable("c_weight"),
        ("c", "Convolution", {"kernel": "(3, 3)", "pad": "(1, 1)", "no_bias": "True"}, ["pad0", "c_weight"]),
    )  # fmt: skip

    facts = {one.attribute: one.value for one in found.requirements({"c_weight": 0}) if one.layer == "c"}

    assert (facts["padding"], facts["padding_layer"]) == (padding, "pad0")


def test_operators_are_connected(tmp_path):
    """Joins, poolings and activations in Keras' words; the labels of a loss are no map."""
    found = symbol(
        tmp_path, variable("data"), variable("c_weight"),
        ("c", "Convolution", {"kernel": "(1, 1)"}, ["data", "c_weight"]),
        ("relu0", "Activation", {"act_type": "relu"}, ["c"]), ("sum0", "elemwise_add", {}, ["relu0", "c"]),
        ("pool0", "Pooling", {"kernel": "(3, 3)", "stride": "(2, 2)", "pool_type": "avg", "pooling_convention": "full"},
         ["sum0"]),
        ("pool1", "Pooling", {"kernel": "(1, 1)", "global_pool": "True", "pool_type": "avg"}, ["pool0"]),
        variable("fc_weight"), ("fc", "FullyConnected", {}, ["pool1", "fc_weight"]), variable("label"),
        ("softmax", "SoftmaxOutput", {}, ["fc", "label"]),
    )  # fmt: skip

    needs = {(one.layer, one.attribute): one.value for one in found.requirements({"c_weight": 0, "fc_weight": 0})}

    assert {layer: value for (layer, attribute), value in needs.items() if attribute == "inputs"} == {
        "c": [""], "relu0": ["c"], "sum0": ["relu0", "c"], "pool0": ["sum0"], "pool1": ["pool0"], "fc": ["pool1"],
        "softmax": ["fc"],
    }  # fmt: skip
    assert (needs["relu0", "activation"], needs["sum0", "operation"]) == ("relu", "Add")
    assert (needs["pool0", "pool"], needs["pool0", "ceil_mode"], needs["pool0", "count_include_pad"]) == (
        "average", True, True,
    )  # fmt: skip
    assert needs["pool1", "operation"] == "GlobalAveragePooling2D"
