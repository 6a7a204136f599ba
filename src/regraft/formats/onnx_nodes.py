"""An ONNX graph as it is written: its nodes, in the order in which they run, and all tensors that the file holds."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from regraft.containers.protobuf import Fields, ProtobufFile, Value
from regraft.formats.onnx_quantised import AXES, CODED, REAL, SCALED, Dequantised, scale_axis
from regraft.formats.onnx_tensors import Small, Stored, read_sparse, read_tensor

Tensor = Stored | Dequantised
Rename = Callable[[str], str]
_DEPTH = 16  # graphs inside If and Loop, and functions inside functions, nest once or twice; more is an attack
_MOST_INLINED = 50_000  # nodes of functions: ten that each call the next ten times would be 10¹⁰
_SCOPES = "pkg.torch.onnx.name_scopes"
_PLAIN_VALUES = {"value_float": 2, "value_int": 3, "value_floats": 7, "value_ints": 8}  # attribute → its field
_TRANSPARENT = ("Identity", "Cast", "Transpose", "QuantizeLinear", "DequantizeLinear")


@dataclass
class OnnxNode:
    """One operator of the graph, in the order in which it runs."""

    operator: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Fields]
    scope: str = ""
    domain: str = ""
    bodies: "dict[str, OnnxBody]" = field(default_factory=dict)

    def input(self, index: int) -> str:
        """The name of an input; "" when there is none."""
        return self.inputs[index] if index < len(self.inputs) else ""


@dataclass
class OnnxBody:
    """One graph: the model's, or a branch of a node; its nodes as they are written, functions where they are called.

    inputs   (name, number of its type, size of each axis; None for a free one), without the weights
    outputs  names of values
    """

    nodes: list[OnnxNode] = field(default_factory=list)
    inputs: list[tuple[str, int, list[int | None]]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


@dataclass
class OnnxGraph:
    """All nodes, subgraphs included, and all tensors that the file holds, by name.

    body       the graph as it is written; the nodes of integers in `nodes` are those that they stand for
    constants  the tensors that Constant nodes hold
    inputs     the names of what is fed in
    numbers    scales and zero points, which are used up when their tensor is read
    skipped    texts, and types that are not read
    """

    file: ProtobufFile
    body: OnnxBody = field(default_factory=OnnxBody)
    nodes: list[OnnxNode] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    inputs: list[str] = field(default_factory=list)
    numbers: set[str] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)
    functions: dict[tuple[str, str], Fields] = field(default_factory=dict)
    calls: set[str] = field(default_factory=set)
    inlined: int = 0
    producers: dict[str, OnnxNode] = field(default_factory=dict)
    consumers: dict[str, list[tuple[OnnxNode, int]]] = field(default_factory=lambda: defaultdict(list))

    def integer(self, node: OnnxNode, name: str, default: int) -> int:
        """A whole number among the node's attributes."""
        return self.file.integer(node.attributes[name][3], default) if name in node.attributes else default

    def real(self, node: OnnxNode, name: str, default: float) -> float:
        """A real number among the node's attributes."""
        values = self.file.floats(node.attributes[name][2]) if name in node.attributes else []
        return values[-1] if values else default

    def integers(self, node: OnnxNode, name: str) -> list[int]:
        """A list of whole numbers among the node's attributes."""
        return self.file.integers(node.attributes[name][8]) if name in node.attributes else []

    def text(self, node: OnnxNode, name: str, default: str = "") -> str:
        """A text among the node's attributes."""
        return self.file.text(node.attributes[name][4], default) if name in node.attributes else default

    def texts(self, node: OnnxNode, name: str) -> list[str]:
        """A list of texts among the node's attributes."""
        return self.file.texts(node.attributes[name][9]) if name in node.attributes else []

    def number(self, name: str) -> float | None:
        """The value of a tensor that is one number; None for all others."""
        tensor = self.tensors.get(origin(self, name)[0])
        is_one = tensor is not None and tensor.shape in ((), (1,)) and tensor.dtype.startswith(("float", "bfloat"))
        return float(tensor.read().reshape(())) if tensor is not None and is_one else None

    def before(self, node: OnnxNode | None, index: int = 0, *, operator: str = "") -> OnnxNode | None:
        """The node that gives this one its input; None for the graph's own inputs and for weights.

        operator  the only one that is looked for; "" is any

        Of no node it is None, so that chains of nodes can be followed.
        """
        before = self.producers.get(node.inputs[index]) if node is not None and index < len(node.inputs) else None
        return before if before is not None and operator in ("", before.operator) else None


