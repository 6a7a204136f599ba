"""An ONNX graph's nodes, and the layers among them: which initializer is whose weight, and what the node asks for."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from regraft.formats.onnx_tensors import Tensor, read_tensor
from regraft.formats.protobuf import Fields, ProtobufFile
from regraft.formats.wire import Value

DEPTH = 16  # graphs inside If and Loop nest once or twice; more is an attack on the stack
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
_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass
class Node:
    """One operator of the graph, in the order in which it runs."""

    operator: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Fields]
    scope: str = ""


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


@dataclass
class Graph:
    """All nodes, subgraphs included, and all tensors that the file holds, by name."""

    file: ProtobufFile
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    producers: dict[str, Node] = field(default_factory=dict)
    consumers: dict[str, list[tuple[Node, int]]] = field(default_factory=lambda: defaultdict(list))

    def integer(self, node: Node, name: str, default: int) -> int:
        """A whole number among the node's attributes."""
        return self.file.integer(node.attributes[name][3], default) if name in node.attributes else default

    def real(self, node: Node, name: str, default: float) -> float:
        """A real number among the node's attributes."""
        values = self.file.floats(node.attributes[name][2]) if name in node.attributes else []
        return values[-1] if values else default

    def integers(self, node: Node, name: str) -> list[int]:
        """A list of whole numbers among the node's attributes."""
        return self.file.integers(node.attributes[name][8]) if name in node.attributes else []

    def text(self, node: Node, name: str, default: str = "") -> str:
        """A text among the node's attributes."""
        return self.file.text(node.attributes[name][4], default) if name in node.attributes else default

    def texts(self, node: Node, name: str) -> list[str]:
        """A list of texts among the node's attributes."""
        return self.file.texts(node.attributes[name][9]) if name in node.attributes else []

    def number(self, name: str) -> float | None:
        """The value of a tensor that is one number; None for all others."""
        tensor = self.tensors.get(_origin(self, name)[0])
        is_one = tensor is not None and tensor.shape in ((), (1,)) and tensor.dtype.startswith(("float", "bfloat"))
        return float(tensor.read().reshape(())) if tensor is not None and is_one else None

    def before(self, node: Node, index: int = 0) -> Node | None:
        """The node that gives this one its input; None for the graph's own inputs and for weights."""
        return self.producers.get(node.inputs[index]) if index < len(node.inputs) else None


def read_graph(file: ProtobufFile, graph: Value) -> Graph:
    """The graph with all its subgraphs. Raises CheckpointError when two tensors have one name."""
    found = Graph(file)
    _collect(found, graph, depth=0)
    for node in found.nodes:
        for output in node.outputs:
            found.producers.setdefault(output, node)
        for index, name in enumerate(node.inputs):
            found.consumers[name].append((node, index))
    return found


def _collect(graph: Graph, message: Value, depth: int) -> None:
    """Add the nodes and tensors of one GraphProto."""
    file = graph.file
    if depth > DEPTH:
        raise file.damaged(f"graphs nest deeper than {DEPTH} levels")
    fields = file.message(message)
    for value in fields[5]:
        tensor = file.message(value)
        _add_tensor(graph, file.text(tensor[8]), tensor)
    for value in fields[1]:
        node = _node(file, value)
        graph.nodes.append(node)
        if node.operator == "Constant" and node.outputs and "value" in node.attributes and node.attributes["value"][5]:
            graph.constants.add(node.outputs[0])
            _add_tensor(graph, node.outputs[0], file.message(node.attributes["value"][5][-1]))
        for attribute in node.attributes.values():
            for inner in (*attribute[6], *attribute[11]):
                _collect(graph, inner, depth + 1)


def _add_tensor(graph: Graph, name: str, fields: Fields) -> None:
    """Keep the tensor, when its type can hold weights."""
    tensor = read_tensor(graph.file, name, fields)
    if name in graph.tensors:
        raise graph.file.damaged(f"two tensors are named {name!r}")
    if tensor is not None:
        graph.tensors[name] = tensor


