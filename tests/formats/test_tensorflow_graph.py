"""The layers of TensorFlow graphs, written node by node."""

from struct import pack

import numpy as np
import pytest

import graphs
from graphs import constant, graph_bytes, padded_network
from regraft.formats.tensorflow_graph import graph_facts
from written import field, varint


def attribute(name, value):
    return field(5, field(1, name.encode()) + field(2, value))


def integers(*numbers):
    return field(1, field(3, b"".join(map(varint, numbers))))


def node(name, op, *inputs, **attributes):
    told = field(1, name.encode()) + field(2, op.encode()) + b"".join(field(3, one.encode()) for one in inputs)
    return field(1, told + b"".join(attribute(key, value) for key, value in attributes.items()))


def facts(folder, names, *nodes):
    """The facts of a .meta of these nodes."""
    (folder / "m.meta").write_bytes(field(2, b"".join(nodes)))
    found = graph_facts(folder / "m.meta", names)
    wiring = ("inputs", "operation")
    needs = {(one.layer, one.attribute): one.value for one in found.requirements if one.attribute not in wiring}
    return found.layer_types, needs


VARIABLE = [node("c/w", "VariableV2"), node("c/w/read", "Identity", "c/w")]


def test_explicit_padding_and_channels_first(tmp_path):
    """NCHW keeps its space behind the channels."""
    conv = node(
        "c/Conv2D", "Conv2D", "x", "c/w/read", padding=field(2, b"EXPLICIT"), data_format=field(2, b"NCHW"),
        strides=integers(1, 1, 2, 3), dilations=integers(1, 1, 4, 5),
        explicit_paddings=integers(0, 0, 0, 0, 1, 2, 3, 4),
    )  # fmt: skip

    types, told = facts(tmp_path, {"c/w"}, *VARIABLE, conv)

    assert types == {"c/w": "Conv2D"}
    assert told == {("c", "padding"): [[1, 2], [3, 4]], ("c", "strides"): [2, 3], ("c", "dilation"): [4, 5]}


def test_gradients_ask_for_nothing(tmp_path):
    """A convolution's gradient takes the same kernel; a transposed convolution is the same operation."""
    backward = {"padding": field(2, b"VALID"), "strides": integers(1, 2, 2, 1)}
    gradient = node("gradients/c/grad", "Conv2DBackpropInput", "s", "c/w/read", "x", **backward)
    transposed = node("c/up", "Conv2DBackpropInput", "s", "c/w/read", "x", **backward)

    assert facts(tmp_path, {"c/w"}, *VARIABLE, gradient) == ({}, {})
    types, told = facts(tmp_path, {"c/w"}, *VARIABLE, transposed)
    assert types == {"c/w": "Conv2DTranspose"}
    assert told["c", "strides"] == [2, 2]


def test_an_unfused_batch_norm_tells_its_eps(tmp_path):
    """rsqrt(variance + eps), eps a constant."""
    eps = node("n/eps", "Const", value=field(8, field(5, pack("<f", 0.003))))
    nodes = [
        node("n/v", "VarHandleOp"), node("n/v/Read", "ReadVariableOp", "n/v"), eps,
        node("n/add", "AddV2", "n/v/Read", "n/eps"), node("n/Rsqrt", "Rsqrt", "n/add"),
    ]  # fmt: skip

    types, told = facts(tmp_path, {"n/v"}, *nodes)

    assert types == {"n/v": "BatchNormalization"}
    assert told == {("n", "eps"): 0.003}


def test_a_bias_belongs_to_the_layer_before_it(tmp_path):
    """Through the product."""
    nodes = [
        *VARIABLE, node("c/b", "VariableV2"), node("c/b/read", "Identity", "c/b"),
        node("c/MatMul", "MatMul", "x", "c/w/read"), node("c/BiasAdd", "BiasAdd", "c/MatMul", "c/b/read"),
    ]  # fmt: skip

    assert facts(tmp_path, {"c/w", "c/b"}, *nodes)[0] == {"c/w": "Dense", "c/b": "Dense"}


def test_variables_that_the_checkpoint_lacks_are_not_told(tmp_path):
    """The graph may hold more than was saved."""
    assert facts(tmp_path, set(), *VARIABLE, node("c/MatMul", "MatMul", "x", "c/w/read")) == ({}, {})


def test_circles_of_nodes_end(tmp_path):
    """A forged graph does not hang."""
    nodes = [node("a", "Identity", "b"), node("b", "Identity", "a"), node("m", "MatMul", "a", "b")]

    assert facts(tmp_path, {"a"}, *nodes) == ({}, {})


def test_a_graph_that_is_missing_or_damaged_tells_nothing(tmp_path):
    """A damaged one is said."""
    assert graph_facts(tmp_path / "no.meta", {"w"}).notes == ()
    (tmp_path / "m.meta").write_bytes(b"\x12\xff")

    found = graph_facts(tmp_path / "m.meta", {"w"})

    assert found.layer_types == {}
    assert "m.meta is damaged" in found.notes[0]


