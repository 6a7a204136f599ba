"""Which tensor of an ONNX graph is whose weight."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from golden_files import GOLDEN, facts_of
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


def layer_norm(square, eps=1e-6, axes=(-1,)):
    """As exporters before opset 17 write it."""
    value = numpy_helper.from_array(np.array(eps, "f"))
    return [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=axes), helper.make_node("Sub", ["x", "m"], ["d"]),
        helper.make_node(square, ["d", "d" if square == "Mul" else "two"], ["p"]),
        helper.make_node("ReduceMean", ["p"], ["v"], axes=axes), helper.make_node("Constant", [], ["e"], value=value),
        helper.make_node("Add", ["v", "e"], ["a"]), helper.make_node("Sqrt", ["a"], ["s"]),
        helper.make_node("Div", ["d", "s"], ["n"]), helper.make_node("Mul", ["n", "ln.weight"], ["g"]),
        helper.make_node("Add", ["g", "ln.bias"], ["y"]),
    ]  # fmt: skip


@pytest.mark.parametrize("square", ["Pow", "Mul"])
def test_a_layer_norm_in_pieces_is_one_layer_with_its_eps(tmp_path, square):
    """Its eps is one of the graph's numbers."""
    tensors = {"ln.weight": np.ones(4, "f"), "ln.bias": np.zeros(4, "f"), "two": np.array(2, "f")}

    checkpoint = opened(tmp_path, layer_norm(square), **tensors)

    assert {name: (one.layer, one.leaf, one.layer_type) for name, one in checkpoint.items() if one.shape} == {
        "ln.weight": ("ln", "weight", "LayerNormalization"), "ln.bias": ("ln", "bias", "LayerNormalization"),
    }  # fmt: skip
    assert facts_of(checkpoint, "ln") == {"eps": float(np.float32(1e-6))}


def test_other_divisions_are_no_layer_norm(tmp_path):
    """Something else under the root, no difference above it, or a mean over the whole map."""
    nodes = layer_norm("Pow")
    tensors = {"ln.weight": np.ones(4, "f"), "ln.bias": np.zeros(4, "f"), "two": np.array(2, "f")}
    over_maps = opened(tmp_path, layer_norm("Pow", axes=(2, 3)), **tensors)
    assert {one.layer_type for one in over_maps.values()} == {""}
    for place in (1, 3, 5, 6):
        changed = list(nodes)
        old = nodes[place]
        changed[place] = helper.make_node("Max", list(old.input), list(old.output))
        checkpoint = opened(tmp_path, changed, **tensors)
        assert {one.layer_type for one in checkpoint.values()} == {""}


def test_a_recurrent_layer_that_the_graph_cuts_itself_keeps_torch_s_names_and_gates():
    """torch exports it so without constant folding: its own arrays, and nodes that reorder them."""
    checkpoint = Onnx().open(GOLDEN / "torch_unfolded.onnx")

    memory = [name for name, info in checkpoint.items() if info.layer == "memory"]
    assert memory == [f"memory.{kind}_{part}_l0" for kind in ("weight", "bias") for part in ("ih", "hh")]
    assert {checkpoint[name].layer_type for name in memory} == {"LSTM"}
    assert checkpoint["gru.bias_hh_l0"].leaf == "bias_hh_l0"
    assert (facts_of(checkpoint, "memory")["gate_order"], facts_of(checkpoint, "gru")["gate_order"]) == ("ifco", "rzh")
    assert facts_of(checkpoint, "memory")["use_bias"] is True


