"""The wiring of a Keras model is told through models inside models and bare sums."""

import json
from pathlib import Path

from regraft.formats.keras_config import read_config
from regraft.formats.keras_graph import keras_wiring


def node(*feeding):
    args = [{"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}} for name in feeding]
    return [{"args": args, "kwargs": {}}]


def layer(class_name, name, *feeding, module="keras.layers", **config):
    nodes = node(*feeding) if feeding else []
    return {"class_name": class_name, "name": name, "module": module, "config": {"name": name, **config},
            "inbound_nodes": nodes}  # fmt: skip


def facts_of(*layers):
    told = {"class_name": "Functional", "config": {"name": "net", "layers": list(layers)}}
    return [
        (one.layer, one.attribute, one.value) for one in keras_wiring(read_config(json.dumps(told), Path("net.keras")))
    ]


def test_a_sum_written_with_a_plus_joins_its_two_inputs():
    told = facts_of(
        layer("InputLayer", "x"),
        layer("Conv2D", "conv", "x"),
        layer("Add", "add", "conv", "x", module="keras.src.ops.numpy"),
        layer("Dense", "fc", "add"),
    )

    assert ("conv", "inputs", [""]) in told
    assert ("add", "inputs", ["conv", ""]) in told
    assert ("add", "operation", "Add") in told
    assert ("fc", "inputs", ["add"]) in told


def test_a_model_inside_feeds_by_its_last_layer():
    inner = layer("Sequential", "stem", "x")
    inner["config"]["layers"] = [layer("Conv2D", "a"), layer("BatchNormalization", "b")]

    told = facts_of(layer("InputLayer", "x"), inner, layer("Dense", "fc", "stem"))

    assert ("stem/b", "inputs", ["stem/a"]) in told
    assert ("fc", "inputs", ["stem/b"]) in told


def test_a_model_of_an_own_class_has_no_wiring():
    told = {"class_name": "Mine", "config": {"name": "net", "layers": [layer("Dense", "fc")]}}

    assert not list(keras_wiring(read_config(json.dumps(told), Path("net.keras"))))


def test_an_operation_with_a_number_tells_what_it_computes():
    """Bare in Keras 3; a layer of its own in Keras 2."""
    bare = layer("Multiply", "twice", "conv", module="keras.src.ops.numpy")
    bare["inbound_nodes"][0]["args"].append(2.0)
    old = layer("TFOpLambda", "more", function="__operators__.add")
    old["inbound_nodes"] = [["twice", 0, 0, {"y": 3.0, "name": None}]]

    told = facts_of(layer("InputLayer", "x"), layer("Conv2D", "conv", "x"), bare, old)

    assert ("twice", "function", [2.0, 0.0]) in told
    assert ("more", "function", [1.0, 3.0]) in told
