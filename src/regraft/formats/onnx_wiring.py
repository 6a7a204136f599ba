"""Who feeds whom in an ONNX graph: between its layers, joins, poolings and activations; shapes and numbers are none."""

from collections.abc import Iterator
from math import prod

from regraft.arrays import Facts, Requirement, requirements_for
from regraft.formats.onnx_functions import function_facts
from regraft.formats.onnx_graph import OnnxLayer, reshaped_tensor, used_as_number
from regraft.formats.onnx_nodes import OnnxGraph, OnnxNode, origin
from regraft.formats.onnx_padding import own_padding, spatial_pads

# Operators whose first input alone is a map: the others are shapes, sizes, bounds.
_FIRST_ONLY = frozenset(
    {
        "Reshape", "Expand", "Slice", "Pad", "Resize", "Upsample", "Tile", "Unsqueeze", "Squeeze", "ReduceMean", "Clip",
        "ReduceMax", "ReduceSum", "ReduceMin", "ReduceL2",
        "Split", "Gather", "Dropout", "TopK", "LSTM", "GRU", "RNN", "PRelu", "BatchNormalization",
    }
)  # fmt: skip
_NO_MAPS = frozenset({"Shape", "Size", "Constant", "ConstantOfShape", "Range"})


def onnx_wiring(graph: OnnxGraph, layers: list[OnnxLayer]) -> Iterator[Requirement]:
    """For each layer the layers that feed it, `inputs` ("" is the graph's input), and its `operation`.

    A node without weights is named by its first output.
    """
    names = _Names(graph, layers)
    for node in graph.nodes:
        if not node.outputs or node.operator in _NO_MAPS:
            continue
        layer = names.layers.get(node.outputs[0])
        feeding = [names.labels[name] for name in _maps(graph, node, layer) if name in names.labels]
        if not feeding:
            continue
        label, is_part = names.name(node, layer)
        if is_part:
            continue
        yield Requirement(label, "inputs", feeding)
        yield Requirement(label, "operation", layer.node.operator if layer is not None else node.operator)
        if layer is None:
            yield from requirements_for(label, _facts(graph, node))


class _Names:
    """The name of what gives each value of the graph.

    labels  value → the layer or the node that gives it
    layers  first output of a node → the layer that it is
    """

    def __init__(self, graph: OnnxGraph, layers: list[OnnxLayer]) -> None:
        self.graph = graph
        self.layers = {layer.node.outputs[0]: layer for layer in layers if layer.node.outputs}
        self.labels: dict[str, str] = dict.fromkeys(graph.inputs, "")
        self._owners = {name: layer.name for layer in layers for name in layer.weights.values()}
        self._layer_names = {layer.name for layer in layers}
        self._used: set[str] = set()

    def name(self, node: OnnxNode, layer: OnnxLayer | None) -> tuple[str, bool]:
        """(the node's name, whether it only adds a layer's bias or multiplies by its scale, and is part of it)."""
        label = layer.name if layer is not None else self._owner(node)
        label = label or self._scale(node)
        if not label:
            output = node.outputs[0]
            label = f"{output} (value)" if output in self._layer_names else output
        self.labels.update(dict.fromkeys(node.outputs, label))
        self._used.add(label)
        return label, layer is None and label in self._layer_names

    def _owner(self, node: OnnxNode) -> str:
        """The layer whose bias or scale this node adds or multiplies; "" for all other nodes."""
        if node.operator not in ("Add", "Mul"):
            return ""
        held = (reshaped_tensor(self.graph, name) for name in node.inputs)
        return next((self._owners[name] for name in held if name in self._owners), "")

    def _scale(self, node: OnnxNode) -> str:
        """The name, without its leaf, of a vector of no layer that a node multiplies a map by; "" for other nodes."""
        for name in node.inputs if node.operator == "Mul" else ():
            held = origin(self.graph, name)[0]
            if held in self._owners or not self._is_vector(held):
                continue
            label = held[: max(held.rfind("/"), held.rfind("."), 0)]
            if label not in self._layer_names and label not in self._used:
                return label
        return ""

    def _is_vector(self, name: str) -> bool:
        """Whether a tensor of the file is a vector that was learned."""
        tensor = self.graph.tensors.get(name)
        if tensor is None or used_as_number(self.graph, name):
            return False
        return 1 < prod(tensor.shape) == max(tensor.shape)


def _maps(graph: OnnxGraph, node: OnnxNode, layer: OnnxLayer | None) -> list[str]:
    """The inputs of a node that may be maps; of a norm written out in nodes what it centres."""
    if layer is not None and layer.node.operator == "LayerNormalization" and node.operator == "Div":
        centred = graph.before(node)
        return centred.inputs[:1] if centred is not None else []
    if node.operator == "Gather" and layer is not None:
        return node.inputs[1:2]
    return node.inputs[:1] if node.operator in _FIRST_ONLY else node.inputs


def _facts(graph: OnnxGraph, node: OnnxNode) -> Facts:
    """What a node without weights does, where it is a pooling, a padding or an activation."""
    kind = node.operator
    if kind in ("MaxPool", "AveragePool"):
        return _pooling(graph, node)
    if kind == "Pad":
        sides = spatial_pads(graph, node) if graph.text(node, "mode", "constant") == "constant" else None
        return {"pad": sides} if sides else {}
    return function_facts(graph, node)


def _pooling(graph: OnnxGraph, node: OnnxNode) -> Facts:
    """Window, strides, padding; nothing for windows with holes, which are another function."""
    size = graph.integers(node, "kernel_shape")
    if any(step != 1 for step in graph.integers(node, "dilations")):
        return {"function": "max pooling with holes"} if node.operator == "MaxPool" else {}
    return {
        "pool": "max" if node.operator == "MaxPool" else "average",
        "pool_size": size,
        "strides": graph.integers(node, "strides") or [1] * len(size),
        "padding": own_padding(graph, node, len(size)),
        "count_include_pad": graph.integer(node, "count_include_pad", 0) == 1,
        "ceil_mode": graph.integer(node, "ceil_mode", 0) == 1,
    }