def _node(file: ProtobufFile, message: Value) -> Node:
    """One NodeProto."""
    fields = file.message(message)
    attributes = {}
    for value in fields[5]:
        attribute = file.message(value)
        attributes[file.text(attribute[1])] = attribute
    properties = {}
    for value in fields[9]:
        pair = file.message(value)
        properties[file.text(pair[1])] = file.text(pair[2])
    scopes = re.findall(r"'([^']*)'", properties.get(_SCOPES, ""))
    return Node(
        operator=file.text(fields[4]), name=file.text(fields[3]), inputs=file.texts(fields[1]),
        outputs=file.texts(fields[2]), attributes=attributes, scope=scopes[-2] if len(scopes) > 1 else "",
    )  # fmt: skip


def find_layers(graph: Graph) -> list[Layer]:
    """The nodes that hold weights, in the order of the graph, each with its own name.

    A tensor that several nodes use belongs to the first.
    """
    layers: list[Layer] = []
    owned: set[str] = set()
    for node in graph.nodes:
        layer = _unfused_norm(graph, node) or _sliced_recurrent(graph, node) or Layer(node, {})
        for index, leaf in ({} if layer.weights else LEAVES.get(node.operator, {})).items():
            name, flips = _origin(graph, node.inputs[index]) if index < len(node.inputs) else ("", 0)
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
    weights: dict[str, str] = {}
    current = node
    for operator, leaf in (("Mul", "weight"), ("Add", "bias")):
        uses = graph.consumers.get(current.outputs[0], []) if current.outputs else []
        if len(uses) != 1 or uses[0][0].operator != operator:
            break
        current = uses[0][0]
        held = [name for one in current.inputs if (name := _origin(graph, one)[0]) in graph.tensors]
        if len(held) == 1 and _is_weight(graph, node, held[0]):
            weights[leaf] = held[0]
    if not weights:
        return None
    return Layer(replace(node, operator="LayerNormalization", attributes={}), weights, told={"eps": eps})


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


def _origin(graph: Graph, name: str) -> tuple[str, int]:
    """The tensor that an input comes from, and through how many transpositions."""
    flips = 0
    for _ in range(8):  # an exporter writes one or two such nodes; a cycle must end
        node = graph.producers.get(name)
        if name in graph.tensors or node is None or not node.inputs:
            break
        if node.operator not in ("Identity", "Cast", "Transpose"):
            break
        flips += node.operator == "Transpose"
        name = node.inputs[0]
    return name, flips


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
        origin, _ = _origin(graph, name)
        if origin in graph.tensors and graph.tensors[origin].shape == (width,):
            return origin
    return None


def _name_layers(layers: list[Layer]) -> None:
    """Name each layer after what its weights' names have in common, else after its node, else after its weight."""
    owners: dict[str, set[int]] = defaultdict(set)  # beginning of a name → the layers whose weights begin so
    for number, layer in enumerate(layers):
        for name in layer.weights.values():
            for beginning in _beginnings(name):
                owners[beginning].add(number)
    taken: set[str] = set()
    for layer in layers:
        named = [_beginnings(name) for name in layer.weights.values() if not is_anonymous(name)]
        shared = [one for one in (named[0] if named else []) if all(one in other for other in named)]
        candidates = [*(one for one in shared if len(owners[one]) == 1), _module_of(layer.node), layer.node.name]
        candidates += list(layer.weights.values())
        layer.name = next((one for one in candidates if one and one not in taken), layer.node.outputs[0])
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
    if not tensor.dtype.startswith(("float", "bfloat")) or name in graph.constants:
        return True
    # A name that an exporter made up is a computed number, except where it scales or shifts: a folded batch-norm.
    scales = any(node.operator in ("Mul", "Add", "Sub", "Div") for node, _ in graph.consumers.get(name, ()))
    return is_anonymous(name) and not (scales and tensor.shape)


def upstream(graph: Graph, node: Node, through: Mapping[str, int] | set[str]) -> Iterator[Node]:
    """The nodes before this one along the first input, as long as they are of these operators; then the next one."""
    seen = 0
    current = graph.before(node)
    while current is not None and seen < 1000:  # a cycle must end
        yield current
        if current.operator not in through:
            return
        current, seen = graph.before(current), seen + 1
