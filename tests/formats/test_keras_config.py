"""A model's description as a tree of layers."""

import json
from pathlib import Path

import pytest

from regraft.arrays import ArrayInfo
from regraft.errors import CheckpointError
from regraft.formats.keras_config import read_config, snake_case, with_keras_layers


def model(*layers, kind="Sequential"):
    return json.dumps({"class_name": kind, "config": {"name": "net", "layers": list(layers)}})


def layer(name, kind="Dense", **settings):
    return {"class_name": kind, "config": {"name": name, **settings}}


def test_a_sequential_model_s_layers_feed_each_other():
    """Its description has no inbound nodes."""
    root = read_config(model(layer("a"), layer("b"), layer("c")), Path("net.h5"))

    assert [one.inputs for one in root.children] == [(), ("a",), ("b",)]


@pytest.mark.parametrize("node", [
    [[["a", 0, 0, {}], ["b", 0, 0, {"mask": ["c", 0, 0]}]]],
    [{"args": [[{"class_name": "__keras_tensor__", "config": {"keras_history": ["a", 0, 0]}},
                {"class_name": "__keras_tensor__", "config": {"keras_history": ["b", 0, 0]}}]],
      "kwargs": {"mask": {"config": {"keras_history": ["c", 0, 0]}}}}],
])  # fmt: skip
def test_inputs_are_found_in_keras_2_s_and_keras_3_s_words(node):
    """Positional tensors first, then those given by keyword."""
    told = {**layer("add", "Add"), "inbound_nodes": node}

    root = read_config(model(told, kind="Functional"), Path("net.h5"))

    assert root.children[0].inputs == ("a", "b", "c")


def test_nested_and_wrapped_layers_have_whole_paths():
    """As the weights' names should read."""
    inner = json.loads(model(layer("conv", "Conv2D")))
    both = layer("both", "Bidirectional", layer=layer("lstm", "LSTM"))

    root = read_config(model(inner, both, layer("each", "TimeDistributed", layer=layer("dense"))), Path("net.h5"))

    assert [one.path for one in root.walk()] == [
        "", "net", "net/conv", "both", "both/forward_lstm", "both/backward_lstm", "each", "each/dense",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"class_name": 3}', '{"class_name": "A", "config": 5}', "null", "[" * 9999]
)
def test_what_is_no_description_is_refused(text):
    """A CheckpointError that names the file."""
    with pytest.raises(CheckpointError, match=r"net\.h5: the model's description"):
        read_config(text, Path("net.h5"))


def test_endless_nesting_is_refused():
    """Before the stack overflows."""
    told = layer("d")
    for number in range(60):
        told = json.loads(model(told)) | {"config": {"name": f"n{number}", "layers": [told]}}

    with pytest.raises(CheckpointError, match="nest deeper"):
        read_config(json.dumps(told), Path("net.h5"))


def test_automatic_names_are_keras_own():
    """Whole words, digits stay with their word."""
    names = ["Conv2DTranspose", "MultiHeadAttention", "LSTM", "DepthwiseConv2D", "TimeDistributed"]

    assert [snake_case(name) for name in names] == [
        "conv2d_transpose", "multi_head_attention", "lstm", "depthwise_conv2d", "time_distributed",
    ]  # fmt: skip


NESTED = read_config(
    json.dumps(layer("net", "Sequential", layers=[
        layer("a"), layer("block", "Sequential", layers=[layer("b"), layer("same")]), layer("same"),
    ])), Path("m")
)  # fmt: skip


def owners(*names):
    infos = with_keras_layers({name: ArrayInfo((1,), "float32") for name in names}, NESTED)
    return [(info.layer, info.leaf) for info in infos.values()]


def test_by_path_by_unique_name_and_not_at_all():
    """The deepest part that names a layer counts."""
    assert owners("a/kernel", "block/b/kernel", "b/kernel", "a/lstm_cell/kernel", "unknown/kernel") == [
        ("a", "kernel"), ("block/b", "kernel"), ("block/b", "kernel"), ("a", "lstm_cell/kernel"), ("", ""),
    ]  # fmt: skip


def test_a_name_of_two_layers_counts_only_as_a_path():
    """Which of them is meant is not guessed."""
    assert owners("same/kernel", "block/same/kernel", "other/same/kernel") == [
        ("same", "kernel"), ("block/same", "kernel"), ("", ""),
    ]  # fmt: skip
