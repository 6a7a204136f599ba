"""ONNX operators that hold weights, as layers of torch under the names of the file.

Source: onnx/onnx, docs/Operators.md.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

from regraft.formats.onnx_graph import OnnxLayer
from regraft.formats.onnx_nodes import OnnxNode
from regraft.formats.onnx_padding import own_padding
from regraft.networks.drafting import UnsupportedError
from regraft.networks.network import Array, Input
from regraft.networks.onnx_maps import MAPS
from regraft.networks.onnx_numbers import NUMBERS
from regraft.networks.onnx_shapes import SHAPES
from regraft.networks.onnx_translation import Translate, Translation
from regraft.operations.moves import Reshape, Transpose

_COMPUTED = "its weights are computed as the network runs"


def _weight(translation: Translation, node: OnnxNode, index: int) -> Array:
    """An input that must be an array of the file."""
    array = translation.weight(node.input(index))
    if array is None:
        raise UnsupportedError(_COMPUTED)
    return array


def _turned(array: Array) -> Array:
    """A matrix transposed; twice is not at all."""
    exchange = Transpose((1, 0))
    if array.operations and array.operations[-1] == exchange:
        return Array(array.sources, array.operations[:-1])
    return Array(array.sources, (*array.operations, exchange))


def as_vector(translation: Translation, array: Array, count: int) -> Array | None:
    """The array as a vector of so many numbers; None when it has another number of them."""
    shape = translation.shape(array)
    if prod(shape) != count:
        return None
    return array if shape == (count,) else Array(array.sources, (*array.operations, Reshape((count,))))


def _bias_after(translation: Translation, node: OnnxNode, count: int) -> tuple[Array | None, str]:
    """(the vector that an Add after the node holds, the Add's output), which is then part of the layer.

    (None, the node's own output) when there is none, or when the node's own output is used elsewhere too.
    """
    output, layer = node.outputs[0], translation.layers.get(node.outputs[0])
    add = translation.only_user(node)
    if layer is None or "bias" not in layer.weights or add is None or add.operator != "Add":
        return None, output
    other = next((name for name in add.inputs if name != output), "")
    array = translation.weight(other)
    bias = None if array is None or not _adds_along(translation, node, array) else as_vector(translation, array, count)
    if bias is None:
        return None, output
    translation.absorbed.add(id(add))
    translation.dtypes.setdefault(add.outputs[0], translation.dtype(node.input(0)))
    return bias, add.outputs[0]


def _adds_along(translation: Translation, node: OnnxNode, array: Array) -> bool:
    """Whether an array is added along the channels: its one long axis is that of the channels, counted from the end."""
    shape = translation.shape(array)
    place = 1 if node.operator == "MatMul" else len(translation.shape(_weight(translation, node, 1))) - 1
    long = [len(shape) - axis for axis, size in enumerate(shape) if size != 1]
    return long in ([], [place])


# --- convolutions and products ----------------------------------------------------------------------------------------


def _window(translation: Translation, node: OnnxNode, rank: int) -> dict[str, Any]:
    graph, ones = translation.graph, (1,) * rank
    return {
        "stride": tuple(graph.integers(node, "strides")) or ones,
        "dilation": tuple(graph.integers(node, "dilations")) or ones,
        "groups": graph.integer(node, "group", 1),
    }


def _conv(translation: Translation, node: OnnxNode) -> None:
    weight = _weight(translation, node, 1)
    shape = translation.shape(weight)
    rank = len(shape) - 2
    padding = own_padding(translation.graph, node, rank)
    settings = {
        **_window(translation, node, rank), "kernel": shape[2:],
        "padding": padding if isinstance(padding, str) else tuple(map(tuple, padding)),
    }  # fmt: skip
    arrays, output = _with_bias(translation, node, weight, shape[0])
    _layer(translation, node, "conv", [translation.value(node.input(0))], [output], arrays, settings)


def _with_bias(translation: Translation, node: OnnxNode, weight: Array, count: int) -> tuple[dict[str, Array], str]:
    """(the arrays of a layer with its bias, an input of the node or added behind it; the name of its output)."""
    if node.input(2):
        return {"weight": weight, "bias": _weight(translation, node, 2)}, node.outputs[0]
    bias, output = _bias_after(translation, node, count)
    return {"weight": weight} | ({"bias": bias} if bias is not None else {}), output


def _conv_transpose(translation: Translation, node: OnnxNode) -> None:
    weight = _weight(translation, node, 1)
    shape, graph = translation.shape(weight), translation.graph
    rank = len(shape) - 2
    settings = _window(translation, node, rank)
    extra = tuple(graph.integers(node, "output_padding")) or (0,) * rank
    settings |= {
        "kernel": shape[2:],
        "output_padding": extra,
        "padding": _cut(translation, node, settings, extra, shape),
    }
    arrays, output = _with_bias(translation, node, weight, shape[1] * settings["groups"])
    _layer(translation, node, "conv_transpose", [translation.value(node.input(0))], [output], arrays, settings)


def _cut(
    translation: Translation,
    node: OnnxNode,
    settings: Mapping[str, Any],
    extra: tuple[int, ...],
    shape: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """What is cut from the full output before and after each axis."""
    graph = translation.graph
    automatic = graph.text(node, "auto_pad", "NOTSET")
    if graph.integers(node, "output_shape"):
        raise UnsupportedError("it names the size of its output")
    if not automatic.startswith("SAME"):
        pads = graph.integers(node, "pads") or [0] * (2 * len(extra))
        return tuple(zip(pads[: len(extra)], pads[len(extra) :], strict=True))
    cuts = []
    for kernel, stride, dilation, more in zip(shape[2:], settings["stride"], settings["dilation"], extra, strict=True):
        whole = max((kernel - 1) * dilation + 1 + more - stride, 0)
        less = whole // 2
        cuts.append((less, whole - less) if automatic == "SAME_UPPER" else (whole - less, less))
    return tuple(cuts)


def _matmul(translation: Translation, node: OnnxNode) -> None:
    weight = translation.weight(node.input(1))
    is_layer = weight is not None and len(translation.shape(weight)) == 2 and translation.array(node.input(0)) is None
    if weight is None or not is_layer:
        MAPS["MatMul"](translation, node)
        return
    bias, output = _bias_after(translation, node, translation.shape(weight)[1])
    arrays = {"weight": _turned(weight)} | ({"bias": bias} if bias is not None else {})
    _layer(translation, node, "linear", [translation.value(node.input(0))], [output], arrays, {})


def _gemm(translation: Translation, node: OnnxNode) -> None:
    graph = translation.graph
    weight, output = translation.weight(node.input(1)), node.outputs[0]
    factors = [graph.real(node, name, 1.0) for name in ("alpha", "beta")]
    is_plain = factors == [1.0, 1.0] and not graph.integer(node, "transA", 0)
    if weight is None or not is_plain or translation.array(node.input(0)) is not None:
        MAPS["Gemm"](translation, node)
        return
    weight = weight if graph.integer(node, "transB", 0) else _turned(weight)
    added = translation.weight(node.input(2)) if node.input(2) else None
    bias = None if added is None else as_vector(translation, added, translation.shape(weight)[0])
    arrays = {"weight": weight} | ({"bias": bias} if bias is not None else {})
    is_whole = bias is not None or not node.input(2)
    given = output if is_whole else f"{output}#product"
    _layer(translation, node, "linear", [translation.value(node.input(0))], [given], arrays, {})
    if not is_whole:
        translation.emit("add", [given, translation.value(node.input(2))], [output])


# --- norms ------------------------------------------------------------------------------------------------------------


def _batch_norm(translation: Translation, node: OnnxNode) -> None:
    graph = translation.graph
    if graph.integer(node, "training_mode", 0):
        raise UnsupportedError("it is in training mode")
    roles = ("weight", "bias", "running_mean", "running_var")
    arrays = {role: _weight(translation, node, index) for index, role in enumerate(roles, 1)}
    settings = {
        "eps": graph.real(node, "epsilon", 1e-5), "axis": 1,
        "momentum": round(1 - graph.real(node, "momentum", 0.9), 9),
    }  # fmt: skip
    _layer(translation, node, "batch_norm", [translation.value(node.input(0))], node.outputs[:1], arrays, settings)


def _affine(translation: Translation, node: OnnxNode) -> dict[str, Array]:
    arrays = {"weight": _weight(translation, node, 1)}
    return arrays | ({"bias": _weight(translation, node, 2)} if node.input(2) else {})


def _layer_norm(translation: Translation, node: OnnxNode) -> None:
    """Over the last axes, as many as the weight has."""
    if any(node.outputs[1:]) and any(name in translation.graph.consumers for name in node.outputs[1:]):
        raise UnsupportedError("its mean or its deviation is used")
    arrays = _affine(translation, node)
    rank = len(translation.shape(arrays["weight"]))
    axis = translation.graph.integer(node, "axis", -1)
    if axis < 0 and -axis != rank:
        raise UnsupportedError(f"it is over {-axis} axes, its weight has {rank}")
    kind = "rms_norm" if node.operator in ("RMSNormalization", "SimplifiedLayerNormalization") else "layer_norm"
    settings = {"eps": translation.graph.real(node, "epsilon", 1e-5), "axes": tuple(range(-rank, 0))}
    _layer(translation, node, kind, [translation.value(node.input(0))], node.outputs[:1], arrays, settings)


def _instance_norm(translation: Translation, node: OnnxNode) -> None:
    if _grouped(translation, node):
        return
    settings = {"eps": translation.graph.real(node, "epsilon", 1e-5), "axis": 1}
    arrays = _affine(translation, node)
    _layer(translation, node, "instance_norm", [translation.value(node.input(0))], node.outputs, arrays, settings)


def _group_norm(translation: Translation, node: OnnxNode) -> None:
    groups, arrays = translation.graph.integer(node, "num_groups", 1), _affine(translation, node)
    if translation.opset < 21 and translation.shape(arrays["weight"])[0] == groups:
        raise UnsupportedError("it has one scale for each group, as before opset 21")
    settings = {"eps": translation.graph.real(node, "epsilon", 1e-5), "groups": groups, "axis": 1}
    _layer(translation, node, "group_norm", [translation.value(node.input(0))], node.outputs, arrays, settings)


def _grouped(translation: Translation, node: OnnxNode) -> bool:
    """The group norm that torch's exporters write as Reshape, InstanceNormalization, Reshape, Mul, Add."""
    before, after = translation.graph.before(node, operator="Reshape"), translation.only_user(node)
    groups = _plain_groups(translation, node)
    if before is None or after is None or after.operator != "Reshape" or not groups:
        return False
    if translation.integers(before.input(1)) != [0, groups, -1]:
        return False
    scaled = _scale_and_shift(translation, after)
    arrays = _affine_of(translation, node, scaled)
    if not arrays or not _goes_back(translation, before, after, translation.shape(arrays["weight"])[0]):
        return False
    translation.absorbed.update(id(other) for other in (after, *scaled.nodes))
    settings = {"eps": translation.graph.real(node, "epsilon", 1e-5), "groups": groups, "axis": 1}
    x = translation.value(before.input(0))
    _layer(translation, node, "group_norm", [x], [scaled.output], arrays, settings)
    return True


def _plain_groups(translation: Translation, node: OnnxNode) -> int:
    """The number of groups of a norm without scale and shift, which are all 1 and all 0; 0 for others."""
    scale, shift = (translation.constant(node.input(index)) for index in (1, 2))
    if scale is None or shift is None or (scale != 1).any() or (shift != 0).any():
        return 0
    return int(scale.size)


def _affine_of(translation: Translation, node: OnnxNode, scaled: "_Scaled") -> dict[str, Array]:
    """The scale and shift behind a norm as vectors, one number for each channel; none when they are no such."""
    layer = translation.layers.get(node.outputs[0])
    if layer is None or "weight" not in layer.weights or "weight" not in scaled.arrays:
        return {}
    count = prod(translation.shape(Array((translation.names[layer.weights["weight"]],))))
    vectors = {role: as_vector(translation, array, count) for role, array in scaled.arrays.items()}
    known = {role: array for role, array in vectors.items() if array is not None}
    return known if len(known) == len(vectors) else {}


def _goes_back(translation: Translation, before: OnnxNode, after: OnnxNode, channels: int) -> bool:
    """Whether the second Reshape gives the shape that the first one took."""
    sizes, producer = translation.integers(after.input(1)), translation.graph.producers.get(after.input(1))
    if producer is not None and producer.operator == "Shape":
        return producer.input(0) == before.input(0)
    return sizes is not None and len(sizes) > 2 and sizes[1] == channels


class _Scaled:
    """The nodes that scale and shift what a node gives, their arrays, and what the last of them gives."""

    def __init__(self, output: str) -> None:
        self.output, self.nodes, self.arrays = output, list[OnnxNode](), dict[str, Array]()


def _scale_and_shift(translation: Translation, node: OnnxNode) -> _Scaled:
    """Mul by an array, then Add of one, each the only use of what comes before."""
    scaled, current = _Scaled(node.outputs[0]), node
    for operator, role in (("Mul", "weight"), ("Add", "bias")):
        user = translation.only_user(current)
        if user is None or user.operator != operator:
            break
        other = next((name for name in user.inputs if name != current.outputs[0]), "")
        array = translation.weight(other) if other else None
        if array is None:
            break
        scaled.arrays[role], scaled.output, current = array, user.outputs[0], user
        scaled.nodes.append(user)
    return scaled


def _divide(translation: Translation, node: OnnxNode) -> None:
    """A division, or the layer norm that ends in it: (x - mean) / sqrt(mean((x - mean)²) + eps) · weight + bias."""
    layer = translation.layers.get(node.outputs[0])
    if layer is None or layer.node.operator != "LayerNormalization" or not _unfused(translation, node, layer):
        NUMBERS["Div"](translation, node)


def _unfused(translation: Translation, node: OnnxNode, layer: OnnxLayer) -> bool:
    """Write a layer norm for the nodes that compute it; False when they compute something else."""
    graph = translation.graph
    centred, root = graph.before(node, operator="Sub"), graph.before(node, 1, operator="Sqrt")
    mean = graph.before(centred, 1, operator="ReduceMean")
    total = graph.before(root, operator="Add")
    if centred is None or mean is None or total is None or mean.input(0) != centred.input(0):
        return False
    variance = graph.before(total, operator="ReduceMean") or graph.before(total, 1, operator="ReduceMean")
    if variance is None or not _is_square_of(translation, graph.before(variance), centred):
        return False
    scaled = _scale_and_shift(translation, node)
    shapes = {len(translation.shape(array)) for array in scaled.arrays.values()}
    if not all(_over_last(translation, other) for other in (mean, variance)) or shapes != {1}:
        return False
    if "weight" not in scaled.arrays:
        return False
    translation.absorbed.update(map(id, scaled.nodes))
    settings = {"eps": layer.facts["eps"], "axes": (-1,)}
    x = translation.value(centred.input(0))
    _layer(translation, node, "layer_norm", [x], [scaled.output], scaled.arrays, settings)
    return True


def _over_last(translation: Translation, mean: OnnxNode) -> bool:
    axes = translation.integers(mean.input(1)) if mean.input(1) else translation.graph.integers(mean, "axes")
    return axes == [-1] and translation.graph.integer(mean, "keepdims", 1) == 1


def _is_square_of(translation: Translation, node: OnnxNode | None, centred: OnnxNode) -> bool:
    """Whether a node gives the square of what another one gives."""
    value = centred.outputs[0]
    if node is None or node.input(0) != value:
        return False
    if node.operator == "Mul":
        return node.input(1) == value
    return node.operator == "Pow" and translation.number(node.input(1)) == 2


# --- others -----------------------------------------------------------------------------------------------------------


def _gather(translation: Translation, node: OnnxNode) -> None:
    """Rows of a table that was learned are an embedding."""
    table = translation.array(node.input(0))
    axis, indices = translation.graph.integer(node, "axis", 0), translation.value(node.input(1))
    is_table = table is not None and len(translation.shape(table)) == 2 and isinstance(indices, str)
    if table is None or not is_table or axis != 0 or translation.is_integer(node.input(0)):
        SHAPES["Gather"](translation, node)
    else:
        _layer(translation, node, "embedding", [indices], node.outputs, {"weight": table}, {})


def _prelu(translation: Translation, node: OnnxNode) -> None:
    """One slope, or one for each channel; slopes of another shape are steps."""
    slope = translation.weight(node.input(1))
    shape = () if slope is None else translation.shape(slope)
    long = [axis - len(shape) for axis, size in enumerate(shape) if size != 1]
    vector = None if slope is None or len(long) > 1 else as_vector(translation, slope, prod(shape))
    if vector is None:
        NUMBERS["PRelu"](translation, node)
        return
    settings: dict[str, Any] = {"axis": long[0]} if long else {}
    _layer(translation, node, "prelu", [translation.value(node.input(0))], node.outputs, {"weight": vector}, settings)


def _dropout(translation: Translation, node: OnnxNode) -> None:
    if any(name in translation.graph.consumers for name in node.outputs[1:]):
        raise UnsupportedError("its mask is used")
    share = translation.number(node.input(1)) if node.input(1) else translation.graph.real(node, "ratio", 0.5)
    if share is None:
        raise UnsupportedError("its share is computed as the network runs")
    _layer(translation, node, "dropout", [translation.value(node.input(0))], node.outputs[:1], {}, {"p": share})


def _layer(
    translation: Translation,
    node: OnnxNode,
    operator: str,
    inputs: list[Input],
    outputs: list[str],
    arrays: Mapping[str, Array],
    settings: Mapping[str, object],
) -> None:
    """Add a layer under its own name; nodes with the same arrays and settings are one layer."""
    name = translation.layer_name(node, operator, arrays, settings)
    translation.draft.emit(operator, inputs, outputs, name, arrays, settings)


LAYERS: Mapping[str, Translate] = {
    "Conv": _conv, "ConvTranspose": _conv_transpose, "MatMul": _matmul, "Gemm": _gemm,
    "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm, "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm, "RMSNormalization": _layer_norm, "SimplifiedLayerNormalization": _layer_norm,
    "Div": _divide, "Gather": _gather, "PRelu": _prelu, "Dropout": _dropout,
}  # fmt: skip
