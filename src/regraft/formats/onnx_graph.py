"""The layers of an ONNX graph: which initializer is whose weight, and what the node asks for."""

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace

from regraft.formats.onnx_nodes import Graph, Node, origin

LEAVES = {  # operator → the place of each weight among its inputs
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


@dataclass
class Layer:
    """A node that holds weights: leaf → the initializer's name in the file.

    told  facts that stand in the nodes around it
    """

    node: Node
    weights: dict[str, str]
    kernel_axes: list[str] | None = None
    name: str = ""
    told: dict[str, object] = field(default_factory=dict)


def find_layers(graph: Graph) -> list[Layer]:
    """The nodes that hold weights, in the order of the graph, each with its own name.

    A tensor that several nodes use belongs to the first.
    """
    layers: list[Layer] = []
    owned: set[str] = set()
    for node in graph.nodes:
        layer = _unfused_norm(graph, node) or _group_norm(graph, node) or _sliced_recurrent(graph, node)
        leaves = LEAVES.get(node.operator, {}) if layer is None else {}
        layer = layer or Layer(node, {})
        for index, leaf in leaves.items():
            name, flips = origin(graph, node.inputs[index]) if index < len(node.inputs) else ("", 0)
            if leaf in layer.weights or not _is_weight(graph, node, name) or name in owned:
                continue
            layer.weights[leaf] = name
            if node.operator in ("Gemm", "MatMul") and leaf == "weight" and len(graph.tensors[name].shape) == 2:
                is_out_in = (index == 0) != (graph.integer(node, "transB", 0) == 1)
                layer.kernel_axes = ["out", "in"] if is_out_in != (flips % 2 == 1) else ["in", "out"]
        if layer.weights:
            bias = _bias_after(graph, layer)
            if bias and bias not in owned:
                layer.weights["bias"] = bias
            owned.update(layer.weights.values())
            layers.append(layer)
    _name_layers(layers)
    return layers


def _unfused_norm(graph: Graph, node: Node) -> Layer | None:
    """The layer norm that ends in this node: (x - mean) / sqrt(mean((x - mean)²) + eps) · weight + bias.

    Before opset 17 ONNX has no operator for it, so that exporters write these nodes; eps is one of their numbers.
    """
    if node.operator != "Div" or len(node.inputs) != 2:
        return None
    centred, root = graph.before(node), graph.before(node, 1)
    total = graph.before(root) if root is not None and root.operator == "Sqrt" else None
    if centred is None or centred.operator != "Sub" or total is None or total.operator != "Add":
        return None
    eps = next((value for name in total.inputs if (value := graph.number(name)) is not None), None)
    variance = next(
        (one for index in (0, 1) if (one := graph.before(total, index)) and one.operator == "ReduceMean"), None
    )
    square = graph.before(variance) if variance is not None else None
    if variance is None or len(graph.integers(variance, "axes")) > 1:
        return None  # over more than the last axis: another norm
    if eps is None or square is None or square.operator not in ("Pow", "Mul") or graph.before(square) is not centred:
        return None
    weights = _scale_and_shift(graph, node)
    if not weights:
        return None
    return Layer(replace(node, operator="LayerNormalization", attributes={}), weights, told={"eps": eps})


def _group_norm(graph: Graph, node: Node) -> Layer | None:
    """The group norm that torch's exporters write with an instance norm: Reshape, InstanceNormalization, Reshape.

    The instance norm's own scale and shift, one for each group, are ones and zeros; what was learned comes behind.
    """
    before, after = graph.before(node), _only_user(graph, node)
    if node.operator != "InstanceNormalization" or before is None or after is None:
        return None
    scale = graph.tensors.get(origin(graph, node.inputs[1])[0]) if len(node.inputs) > 2 else None
    if (before.operator, after.operator) != ("Reshape", "Reshape") or scale is None or len(scale.shape) != 1:
        return None
    graph.numbers.update(node.inputs[1:3])
    told: dict[str, object] = {"groups": scale.shape[0]}
    return Layer(replace(node, operator="GroupNormalization"), _scale_and_shift(graph, after), told=told)


def _only_user(graph: Graph, node: Node) -> Node | None:
    """The node that takes what this one gives, when it is the only one."""
    uses = graph.consumers.get(node.outputs[0], []) if node.outputs else []
    return uses[0][0] if len(uses) == 1 else None


def _scale_and_shift(graph: Graph, node: Node) -> dict[str, str]:
    """The tensors that are multiplied with what the node gives, and then added."""
    weights: dict[str, str] = {}
    current = node
    for operator, leaf in (("Mul", "weight"), ("Add", "bias")):
        user = _only_user(graph, current)
        if user is None or user.operator != operator:
            break
        current = user
        held = [name for one in current.inputs if (name := _unsqueezed(graph, one)) in graph.tensors]
        if len(held) == 1 and _is_weight(graph, node, held[0]):
            weights[leaf] = held[0]
    return weights


def _unsqueezed(graph: Graph, name: str) -> str:
    """The tensor that an input comes from, also when axes are put behind it as the graph runs."""
    found, _ = origin(graph, name)
    node = graph.producers.get(found)
    return origin(graph, node.inputs[0])[0] if node and node.operator == "Unsqueeze" and node.inputs else found


def _sliced_recurrent(graph: Graph, node: Node) -> Layer | None:
    """The recurrent layer whose weights are torch's own, which the graph cuts and puts into ONNX' order as it runs."""
    if node.operator not in _TORCH_GATES:
        return None
    weights: dict[str, str] = {}
    waiting, seen = list(node.inputs[1:4]), set(node.inputs[1:4])
    while waiting and len(seen) < 1000:
        name = waiting.pop(0)
        producer, match = graph.producers.get(name), _TORCH_RECURRENT.fullmatch(name)
        if match and name in graph.tensors:
            weights.setdefault(match[1], name)
        elif producer is not None and producer.operator in ("Unsqueeze", "Concat", "Slice", "Identity", "Cast"):
            inner = producer.inputs if producer.operator == "Concat" else producer.inputs[:1]
            waiting += [one for one in inner if one not in seen]
            seen.update(inner)
    has_bias = any(leaf.startswith("bias") for leaf in weights)
    return (
        Layer(node, weights, told={"gate_order": _TORCH_GATES[node.operator], "use_bias": has_bias})
        if weights
        else None
    )


def _is_weight(graph: Graph, node: Node, name: str) -> bool:
    """Whether the tensor is what the layer has learned: a Gather from a shape is no embedding."""
    tensor = graph.tensors.get(name)
    if tensor is None or not tensor.dtype.startswith(("float", "bfloat")):
        return False
    return node.operator not in ("Gather", "MatMul") or len(tensor.shape) >= 2


def _bias_after(graph: Graph, layer: Layer) -> str | None:
    """The vector that an Add after a MatMul holds: other exporters write a dense layer so."""
    if layer.node.operator != "MatMul" or "weight" not in layer.weights or not layer.node.outputs:
        return None
    uses = graph.consumers.get(layer.node.outputs[0], [])
    if len(uses) != 1 or uses[0][0].operator != "Add":
        return None
    width = graph.tensors[layer.weights["weight"]].shape[-1 if layer.kernel_axes != ["out", "in"] else 0]
    for name in uses[0][0].inputs:
        found, _ = origin(graph, name)
        if found in graph.tensors and graph.tensors[found].shape == (width,):
            return found
    return None


def _name_layers(layers: list[Layer]) -> None:
    """Name each layer after what its weights' names have in common, else after its node, else after its weight."""
    owners: dict[str, set[int]] = defaultdict(set)  # beginning of a name → the layers whose weights begin so
    for number, layer in enumerate(layers):
        for name in layer.weights.values():
            for beginning in _beginnings(name):
                owners[beginning].add(number)
    taken: set[str] = set()
    for number, layer in enumerate(layers):
        named = [_beginnings(name) for name in layer.weights.values() if not is_anonymous(name)]
        shared = [one for one in (named[0] if named else []) if all(one in other for other in named)]
        candidates = [*(one for one in shared if len(owners[one]) == 1), _module_of(layer.node), layer.node.name]
        candidates += list(layer.weights.values())
        candidates += [*layer.node.outputs[:1], f"{layer.node.operator}_{number}"]
        layer.name = next(one for one in candidates if one and one not in taken)
        taken.add(layer.name)


def _beginnings(name: str) -> list[str]:
    """The name without its last part, its last two parts …: "a/b.c" → "a/b", "a"."""
    return [name[: mark.start()] for mark in re.finditer(r"[./]", name)][::-1]


def _module_of(node: Node) -> str:
    """The torch module that a node was exported from: "/encoder/layer.0/MatMul_1" → "encoder.layer.0"."""
    if node.scope:
        return node.scope
    if not node.name.startswith("/"):
        return ""
    return re.sub(rf"/{node.operator}(_\d+)?$", "", node.name).strip("/").replace("/", ".")


def is_anonymous(name: str) -> bool:
    """Whether an exporter made the name up: "onnx::MatMul_123", "val_7", "12"."""
    return _ANONYMOUS.fullmatch(name) is not None


def readable_names(layers: list[Layer], graph: Graph) -> dict[str, str]:
    """The file's name → a readable one, for every tensor: its own unless the exporter lost it."""
    names = {name: name for name in graph.tensors}
    for layer in layers:
        for leaf, name in layer.weights.items():
            better = f"{layer.name}.{leaf}"
            if is_anonymous(name) and better not in names and better not in names.values():
                names[name] = better
    return names


def used_as_number(graph: Graph, name: str) -> bool:
    """Whether a tensor that belongs to no layer is a number of the graph itself: a shape, an index, a bound."""
    tensor = graph.tensors[name]
    if not tensor.dtype.startswith(("float", "bfloat")) or name in graph.constants or name in graph.numbers:
        return True
    # A name that an exporter made up is a computed number, except where it scales or shifts: a folded batch-norm.
    scales = any(node.operator in ("Mul", "Add", "Sub", "Div") for node, _ in graph.consumers.get(name, ()))
    return is_anonymous(name) and not (scales and tensor.shape)
