"""The layers of an ONNX graph: which tensor is whose weight, and what the nodes around it determine."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from regraft.arrays import Facts
from regraft.formats.onnx_nodes import OnnxGraph, OnnxNode, Tensor, origin

LEAVES = {  # operator → the index of each weight among its inputs
    "Conv": {1: "weight", 2: "bias"},
    "ConvTranspose": {1: "weight", 2: "bias"},
    "Gemm": {1: "weight", 2: "bias"},
    "MatMul": {1: "weight", 0: "weight"},
    "BatchNormalization": {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"},
    "InstanceNormalization": {1: "weight", 2: "bias"},
    "LayerNormalization": {1: "weight", 2: "bias"},
    "GroupNormalization": {1: "weight", 2: "bias"},
    "LSTM": {1: "W", 2: "R", 3: "B", 7: "P"},
    "GRU": {1: "W", 2: "R", 3: "B"},
    "RNN": {1: "W", 2: "R", 3: "B"},
    "PRelu": {1: "slope"},
    "Gather": {0: "weight"},
}
_ANONYMOUS = re.compile(r"onnx::\w+|\d+|_?val_\d+|const_fold_opt__\d+|(.*/)?Constant(_\d+)?(_output)?_\d+")
_TORCH_RECURRENT = re.compile(r"(?:.*[./])?((?:weight|bias)_(?:ih|hh)_l\d+(?:_reverse)?)")
_TORCH_GATES = {"LSTM": "ifco", "GRU": "rzh", "RNN": "i"}
_STATES = (4, 5, 6)  # inputs of a recurrent node: lengths and initial states
_RESHAPES = ("Reshape", "Unsqueeze", "Squeeze", "Flatten")
_MOST_NUMBERS = 16  # of a list in a Constant node that is no array: shapes, axes, pads


@dataclass
class OnnxLayer:
    """A node that holds weights: leaf → the tensor's name in the file.

    facts  requirements that are determined by the nodes around it
    """

    node: OnnxNode
    weights: dict[str, str]
    kernel_axes: list[str] | None = None
    name: str = ""
    facts: Facts = field(default_factory=dict)


def find_layers(graph: OnnxGraph) -> list[OnnxLayer]:
    """The nodes that hold weights, in the order of the graph, each with its own name.

    A tensor that several nodes use belongs to the first.
    """
    layers: list[OnnxLayer] = []
    owned: set[str] = set()
    for node in graph.nodes:
        layer = _unfused_norm(graph, node) or _group_norm(graph, node) or _sliced_recurrent(graph, node)
        layer = layer or _plain_layer(graph, node, owned)
        if layer.weights:
            bias = _bias_after(graph, layer)
            if bias and bias not in owned:
                layer.weights["bias"] = bias
            owned.update(layer.weights.values())
            layers.append(layer)
    _name_layers(layers)
    return layers


def _plain_layer(graph: OnnxGraph, node: OnnxNode, owned: set[str]) -> OnnxLayer:
    """The layer of one node with the tensors among its inputs that belong to no other layer."""
    layer = OnnxLayer(node, {})
    for index, leaf in LEAVES.get(node.operator, {}).items():
        name, flips = origin(graph, node.inputs[index]) if index < len(node.inputs) else ("", 0)
        if leaf in layer.weights or name in owned or not _is_weight(graph, node, name):
            continue
        layer.weights[leaf] = name
        if node.operator in ("Gemm", "MatMul") and leaf == "weight" and len(graph.tensors[name].shape) == 2:
            is_out_in = (index == 0) != (graph.integer(node, "transB", 0) == 1)
            layer.kernel_axes = ["out", "in"] if is_out_in != (flips % 2 == 1) else ["in", "out"]
    return layer


def _unfused_norm(graph: OnnxGraph, node: OnnxNode) -> OnnxLayer | None:
    """The layer norm that ends in this node: (x - mean) / sqrt(mean((x - mean)²) + eps) · weight + bias.

    Before opset 17 ONNX has no operator for it, so that exporters write these nodes; eps is one of their numbers.
    """
    if node.operator != "Div" or len(node.inputs) != 2:
        return None
    centred = graph.before(node, operator="Sub")
    root = graph.before(node, 1, operator="Sqrt")
    total = graph.before(root, operator="Add")
    if centred is None or total is None or not _is_variance(graph, total, centred):
        return None
    eps = next((value for name in total.inputs if (value := graph.number(name)) is not None), None)
    weights = _scale_and_shift(graph, node)
    if eps is None or not weights:
        return None
    return OnnxLayer(replace(node, operator="LayerNormalization", attributes={}), weights, facts={"eps": eps})


def _is_variance(graph: OnnxGraph, total: OnnxNode, centred: OnnxNode) -> bool:
    """Whether one part of the sum is the mean, over the last axis alone, of the squares of what was centred."""
    means = (graph.before(total, index, operator="ReduceMean") for index in (0, 1))
    mean = next((mean_name for mean_name in means if mean_name is not None), None)
    square = graph.before(mean)
    if mean is None or square is None or len(graph.integers(mean, "axes")) > 1:
        return False
    return square.operator in ("Pow", "Mul") and graph.before(square) is centred


def _group_norm(graph: OnnxGraph, node: OnnxNode) -> OnnxLayer | None:
    """The group norm that torch's exporters write with an instance norm: Reshape, InstanceNormalization, Reshape.

    The instance norm's own scale and shift, one for each group, are ones and zeros; what was learned comes behind.
    """
    if node.operator != "InstanceNormalization" or len(node.inputs) < 3:
        return None
    before, after = graph.before(node, operator="Reshape"), _only_user(graph, node)
    scale = graph.tensors.get(origin(graph, node.inputs[1])[0])
    if before is None or after is None or after.operator != "Reshape" or scale is None or len(scale.shape) != 1:
        return None
    graph.numbers.update(node.inputs[1:3])
    facts: Facts = {"groups": scale.shape[0]}
    return OnnxLayer(replace(node, operator="GroupNormalization"), _scale_and_shift(graph, after), facts=facts)


def _only_user(graph: OnnxGraph, node: OnnxNode) -> OnnxNode | None:
    """The node that takes what this one gives, when it is the only one."""
    uses = graph.consumers.get(node.outputs[0], []) if node.outputs else []
    return uses[0][0] if len(uses) == 1 else None


def _scale_and_shift(graph: OnnxGraph, node: OnnxNode) -> dict[str, str]:
    """The tensors that are multiplied with what the node gives, and then added."""
    weights: dict[str, str] = {}
    current = node
    for operator, leaf in (("Mul", "weight"), ("Add", "bias")):
        user = _only_user(graph, current)
        if user is None or user.operator != operator:
            break
        current = user
        names = [reshaped_tensor(graph, name) for name in current.inputs]
        held = [name for name in names if name is not None and _is_weight(graph, node, name)]
        if len(held) == 1:
            weights[leaf] = held[0]
    return weights


def reshaped_tensor(graph: OnnxGraph, name: str) -> str | None:
    """The tensor that an input comes from, also when its axes are changed as the graph runs; None for a map."""
    name = origin(graph, name)[0]
    for _ in range(4):  # exporters write one or two such nodes; a cycle must end
        producer = graph.producers.get(name)
        if name in graph.tensors or producer is None or producer.operator not in _RESHAPES or not producer.inputs:
            break
        name = origin(graph, producer.inputs[0])[0]
    return name if name in graph.tensors else None


def _sliced_recurrent(graph: OnnxGraph, node: OnnxNode) -> OnnxLayer | None:
    """The recurrent layer whose weights are torch's own, which the graph cuts and puts into ONNX' order as it runs."""
    if node.operator not in _TORCH_GATES:
        return None
    weights: dict[str, str] = {}
    waiting, seen = list(node.inputs[1:4]), set(node.inputs[1:4])
    while waiting and len(seen) < 1000:
        name = waiting.pop(0)
        match = _TORCH_RECURRENT.fullmatch(name)
        if match and name in graph.tensors:
            weights.setdefault(match[1], name)
        inner = [source for source in _rearranged_inputs(graph, name) if source not in seen]
        waiting += inner
        seen.update(inner)
    if not weights:
        return None
    has_bias = any(leaf.startswith("bias") for leaf in weights)
    return OnnxLayer(node, weights, facts={"gate_order": _TORCH_GATES[node.operator], "use_bias": has_bias})


def _rearranged_inputs(graph: OnnxGraph, name: str) -> list[str]:
    """What a node takes that only cuts, joins or passes on tensors; nothing for other nodes and for tensors."""
    producer = None if name in graph.tensors else graph.producers.get(name)
    if producer is None or producer.operator not in ("Unsqueeze", "Concat", "Slice", "Identity", "Cast"):
        return []
    return producer.inputs if producer.operator == "Concat" else producer.inputs[:1]


def _is_weight(graph: OnnxGraph, node: OnnxNode, name: str) -> bool:
    """Whether the tensor is what the layer has learned: a Gather from a shape is no embedding."""
    tensor = graph.tensors.get(name)
    if tensor is None or not _is_real(tensor):
        return False
    return node.operator not in ("Gather", "MatMul") or len(tensor.shape) >= 2


def _is_real(tensor: Tensor) -> bool:
    return tensor.dtype.startswith(("float", "bfloat"))


def _bias_after(graph: OnnxGraph, layer: OnnxLayer) -> str | None:
    """The vector that an Add after the layer holds, (1, c, 1, 1) behind a convolution: a bias of some exporters."""
    node = layer.node
    if node.operator not in ("MatMul", "Conv", "ConvTranspose") or "bias" in layer.weights:
        return None
    user = _only_user(graph, node)
    if "weight" not in layer.weights or user is None or user.operator != "Add":
        return None
    shape = _bias_shape(graph, layer)
    for name in user.inputs:
        tensor = reshaped_tensor(graph, name)
        if tensor is not None and _is_real(graph.tensors[tensor]) and _adds_along(graph, name, tensor, shape):
            return tensor
    return None


def _bias_shape(graph: OnnxGraph, layer: OnnxLayer) -> tuple[int, ...]:
    """The shape of a bias without its first axes of 1: (width,) behind a product, (c, 1, 1) behind a convolution."""
    shape = graph.tensors[layer.weights["weight"]].shape
    if layer.node.operator == "MatMul":
        return (shape[0 if layer.kernel_axes == ["out", "in"] else -1],)
    is_transposed = layer.node.operator == "ConvTranspose"
    channels = shape[1] * graph.integer(layer.node, "group", 1) if is_transposed else shape[0]
    return (channels, *[1] * (len(shape) - 2))


def _adds_along(graph: OnnxGraph, name: str, tensor: str, shape: tuple[int, ...]) -> bool:
    """Whether the input `name`, which the tensor becomes, is added along the layer's output channels."""
    held = graph.tensors[tensor].shape
    if name == tensor or origin(graph, name)[0] == tensor:
        while len(held) > len(shape) and held[0] == 1:
            held = held[1:]
        return held == shape
    # Reshaped as the graph runs: the exporter meant it for this layer when it has a value for each channel.
    return max(held, default=0) == shape[0] and sum(size != 1 for size in held) <= 1


