"""ONNX files of three exporters against the source frameworks' weights."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from golden_files import GOLDEN, facts_of, golden_arrays
from regraft.errors import CheckpointError
from regraft.formats.onnx import Onnx
from shared import CHECKPOINTS, MNIST, needs_shared

UNTOUCHED = ["up.weight", "up.bias", "hidden.weight", "hidden.bias", "project.bias", "norm.weight", "norm.bias"]


def opened(name):
    return Onnx().open(GOLDEN / f"{name}.onnx")


@pytest.mark.parametrize("name", ["torch_folded", "torch_unfolded", "torch_dynamo", "torch_external"])
def test_torch_s_exporters_keep_torch_s_names_and_values(name):
    """What no optimisation touched is bit for bit the state dict's."""
    source, checkpoint = golden_arrays("onnx.npz"), opened(name)

    for key in UNTOUCHED:
        np.testing.assert_array_equal(checkpoint.read(key), source[f"torch/{key}"], strict=True, err_msg=key)


@pytest.mark.parametrize("name", ["torch_folded", "torch_dynamo"])
def test_lost_names_are_found_again_from_the_node_s_module(name):
    """The exporters rename what they transpose; the module's path is in the node."""
    source, checkpoint = golden_arrays("onnx.npz"), opened(name)

    np.testing.assert_array_equal(checkpoint.read("project.weight"), source["torch/project.weight"].T)
    assert "the file calls it" in checkpoint["project.weight"].note
    assert [key for key in checkpoint if key.startswith("memory.")] == ["memory.W", "memory.R", "memory.B"]
    assert checkpoint["memory.W"].layer_type == "LSTM"


@pytest.mark.parametrize(("name", "axes"), [
    ("torch_folded", ["in", "out"]), ("torch_dynamo", ["in", "out"]), ("torch_unfolded", ["out", "in"]),
])  # fmt: skip
def test_the_order_of_a_dense_kernel_s_axes_is_told(name, axes):
    """A Gemm by transB; a MatMul by its side, and by a Transpose between."""
    checkpoint = opened(name)

    assert facts_of(checkpoint, "project")["kernel_axes"] == axes
    assert facts_of(checkpoint, "hidden")["kernel_axes"] == ["out", "in"]
    rows = checkpoint["project.weight"].shape
    assert rows == ((5, 2) if axes == ["out", "in"] else (2, 5))


def test_an_lstm_s_gates_are_in_onnx_s_order():
    """i o f g, where torch has i f g o: the same rows in another order."""
    source, checkpoint = golden_arrays("onnx.npz"), opened("torch_folded")

    i, f, g, o = np.split(source["torch/memory.weight_ih_l0"], 4)
    np.testing.assert_array_equal(checkpoint.read("memory.W")[0], np.concatenate([i, o, f, g]))
    assert facts_of(checkpoint, "memory")["gate_order"] == "iofc"
    assert facts_of(checkpoint, "gru")["reset_after"] is True


def test_a_folded_batch_norm_is_told():
    """Its name is gone, its numbers are in the convolution."""
    checkpoint = opened("torch_folded")

    assert facts_of(checkpoint, "stem")["folded_batch_norm"] is True
    assert "batch-norm was folded" in checkpoint["stem.weight"].note


def test_a_kept_batch_norm_has_its_facts_and_comes_after_its_convolution():
    """In the order of the graph."""
    checkpoint = opened("torch_unfolded")

    assert facts_of(checkpoint, "stem_norm") == {"eps": 2e-3, "momentum": 0.9}
    assert list(checkpoint)[:3] == ["stem.weight", "stem_norm.weight", "stem_norm.bias"]
    assert [checkpoint[f"stem_norm.{leaf}"].leaf for leaf in ("running_mean", "running_var")] == [
        "running_mean", "running_var",
    ]  # fmt: skip
    stem = facts_of(checkpoint, "stem")
    assert (stem["padding"], stem["strides"], stem["groups"]) == ([[1, 1], [1, 1]], [2, 2], 1)


def test_the_order_of_a_flattened_map_is_told():
    """ONNX maps are channels-first, but tf2onnx turns them before the dense layer."""
    assert facts_of(opened("torch_folded"), "hidden")["flatten_order"] == "channels_first"
    dense = facts_of(opened("tf2onnx"), "functional_1/logits_1")
    assert (dense["flatten_order"], dense["flatten_channels"], dense["kernel_axes"]) == (
        "channels_last",
        6,
        ["in", "out"],
    )


def test_tf2onnx_layers_are_named_after_what_their_weights_share():
    """functional_1/stem_1 for convolution/ReadVariableOp:0 and Squeeze:0; values turned from HWIO to OIHW."""
    source, checkpoint = golden_arrays("onnx.npz"), opened("tf2onnx")

    weights = {info.layer: name for name, info in checkpoint.items() if info.leaf == "weight"}

    assert list(weights) == ["functional_1/stem_1", "functional_1/depthwise_1", "functional_1/logits_1"]
    np.testing.assert_array_equal(
        checkpoint.read(weights["functional_1/stem_1"]), source["keras/stem/kernel"].transpose(3, 2, 0, 1)
    )
    np.testing.assert_array_equal(checkpoint.read(weights["functional_1/logits_1"]), source["keras/logits/kernel"])


