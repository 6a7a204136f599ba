"""Which tensor of an ONNX graph is whose weight."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from golden_files import facts_of
from regraft.errors import CheckpointError
from regraft.formats.onnx import Onnx
from regraft.formats.onnx_graph import is_anonymous


def opened(folder, nodes, **tensors):
    """A model of these nodes and initializers."""
    inits = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], inits)), folder / "m.onnx")
    return Onnx().open(folder / "m.onnx")


@pytest.mark.parametrize(("name", "made_up"), [
    ("onnx::MatMul_12", True), ("12", True), ("val_3", True), ("const_fold_opt__9", True),
    ("/a/Constant_output_0", True),
    ("conv1.weight", False), ("W", False), ("dense/kernel:0", False), ("layer_12", False),
])  # fmt: skip
def test_made_up_names_are_known(name, made_up):
    """Those of torch's two exporters and of tf2onnx."""
    assert is_anonymous(name) is made_up


@pytest.mark.parametrize(("trans_b", "axes"), [(0, ["in", "out"]), (1, ["out", "in"])])
def test_gemm_s_transposition_decides_the_kernel_s_axes(tmp_path, trans_b, axes):
    """A square kernel's shape could not."""
    node = helper.make_node("Gemm", ["x", "k", "b"], ["y"], name="fc", transB=trans_b, alpha=0.5)

    checkpoint = opened(tmp_path, [node], k=np.eye(3, dtype="f"), b=np.ones(3, "f"))

    assert facts_of(checkpoint, "fc") == {"use_bias": True, "kernel_axes": axes, "alpha": 0.5}


def test_a_kernel_on_the_left_is_out_in(tmp_path):
    """W · x instead of x · W."""
    checkpoint = opened(tmp_path, [helper.make_node("MatMul", ["k", "x"], ["y"], name="fc")], k=np.eye(3, dtype="f"))

    assert facts_of(checkpoint, "fc")["kernel_axes"] == ["out", "in"]


def test_a_tied_embedding_belongs_to_the_first_layer_that_uses_it(tmp_path):
    """Listed once, as the embedding."""
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["e"], name="embed"),
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["e", "turned"], ["y"], name="head"),
    ]

    checkpoint = opened(tmp_path, nodes, table=np.ones((5, 3), "f"))

    assert {name: (info.layer, info.layer_type) for name, info in checkpoint.items()} == {"table": ("embed", "Gather")}


def test_weights_in_constant_nodes_are_found(tmp_path):
    """Some exporters write no initializers."""
    value = numpy_helper.from_array(np.ones((4, 2, 3, 3), "f"))
    nodes = [
        helper.make_node("Constant", [], ["k"], value=value),
        helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([1, -1]))),
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv", auto_pad="SAME_UPPER"),
        helper.make_node("Reshape", ["c", "shape"], ["y"]),
    ]

    checkpoint = opened(tmp_path, nodes)

    assert list(checkpoint) == ["k"]
    assert facts_of(checkpoint, "conv")["padding"] == "same"


def test_weights_inside_a_branch_are_found(tmp_path):
    """If and Loop hold graphs of their own."""
    inner = helper.make_graph(
        [helper.make_node("MatMul", ["x", "k"], ["y"], name="fc")], "then", [], [],
        [numpy_helper.from_array(np.ones((2, 3), "f"), "k")],
    )  # fmt: skip
    node = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=helper.make_graph([], "else", [], []))

    assert list(opened(tmp_path, [node])) == ["k"]


def test_two_tensors_of_one_name_are_refused(tmp_path):
    """One of them would be lost silently."""
    one = numpy_helper.from_array(np.ones(2, "f"), "k")
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], [one, one])), tmp_path / "m.onnx")

    with pytest.raises(CheckpointError, match="two tensors are named 'k'"):
        Onnx().open(tmp_path / "m.onnx")


def test_a_cycle_of_nodes_ends(tmp_path):
    """Invalid ONNX, and no reason to hang."""
    nodes = [
        helper.make_node("Identity", ["a"], ["b"]), helper.make_node("Identity", ["b"], ["a"]),
        helper.make_node("MatMul", ["a", "b"], ["y"]), helper.make_node("Relu", ["r"], ["r"]),
        helper.make_node("MatMul", ["r", "k"], ["z"], name="fc"),
    ]  # fmt: skip

    assert list(opened(tmp_path, nodes, k=np.ones((2, 2), "f"))) == ["k"]