def _name_layers(layers: list[OnnxLayer]) -> None:
    """Name each layer after what its weights' names have in common, else after its node, else after its weight."""
    owners: dict[str, set[int]] = defaultdict(set)  # beginning of a name → the layers whose weights begin so
    for number, layer in enumerate(layers):
        for name in layer.weights.values():
            for beginning in _beginnings(name):
                owners[beginning].add(number)
    taken: set[str] = set()
    for number, layer in enumerate(layers):
        own = [beginning for beginning in _shared_beginnings(layer) if len(owners[beginning]) == 1]
        candidates = [*own, module_of(layer.node), layer.node.name, *layer.weights.values()]
        candidates += [*layer.node.outputs[:1], f"{layer.node.operator}_{number}"]
        layer.name = next(name for name in candidates if name and name not in taken)
        taken.add(layer.name)


def _shared_beginnings(layer: OnnxLayer) -> list[str]:
    """The beginnings that the names of the layer's weights share, the longest first; made-up names have none."""
    named = [_beginnings(name) for name in layer.weights.values() if not is_anonymous(name)]
    return [beginning for beginning in named[0] if all(beginning in other for other in named)] if named else []


def _beginnings(name: str) -> list[str]:
    """The name without its last part, its last two parts …: "a/b.c" → "a/b", "a"."""
    return [name[: mark.start()] for mark in re.finditer(r"[./]", name)][::-1]