def test_numbers_of_the_graph_are_no_weights():
    """Shapes and the zeros that an LSTM starts from."""
    checkpoint = opened("torch_dynamo")

    assert {info.role for name, info in checkpoint.items() if name.startswith("val_")} == {"constant"}
    assert {info.role for name, info in checkpoint.items() if not name.startswith("val_")} == {"weight"}


def test_external_data_belongs_to_the_checkpoint():
    """For the provenance."""
    assert [path.name for path in opened("torch_external").files] == ["torch_external.onnx", "torch_external.data"]


def test_a_model_without_tensors_is_refused(tmp_path):
    """Weights as inputs cannot be read."""
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx")

    with pytest.raises(CheckpointError, match="holds no tensors"):
        Onnx().open(tmp_path / "m.onnx")


@needs_shared
def test_the_mnist_networks_of_both_exporters_hold_the_same_weights():
    """One by MatMul and Add, one by Gemm; equal after the transposition that the axes tell."""
    by_torch = Onnx().open(MNIST / "onnx" / "mnist10_torch.onnx")
    by_tf = Onnx().open(MNIST / "onnx" / "mnist10_tf2onnx.onnx")

    assert len(by_torch) == len(by_tf) == 12
    for one, other in zip(by_torch, by_tf, strict=True):
        assert by_torch[one].leaf == by_tf[other].leaf
        values = by_tf.read(other)
        np.testing.assert_array_equal(by_torch.read(one), values.T if by_tf[other].leaf == "weight" else values)


@needs_shared
def test_the_dtln_lstms_read_in_order():
    """A model of onnxmltools, with cropping numbers that are no weights."""
    checkpoint = Onnx().open(CHECKPOINTS / "public" / "dtln_lstm" / "model_1.onnx")

    weights = [name for name, info in checkpoint.items() if info.role == "weight"]

    assert weights == [
        "lstm_4_W", "lstm_4_R", "lstm_4_B", "lstm_5_W", "lstm_5_R", "lstm_5_B", "dense_2/kernel:0", "dense_2/bias:0",
    ]  # fmt: skip
    assert checkpoint["lstm_4_W"].layer == "lstm_4"


def test_a_convolution_with_an_odd_number_of_pads_is_refused(tmp_path):
    model = onnx.load(GOLDEN / "torch_folded.onnx")
    (pads,) = (one for one in model.graph.node[0].attribute if one.name == "pads")
    pads.ints.append(1)
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())

    with pytest.raises(CheckpointError, match=r"odd\.onnx: the node .* has 5 pads, expected two"):
        Onnx().open(tmp_path / "odd.onnx")


def graph_of(folder, nodes, **tensors):
    """A model of these nodes and initializers."""
    inits = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], inits)), folder / "m.onnx")
    return Onnx().open(folder / "m.onnx")


@pytest.mark.parametrize("computed", [False, True])
def test_merging_the_heads_of_an_attention_is_no_flattened_map(tmp_path, computed):
    """Tokens stay apart: (n, heads, t, d) → (n, t, heads · d), whether the sizes are known or not."""
    make = helper.make_node
    nodes = [
        make("MatMul", ["x", "scores"], ["values"], name="values"),
        make("Transpose", ["values"], ["turned"], perm=[0, 2, 1, 3]),
        make("Concat", ["n", "t", "d"], ["merged"], axis=0) if computed else make("Identity", ["sizes"], ["merged"]),
        make("Reshape", ["turned", "merged"], ["flat"]), make("MatMul", ["flat", "k"], ["y"], name="proj"),
    ]  # fmt: skip
    sizes = {"t": np.array([-1]), "d": np.array([4])} if computed else {"sizes": np.array([2, -1, 4])}

    checkpoint = graph_of(tmp_path, nodes, scores=np.eye(4, dtype="f"), k=np.eye(4, dtype="f"), **sizes)

    assert "flatten_order" not in facts_of(checkpoint, "proj")


@pytest.mark.parametrize(("perm", "order", "axes"), [
    ([0, 2, 3, 1], "channels_last", None), ([0, 1, 2, 3], "channels_first", None),
    ([0, 3, 2, 1], "permuted", ["w", "h", "c"]), ([0, 2, 1, 3], "permuted", ["h", "c", "w"]),
    ([0, 1, 3, 2], "permuted", ["c", "w", "h"]), ([1, 0, 2, 3], "permuted", None),
])  # fmt: skip
def test_a_transposed_map_that_is_flattened_has_the_order_of_its_axes(tmp_path, perm, order, axes):
    """In all orders; where the batch is moved too, nothing is said of the axes."""
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "c"], ["m"], name="conv"), make("Transpose", ["m"], ["t"], perm=perm),
        make("Flatten", ["t"], ["f"]), make("Gemm", ["f", "k"], ["y"], name="fc"),
    ]  # fmt: skip

    facts = facts_of(graph_of(tmp_path, nodes, c=np.ones((2, 3, 1, 1), "f"), k=np.ones((8, 4), "f")), "fc")

    assert (facts["flatten_order"], facts.get("flatten_axes")) == (order, axes)
