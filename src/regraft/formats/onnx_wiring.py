"""Who feeds whom in an ONNX graph: between its layers, joins, poolings and activations; shapes and numbers are none."""

from collections.abc import Iterator
from math import prod

from regraft.arrays import Requirement
from regraft.formats.onnx_graph import Layer, used_as_number
from regraft.formats.onnx_nodes import Graph, Node, origin

# Operators whose first input alone is a map: the others are shapes, sizes, bounds.
_FIRST_ONLY = frozenset(
    {
        "Reshape", "Expand", "Slice", "Pad", "Resize", "Upsample", "Tile", "Unsqueeze", "Squeeze", "ReduceMean", "Clip",
        "Split", "Gather", "Dropout", "TopK", "LSTM", "GRU", "RNN", "PRelu", "BatchNormalization",
    }
)  # fmt: skip
_NO_MAPS = frozenset({"Shape", "Size", "Constant", "ConstantOfShape", "Range"})
_ACTIVATIONS = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hard_swish", "Selu": "selu", "Mish": "mish",
    "Softplus": "softplus", "Softmax": "softmax",
}  # fmt: skip
_MOST_PADS = 16  # numbers: two for each axis


def wiring(graph: Graph, layers: list[Layer]) -> Iterator[Requirement]:
    """For each layer the layers that feed it, `inputs` ("" is the graph's input), and what it does, `operation`.

    A node without weights is named by its first output.
    """
    by_output = {layer.node.outputs[0]: layer for layer in layers if layer.node.outputs}
    owners = {name: layer.name for layer in layers for name in layer.weights.values()}
    labels: dict[str, str] = dict.fromkeys(graph.inputs, "")
    taken = {layer.name for layer in layers}
    for node in graph.nodes:
        if not node.outputs or node.operator in _NO_MAPS:
            continue
        layer = by_output.get(node.outputs[0])
        feeding = [labels[name] for name in _maps(graph, node, layer) if name in labels]
        if not feeding:
            continue
        label = layer.name if layer is not None else _belongs_to(graph, node, owners)
        scale = "" if label else _scale(graph, node, owners)
        if scale and scale not in taken and scale not in labels.values():
            label = scale
        if not label:
            label = f"{node.outputs[0]} (value)" if node.outputs[0] in taken else node.outputs[0]
        labels.update(dict.fromkeys(node.outputs, label))
        if layer is None and label in taken:
            continue  # a bias or a norm's scale in a node of its own: the layer's
        yield Requirement(label, "inputs", feeding)
        yield Requirement(label, "operation", layer.node.operator if layer is not None else node.operator)
        if layer is None:
            yield from (Requirement(label, attribute, value) for attribute, value in _facts(graph, node).items())


def _maps(graph: Graph, node: Node, layer: Layer | None) -> list[str]:
    """The inputs of a node that may be maps; of a norm written out in nodes what it centres."""
    if layer is not None and layer.node.operator == "LayerNormalization" and node.operator == "Div":
        centred = graph.before(node)
        return centred.inputs[:1] if centred is not None else []
    if node.operator == "Gather" and layer is not None:
        return node.inputs[1:2]
    return node.inputs[:1] if node.operator in _FIRST_ONLY else node.inputs


def _belongs_to(graph: Graph, node: Node, owners: dict[str, str]) -> str:
    """The layer whose bias or scale this node adds or multiplies; "" for all other nodes."""
    if node.operator not in ("Add", "Mul"):
        return ""
    held = [name for one in node.inputs if (name := origin(graph, one)[0]) in graph.tensors]
    return next((owners[name] for name in held if name in owners), "")


def _scale(graph: Graph, node: Node, owners: dict[str, str]) -> str:
    """The name, without its leaf, of a vector of no layer that a node multiplies a map by; "" for all other nodes."""
    for one in node.inputs if node.operator == "Mul" else ():
        name = origin(graph, one)[0]
        tensor = graph.tensors.get(name)
        if tensor is None or name in owners or used_as_number(graph, name):
            continue
        if 1 < prod(tensor.shape) == max(tensor.shape):
            return name[: max(name.rfind("/"), name.rfind("."), 0)]
    return ""


def _facts(graph: Graph, node: Node) -> dict[str, object]:
    """What a node without weights does, where it is a pooling, a padding or an activation."""
    kind = node.operator
    if kind in ("MaxPool", "AveragePool"):
        return _pooling(graph, node)
    if kind == "Pad":
        return _padding(graph, node)
    if kind in ("LeakyRelu", "Elu"):
        name, usual = ("leaky_relu", 0.01) if kind == "LeakyRelu" else ("elu", 1.0)
        return {"activation": f"{name}({graph.real(node, 'alpha', usual):g})"}
    if kind == "Gelu":
        return {"activation": "gelu_tanh" if graph.text(node, "approximate") == "tanh" else "gelu"}
    if kind == "HardSigmoid":
        is_torchs = abs(graph.real(node, "alpha", 0.2) - 1 / 6) < 1e-4 and graph.real(node, "beta", 0.5) == 0.5
        return {"activation": "hard_sigmoid" if is_torchs else "hard_sigmoid of another slope"}
    if kind == "Clip":
        bounds = [graph.number(name) for name in node.inputs[1:3]]
        bounds = bounds or [graph.real(node, "min", -1.0), graph.real(node, "max", -1.0)]
        return {"activation": "relu6" if bounds == [0.0, 6.0] else "clip"}
    return {"activation": _ACTIVATIONS[kind]} if kind in _ACTIVATIONS else {}


def _pooling(graph: Graph, node: Node) -> dict[str, object]:
    """Window, strides, padding; nothing for windows with holes, which are another function."""
    size = graph.integers(node, "kernel_shape")
    if any(step != 1 for step in graph.integers(node, "dilations")):
        return {}
    pads = graph.integers(node, "pads") or [0] * (2 * len(size))
    automatic = graph.text(node, "auto_pad", "NOTSET")
    return {
        "pool": "max" if node.operator == "MaxPool" else "average",
        "pool_size": size,
        "strides": graph.integers(node, "strides") or [1] * len(size),
        "padding": {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}.get(
            automatic, [[low, high] for low, high in zip(pads[: len(size)], pads[len(size) :], strict=False)]
        ),
        "count_include_pad": graph.integer(node, "count_include_pad", 0) == 1,
        "ceil_mode": graph.integer(node, "ceil_mode", 0) == 1,
    }


def _padding(graph: Graph, node: Node) -> dict[str, object]:
    """The zeros around a map, where the file holds their numbers."""
    pads = graph.integers(node, "pads")
    tensor = graph.tensors.get(origin(graph, node.inputs[1])[0]) if not pads and len(node.inputs) > 1 else None
    if tensor is not None and tensor.dtype == "int64" and len(tensor.shape) == 1 and tensor.shape[0] <= _MOST_PADS:
        pads = [int(number) for number in tensor.read()]
    half = len(pads) // 2
    sides = [[low, high] for low, high in zip(pads[:half], pads[half:], strict=False)]
    is_zero = graph.text(node, "mode", "constant") == "constant" and len(node.inputs) < 3
    if not sides[2:] or sides[:2] != [[0, 0], [0, 0]] or not is_zero:
        return {}
    return {"pad": sides[2:]}