def test_zeros_around_a_map_are_the_convolution_s_padding(tmp_path):
    """Keras' ZeroPadding2D, and slim's conv2d_same: a Pad, then a convolution that pads nothing."""
    (tmp_path / "m.meta").write_bytes(
        field(2, graph_bytes(*padded_network(np.ones((3, 3, 3, 4), "f"), np.ones(4, "f"), np.ones((4, 5), "f"))))
    )

    found = graph_facts(tmp_path / "m.meta", {"conv/kernel", "conv/bias", "fc/kernel"})

    needs = {(one.layer, one.attribute): one.value for one in found.requirements}
    assert (needs["conv", "padding"], needs["conv", "padding_layer"]) == ([[1, 1], [1, 1]], "pad")
    assert {layer: value for (layer, attribute), value in needs.items() if attribute == "inputs"} == {
        "pad": [""], "conv": ["pad"], "relu": ["conv"], "mean": ["relu"], "fc": ["mean"],
    }  # fmt: skip
    assert needs["mean", "operation"] == "GlobalAveragePooling2D"


@pytest.mark.parametrize(("op", "sides", "more", "padding"), [
    ("PadV2", [[0, 0], [1, 2], [3, 4], [0, 0]], 0.0, [[1, 2], [3, 4]]),
    ("PadV2", [[0, 0], [1, 2], [3, 4], [0, 0]], 1.0, "computed by the graph"),
    ("MirrorPad", [[0, 0], [1, 1], [1, 1], [0, 0]], None, "reflect of [[1, 1], [1, 1]]"),
])  # fmt: skip
def test_paddings_of_every_kind_have_a_value(tmp_path, op, sides, more, padding):
    """Zeros as numbers, everything else as words that no layer of a model has."""
    value = [] if more is None else [constant("v", np.float32(more))]
    nodes = [
        graphs.node("x", "Placeholder"), constant("s", np.array(sides, np.int32)), *value,
        graphs.node("p", op, "x", "s", *(["v"] if value else []), mode="REFLECT"),
        constant("c/k", np.ones((3, 3, 1, 1), "f")),
        graphs.node("c/Conv2D", "Conv2D", "p", "c/k", padding="VALID", strides=[1, 1, 1, 1]),
    ]  # fmt: skip
    (tmp_path / "m.meta").write_bytes(field(2, graph_bytes(*nodes)))

    needs = {(one.layer, one.attribute): one.value for one in graph_facts(tmp_path / "m.meta", {"c/k"}).requirements}

    assert needs["c", "padding"] == padding


def test_a_convolution_with_holes_in_pieces_has_its_dilation(tmp_path):
    """TF1 cuts the map into batches, convolves, and puts it together: SAME is pads without crops."""
    nodes = [
        graphs.node("x", "Placeholder"), constant("b", np.array([2, 2], np.int32)),
        constant("p", np.array([[2, 3], [2, 2]], np.int32)), constant("q", np.array([[0, 1], [0, 0]], np.int32)),
        constant("c/k", np.ones((3, 3, 1, 1), "f")), graphs.node("s", "SpaceToBatchND", "x", "b", "p"),
        graphs.node("c/Conv2D", "Conv2D", "s", "c/k", padding="VALID", strides=[1, 1, 1, 1]),
        graphs.node("y", "BatchToSpaceND", "c/Conv2D", "b", "q"),
    ]  # fmt: skip
    (tmp_path / "m.meta").write_bytes(field(2, graph_bytes(*nodes)))

    needs = {(one.layer, one.attribute): one.value for one in graph_facts(tmp_path / "m.meta", {"c/k"}).requirements}

    assert (needs["c", "dilation"], needs["c", "padding"]) == ([2, 2], [[2, 2], [2, 2]])


LINE = [
    *VARIABLE,
    node("c/b", "VariableV2"),
    node("c/b/read", "Identity", "c/b"),
    node("c/ExpandDims", "ExpandDims", "x", "one"),
    node(
        "c/Conv2D", "Conv2D", "c/ExpandDims", "c/w/read", padding=field(2, b"VALID"), strides=integers(1, 1, 2, 1),
        dilations=integers(1, 1, 3, 1),
    ),
    node("c/Squeeze", "Squeeze", "c/Conv2D", squeeze_dims=integers(1)),
    node("c/BiasAdd", "BiasAdd", "c/Squeeze", "c/b/read"),
]  # fmt: skip


def test_a_convolution_along_one_axis_has_one_stride_and_its_bias(tmp_path):
    """TensorFlow writes it as one over two axes, of which the first has the size 1."""
    types, told = facts(tmp_path, {"c/w", "c/b"}, *LINE)

    assert types == {"c/w": "Conv2D", "c/b": "Conv2D"}
    assert (told["c", "strides"], told["c", "dilation"]) == ([2], [3])


def test_a_product_behind_a_flattened_map_records_its_order(tmp_path):
    dense = [node("d/w", "VariableV2"), node("d/w/read", "Identity", "d/w"),
             node("flat", "Reshape", "c/BiasAdd", "sizes"), node("d/MatMul", "MatMul", "flat", "d/w/read")]  # fmt: skip

    _, told = facts(tmp_path, {"c/w", "c/b", "d/w"}, *LINE, *dense)

    assert told["d", "flatten_order"] == "channels_last"