def read_graph(file: ProtobufFile, model: Fields) -> OnnxGraph:
    """The model's graph with all its subgraphs; functions are put where they are called.

    Raises CheckpointError when two tensors have one name.
    """
    graph = OnnxGraph(file)
    for value in model[25]:
        function = file.message(value)
        graph.functions[(file.text(function[10]), file.text(function[1]))] = function
    graph.body = _collect(graph, model[7][-1], depth=0, rename=str)
    graph.inputs = [name for name, _, _ in graph.body.inputs]
    graph.producers = _producers(graph.nodes)
    _dequantise(graph)
    graph.producers = _producers(graph.nodes)
    for node in graph.nodes:
        for index, name in enumerate(node.inputs):
            graph.consumers[name].append((node, index))
    return graph


def _producers(nodes: Sequence[OnnxNode]) -> dict[str, OnnxNode]:
    """Output → the first node that gives it."""
    producers: dict[str, OnnxNode] = {}
    for node in nodes:
        for output in node.outputs:
            producers.setdefault(output, node)
    return producers


def _collect(graph: OnnxGraph, message: Value, depth: int, rename: Rename) -> OnnxBody:
    """Add the nodes and tensors of one GraphProto."""
    file, body = graph.file, OnnxBody()
    fields = file.message(message)
    for value in fields[5]:
        tensor = file.message(value)
        name = file.text(tensor[8])
        _add_tensor(graph, rename(name), read_tensor(file, name, tensor))
    for value in fields[15]:
        sparse = file.message(value)
        name = file.text(file.message(sparse[1][-1])[8]) if sparse[1] else ""
        _add_tensor(graph, rename(name), read_sparse(file, name, sparse))
    for value in fields[1]:
        _add_node(graph, body, _node(file, value, rename), depth, rename)
    inputs = [_input(file, value, rename) for value in fields[11]]
    body.inputs = [entry for entry in inputs if entry[0] not in graph.tensors]  # older files list their weights too
    body.outputs = [rename(file.text(file.message(value)[1])) for value in fields[12]]
    return body


def _input(file: ProtobufFile, message: Value, rename: Rename) -> tuple[str, int, list[int | None]]:
    """(name, number of its type, sizes) of a ValueInfoProto."""
    fields = file.message(message)
    kind = file.message(fields[2][-1]) if fields[2] else None
    tensor = file.message(kind[1][-1]) if kind and kind[1] else None
    if tensor is None:
        return rename(file.text(fields[1])), 0, []
    shape = file.message(tensor[2][-1]) if tensor[2] else {1: []}
    sizes = [file.integer(file.message(size)[1], -1) for size in shape[1]]
    return rename(file.text(fields[1])), file.integer(tensor[1]), [size if size >= 0 else None for size in sizes]


def _add_node(graph: OnnxGraph, body: OnnxBody, node: OnnxNode, depth: int, rename: Rename) -> None:
    """Add the node, or what the function does that it calls, and the graphs inside of it."""
    if depth > _DEPTH or graph.inlined > _MOST_INLINED:
        raise graph.file.damaged(f"graphs nest deeper than {_DEPTH} levels, or functions make too many nodes")
    function = graph.functions.get((node.domain, node.operator))
    if function is not None:
        _call(graph, body, node, function, depth + 1)
        return
    graph.nodes.append(node)
    body.nodes.append(node)
    if node.operator == "Constant" and node.outputs:
        graph.constants.add(node.outputs[0])
        _add_tensor(graph, node.outputs[0], _constant(graph, node))
    for name, attribute in node.attributes.items():
        for inner in (*attribute[6], *attribute[11]):
            node.bodies[name] = _collect(graph, inner, depth + 1, rename)