@pytest.mark.parametrize("groups", [2, 4], ids=["groups", "as many groups as channels"])
@pytest.mark.parametrize("unsqueezed", [False, True])
def test_a_group_norm_in_pieces_is_one_layer_with_its_own_weights(tmp_path, groups, unsqueezed):
    """torch's exporters write an instance norm with ones for it; those are nobody's weights."""
    weight = np.arange(4, dtype="f")
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["g"]),
        helper.make_node("InstanceNormalization", ["g", "ones", "zeros"], ["n"], epsilon=1e-3),
        helper.make_node("Reshape", ["n", "back"], ["r"]),
        helper.make_node("Unsqueeze", ["w", "axes"], ["u"]),
        helper.make_node("Mul", ["r", "u" if unsqueezed else "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]

    checkpoint = opened(
        tmp_path, nodes, ones=np.ones(groups, "f"), zeros=np.zeros(groups, "f"), b=weight.reshape(4, 1, 1),
        w=weight if unsqueezed else weight.reshape(4, 1, 1), shape=np.array([0, groups, -1]),
        back=np.array([2, 4, 5, 6]), axes=np.array([1, 2]),
    )  # fmt: skip

    layer = checkpoint["w"].layer
    assert (checkpoint["w"].leaf, checkpoint["b"].leaf, checkpoint["b"].layer) == ("weight", "bias", layer)
    assert facts_of(checkpoint, layer) == {"eps": 0.001, "groups": groups}
    assert checkpoint["ones"].role == checkpoint["zeros"].role == "constant"


def test_an_instance_norm_keeps_its_weights(tmp_path):
    """Without the reshapes around it."""
    node = helper.make_node("InstanceNormalization", ["x", "w", "b"], ["y"])

    checkpoint = opened(tmp_path, [node], w=np.ones(4, "f"), b=np.zeros(4, "f"))

    assert checkpoint["w"].layer_type == "InstanceNormalization"
    assert (checkpoint["w"].role, checkpoint["w"].leaf) == ("weight", "weight")


def test_a_node_without_outputs_has_a_name(tmp_path):
    """A damaged graph must not end in an error of Python's."""
    nodes = [helper.make_node("Gemm", ["x", "12"], []), helper.make_node("Gemm", ["x", "13"], [])]

    assert len({info.layer for info in opened(tmp_path, nodes, **{"12": np.eye(2), "13": np.eye(3)}).values()}) == 2


def test_a_recurrent_layer_s_direction_and_activations_are_told_in_the_plan_s_words(tmp_path):
    """Both change what the weights mean, and no array shows them."""
    node = helper.make_node("RNN", ["x", "W", "R"], ["y"], name="rnn", direction="reverse", activations=["Relu"])

    checkpoint = opened(tmp_path, [node], W=np.ones((1, 4, 3), "f"), R=np.ones((1, 4, 4), "f"))

    told = facts_of(checkpoint, checkpoint["W"].layer)
    assert (told["go_backwards"], told["activation"]) == (True, "relu")


def test_a_bias_behind_a_convolution_is_an_operator_of_its_own(tmp_path):
    """As tf2onnx and Paddle2ONNX write it: (1, c, 1, 1), also out of a Constant node and through a Reshape."""
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(4, 2, 3, 3)).astype("f"), rng.normal(size=4).astype("f")
    constant = helper.make_node("Constant", [], ["late"], value=numpy_helper.from_array(bias))
    shape = helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([1, -1, 1, 1])))
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="first"), helper.make_node("Add", ["c", "b"], ["d"]),
        constant, shape, helper.make_node("Reshape", ["late", "shape"], ["wide"]),
        helper.make_node("Conv", ["d", "k2"], ["e"], name="second"), helper.make_node("Add", ["wide", "e"], ["f"]),
        helper.make_node("Conv", ["f", "k3"], ["g"], name="third"), helper.make_node("Add", ["g", "f"], ["h"]),
    ]  # fmt: skip

    checkpoint = opened(
        tmp_path, nodes, k=kernel, b=bias.reshape(1, 4, 1, 1), k2=np.ones((4, 4, 1, 1), "f"),
        k3=np.ones((4, 4, 1, 1), "f"),
    )  # fmt: skip

    assert [(info.layer, info.leaf, info.shape) for info in checkpoint.values()] == [
        ("first", "weight", (4, 2, 3, 3)), ("first", "bias", (1, 4, 1, 1)), ("second", "weight", (4, 4, 1, 1)),
        ("second", "bias", (4,)), ("third", "weight", (4, 4, 1, 1)),
    ]  # fmt: skip
    assert [facts_of(checkpoint, name)["use_bias"] for name in ("first", "second", "third")] == [True, True, False]


def test_every_array_of_a_constant_node_has_a_row(tmp_path):
    """Behind a Slice or a Concat, too; numbers and lists of axes are settings of the nodes, not arrays."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=(8, 3)).astype("f"), "table": np.arange(40), "axes": np.array([0, 1])}
    nodes = [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(a)) for name, a in arrays.items()]
    nodes += [
        helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.array(0.5, "f"))),
        helper.make_node("Slice", ["w", "axes", "axes"], ["s"]), helper.make_node("MatMul", ["x", "s"], ["y"]),
        helper.make_node("Mul", ["y", "half"], ["z"]),
    ]  # fmt: skip

    checkpoint = opened(tmp_path, nodes)

    assert {name: info.role for name, info in checkpoint.items()} == {"w": "weight", "table": "constant"}
    np.testing.assert_array_equal(checkpoint.read("w"), arrays["w"], strict=True)