def module_of(node: OnnxNode) -> str:
    """The torch module that a node was exported from: "/encoder/layer.0/MatMul_1" → "encoder.layer.0"."""
    if node.scope:
        return node.scope
    if not node.name.startswith("/"):
        return ""
    return re.sub(rf"/{node.operator}(_\d+)?$", "", node.name).strip("/").replace("/", ".")


def is_anonymous(name: str) -> bool:
    """Whether an exporter made the name up: "onnx::MatMul_123", "val_7", "12"."""
    return _ANONYMOUS.fullmatch(name) is not None


def readable_names(layers: list[OnnxLayer], graph: OnnxGraph) -> dict[str, str]:
    """The file's name → a readable one, for every tensor: its own unless the exporter lost it."""
    names = {name: name for name in graph.tensors}
    taken = set(names)
    for layer in layers:
        for leaf, name in layer.weights.items():
            better = f"{layer.name}.{leaf}"
            if is_anonymous(name) and better not in taken:
                names[name] = better
                taken.add(better)
    return names


def _uses(graph: OnnxGraph, name: str) -> Iterator[tuple[OnnxNode, int]]:
    """(node, index of the input) of all that take a value, also when it is repeated before."""
    for node, index in graph.consumers.get(name, ()):
        if node.operator == "Expand" and index == 0 and name in graph.tensors:
            yield from graph.consumers.get(node.outputs[0], ())
        else:
            yield node, index


def is_setting(graph: OnnxGraph, name: str) -> bool:
    """Whether a Constant node's tensor is an argument of another node and no array: a number, or a short list."""
    shape = graph.tensors[name].shape
    if name not in graph.constants or len(shape) > 1:
        return False
    return not shape or shape[0] <= (1 if _is_real(graph.tensors[name]) else _MOST_NUMBERS)


def _are_states(uses: Collection[tuple[OnnxNode, int]]) -> bool:
    """Whether all uses are those of a recurrent layer's first states."""
    return bool(uses) and all(node.operator in _TORCH_GATES and index in _STATES for node, index in uses)


def used_as_number(graph: OnnxGraph, name: str) -> bool:
    """Whether a tensor that belongs to no layer is a number of the graph itself: a shape, an index, a bound."""
    tensor = graph.tensors[name]
    uses = list(_uses(graph, name))
    if not _is_real(tensor) or name in graph.numbers or _are_states(uses):
        return True
    if name in graph.constants:
        return max(tensor.shape, default=1) == 1
    # A name that an exporter made up is a computed number, except where it scales or shifts: a folded batch-norm.
    scales = any(node.operator in ("Mul", "Add", "Sub", "Div") for node, _ in uses)
    return is_anonymous(name) and not (scales and tensor.shape)