def _call(graph: OnnxGraph, body: OnnxBody, call: OnnxNode, function: Fields, depth: int) -> None:
    """Add the function's nodes: its inputs and outputs named as the caller names them, all else after the call."""
    file = graph.file
    inputs, outputs = file.texts(function[4]), file.texts(function[5])
    missing = [""] * len(inputs)
    known = dict(zip(inputs, call.inputs + missing, strict=False)) | dict(zip(outputs, call.outputs, strict=False))
    prefix = call.name if call.name and call.name not in graph.calls else "".join(call.outputs[:1])
    graph.calls.add(prefix)

    def rename(name: str) -> str:
        return known.get(name, f"{prefix}/{name}" if name else "")

    arguments = {file.text(attribute[1]): attribute for attribute in map(file.message, function[11])} | call.attributes
    for value in function[7]:
        node = _node(file, value, rename)
        node.name, graph.inlined = rename(node.name) or prefix, graph.inlined + 1
        for name, attribute in node.attributes.items():
            node.attributes[name] = arguments.get(file.text(attribute[21]), attribute)
        _add_node(graph, body, node, depth, rename)


def _constant(graph: OnnxGraph, node: OnnxNode) -> Tensor | None:
    """The value of a Constant node, in any of the forms to write one; None for texts."""
    file, name = graph.file, node.outputs[0]
    for key, attribute in node.attributes.items():
        if key == "value" and attribute[5]:
            return read_tensor(file, name, file.message(attribute[5][-1]))
        if key == "sparse_value" and attribute[22]:
            return read_sparse(file, name, file.message(attribute[22][-1]))
        if key in _PLAIN_VALUES:
            return _plain_value(file, attribute, key)
    return None


def _plain_value(file: ProtobufFile, attribute: Fields, key: str) -> Small:
    """A number or a list of numbers in the attribute itself."""
    field = attribute[_PLAIN_VALUES[key]]
    is_list = key.endswith("s")
    if "float" in key:
        return Small(np.array(file.floats(field if is_list else field[-1:]), np.float32), is_list=is_list)
    return Small(np.array(file.integers(field if is_list else field[-1:]), np.int64), is_list=is_list)


def _add_tensor(graph: OnnxGraph, name: str, tensor: Tensor | None) -> None:
    """Keep the tensor; texts are only counted."""
    if name in graph.tensors:
        raise graph.file.damaged(f"two tensors are named {name!r}")
    if tensor is None:
        graph.skipped.append(name)
    else:
        graph.tensors[name] = tensor


def _node(file: ProtobufFile, message: Value, rename: Rename) -> OnnxNode:
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
    return OnnxNode(
        operator=file.text(fields[4]), name=file.text(fields[3]), domain=file.text(fields[7]),
        inputs=[rename(name) for name in file.texts(fields[1])],
        outputs=[rename(name) for name in file.texts(fields[2])],
        attributes=attributes, scope=scopes[-2] if len(scopes) > 1 else "",
    )  # fmt: skip


def _dequantise(graph: OnnxGraph) -> None:
    """Let every tensor of integers whose scale is in the graph read as the numbers that they stand for.

    Nodes that calculate with integers become those that they stand for: QLinearConv is a Conv.
    """
    for number, node in enumerate(graph.nodes):
        axis = 0 if graph.integer(node, "transB", 0) else graph.integer(node, "axis", AXES.get(node.operator, 1))
        if node.operator in SCALED:
            integers, scale, zero = (node.input(index) for index in SCALED[node.operator])
            _scale(graph, (integers, scale, zero), axis, graph.integer(node, "block_size", 0))
        elif node.operator in ("MatMulInteger", "ConvInteger"):
            base = node.input(1).removesuffix("_quantized")  # as ONNX Runtime's quantiser names them
            _scale(graph, (node.input(1), f"{base}_scale", f"{base}_zero_point"), axis, 0)
        if node.operator in REAL:
            graph.nodes[number] = _real_node(graph, node)
        elif node.operator == "DynamicQuantizeLSTM":
            graph.nodes[number] = _real_cell(graph, node)
        elif node.operator == "Mul" and (name := _scale_product(graph, node)):
            graph.nodes[number] = replace(node, operator="Identity", inputs=[name])


def _real_node(graph: OnnxGraph, node: OnnxNode) -> OnnxNode:
    """The node of real numbers that a node of integers stands for."""
    operator, kept = REAL[node.operator]
    if node.operator == "QLinearConv":
        _scale_bias(graph, node)
    inputs = [node.inputs[index] for index in kept if index < len(node.inputs)]
    return replace(node, operator=operator, inputs=inputs)


def _real_cell(graph: OnnxGraph, node: OnnxNode) -> OnnxNode:
    """The LSTM of a node of ONNX Runtime, whose two kernels are integers and stored as (directions, in, gates)."""
    for index, scale, zero in ((1, 8, 9), (2, 10, 11)):
        integers, factor = graph.tensors.get(node.input(index)), graph.tensors.get(node.input(scale))
        if integers is None or factor is None or len(integers.shape) != 3:
            return node
        axis = 0 if prod(factor.shape) == integers.shape[0] else -1
        _scale(graph, (node.input(index), node.input(scale), node.input(zero)), axis, 0, turned=True)
    return replace(node, operator="LSTM", inputs=node.inputs[:8])


def _scale_product(graph: OnnxGraph, node: OnnxNode) -> str:
    """The tensor of integers that a node multiplies by its scale: Cast(integers) · scale, or (… - zero) · scale.

    Own quantisers write such nodes. The tensor then reads as real numbers; "" for every other product.
    """
    for index in (0, 1):
        shifted = graph.before(node, index, operator="Sub")
        zero = origin(graph, shifted.input(1))[0] if shifted is not None else ""
        cast = graph.before(shifted, operator="Cast") or graph.before(node, index, operator="Cast")
        name, scale = cast.input(0) if cast is not None else "", node.input(1 - index)
        integers, factor = graph.tensors.get(name), graph.tensors.get(scale)
        if integers is None or factor is None or integers.dtype not in CODED:
            continue
        axis = scale_axis(factor.shape, integers.shape)
        if axis is not None:
            _scale(graph, (name, scale, zero), axis, 0)
            return name if isinstance(graph.tensors[name], Dequantised) else ""
    return ""


def _scale_bias(graph: OnnxGraph, node: OnnxNode) -> None:
    """The bias of a QLinearConv: integers whose scale is that of the input times that of the kernel."""
    integers, inner, outer = (graph.tensors.get(node.input(index)) for index in (8, 1, 4))
    if integers is None or inner is None or outer is None or isinstance(integers, Dequantised):
        return
    scale = Small((inner.read() * outer.read()).astype(np.float32).reshape(-1), is_list=True)
    graph.tensors[node.input(8)] = Dequantised(integers, scale, None, 0, 0)


def _scale(graph: OnnxGraph, names: tuple[str, str, str], axis: int, block: int, *, turned: bool = False) -> None:
    """Exchange one tensor of integers for the numbers; what is no constant of the graph stays as it is.

    names  of the integers, their scale and their zero point, "" where there is none
    """
    name, scale, zero = names
    integers, factor, offset = (graph.tensors.get(tensor_name) for tensor_name in names)
    if integers is None or factor is None or (zero and offset is None):
        return
    if isinstance(integers, Dequantised) or isinstance(factor, Dequantised):
        return  # tied to another layer, or a scale with a scale of its own
    zero_point = None if isinstance(offset, Dequantised) else offset
    made = Dequantised(integers, factor, zero_point, axis, block, turned=turned)
    if not made.fits():
        raise graph.file.damaged(f"{name!r} of shape {integers.shape} has scales of shape {factor.shape}")
    graph.tensors[name] = made
    graph.numbers |= {scale, zero}


def origin(graph: OnnxGraph, name: str) -> tuple[str, int]:
    """The tensor that an input comes from, and through how many transpositions."""
    flips = 0
    for _ in range(8):  # an exporter writes one or two such nodes; a cycle must end
        node = graph.producers.get(name)
        if name in graph.tensors or node is None or not node.inputs:
            break
        if node.operator not in _TRANSPARENT:
            break
        flips += node.operator == "Transpose"
        name = node.inputs[0]
    return name, flips


def upstream(graph: OnnxGraph, node: OnnxNode, through: Mapping[str, int] | set[str]) -> Iterator[OnnxNode]:
    """The nodes before this one along the first input, as long as they are of these operators; then the next one."""
    seen = 0
    current = graph.before(node)
    while current is not None and seen < 1000:  # a cycle must end
        yield current
        if current.operator not in through:
            return
        current, seen = graph.before(current), seen + 1
