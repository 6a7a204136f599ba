"""What a TensorFlow graph says of the variables in it: the layers' kinds, paddings, strides and epsilons.

Read from the `.meta` that TF1 writes beside a checkpoint and from TF1's SavedModels. Nodes are walked where they lie
and nothing is run. Graphs of TF2 hold functions that capture their variables by position; of these nothing is told.
Source: tensorflow/core/framework/{graph,node_def,attr_value}.proto, tensorflow/core/protobuf/meta_graph.proto.
"""

import mmap
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from struct import pack, unpack

from regraft.arrays import ArrayInfo, Requirement
from regraft.containers.protobuf import as_bytes, as_int, as_text, fields
from regraft.errors import CheckpointError
from regraft.formats.tensor_proto import values_of, varints

_MOST_BYTES = 64 << 20  # larger graphs hold constants, and would take seconds
_VARIABLES = ("VariableV2", "Variable", "VarHandleOp")
_PASSED = (
    "Identity",
    "ReadVariableOp",
    "Enter",
    "ExpandDims",
    "Cast",
    "Reshape",
    "ConcatV2",
)  # between a variable and its layer
_PART = re.compile(r"/part_\d+$")
_CONVOLUTIONS = {"Conv2D": "Conv2D", "DepthwiseConv2dNative": "DepthwiseConv2D", "Conv3D": "Conv3D"}
_BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


@dataclass(frozen=True)
class GraphFacts:
    """What is told: variable name → its layer's kind; requirements; the file when it was read; what went wrong."""

    layer_types: Mapping[str, str]
    requirements: tuple[Requirement, ...] = ()
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def added_to(self, infos: Mapping[str, ArrayInfo]) -> dict[str, ArrayInfo]:
        """The same arrays with their layers' kinds."""
        told = self.layer_types
        return {name: replace(info, layer_type=told[name]) if name in told else info for name, info in infos.items()}


@dataclass(frozen=True, slots=True)
class _Node:
    op: str
    inputs: tuple[str, ...]
    attributes: tuple[memoryview, ...]


def graph_facts(program: Path, names: Collection[str]) -> GraphFacts:
    """What the graph in `program` tells of the variables `names`. A graph that is damaged or missing tells nothing.

    program  a `.meta` or a `saved_model.pb`
    """
    try:
        size = program.stat().st_size
        if not 0 < size <= _MOST_BYTES:
            note = f"{program.name} has {size} bytes and was not read: paddings and epsilons are not known."
            return GraphFacts({}, files=(program,), notes=(note,))
        with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _facts(program, content[:], set(names))
    except OSError:
        return GraphFacts({})
    except (CheckpointError, RecursionError) as error:
        note = f"{program.name} is damaged, so paddings and epsilons are not known: {error}."
        return GraphFacts({}, files=(program,), notes=(note,))


def _facts(program: Path, content: bytes, names: set[str]) -> GraphFacts:
    nodes = dict(_nodes(content, is_saved_model=program.name == "saved_model.pb"))
    layer_types: dict[str, str] = {}
    found: dict[tuple[str, str], object] = {}
    for name, node in nodes.items():
        # The gradient of a convolution takes the same variable, and asks for nothing of its own.
        if name.startswith("gradients") or "/gradients/" in name:
            continue
        kind, variables, told = _layer(node, nodes, names)
        for variable in variables:
            layer_types.setdefault(variable, kind)
        layer = variables[0].rpartition("/")[0] if variables else ""
        for attribute, value in told.items() if variables else ():
            found.setdefault((layer, attribute), value)
    requirements = tuple(Requirement(layer, attribute, value) for (layer, attribute), value in found.items())
    return GraphFacts(layer_types, requirements, (program,))


def _layer(node: _Node, nodes: Mapping[str, _Node], names: set[str]) -> tuple[str, list[str], dict[str, object]]:
    """(kind, variables, facts) of the layer that the node computes; no variables when it is none."""
    if node.op in _CONVOLUTIONS or node.op == "Conv2DBackpropInput":
        variables = _variables(node.inputs[1:2], nodes, names)
        kind = _CONVOLUTIONS.get(node.op, "Conv2DTranspose")
        return kind, variables, _convolution(node) if variables else {}
    if node.op in _BATCH_NORMS:
        variables = _variables(node.inputs[1:5], nodes, names)
        return "BatchNormalization", variables, {"eps": _real(_attribute(node, "epsilon"))} if variables else {}
    if node.op == "Rsqrt" and node.inputs:
        return _unfused_batch_norm(node, nodes, names)
    if node.op == "MatMul":
        return "Dense", _variables(node.inputs[1:2], nodes, names), {}
    if node.op == "BiasAdd":
        return _biased(node, nodes, names)
    return "", [], {}


def _biased(node: _Node, nodes: Mapping[str, _Node], names: set[str]) -> tuple[str, list[str], dict[str, object]]:
    """The bias belongs to the layer whose output it is added to."""
    before = nodes.get(_source(node.inputs[0])) if node.inputs else None
    kind = _layer(before, nodes, names)[0] if before is not None and before.op != "BiasAdd" else ""
    return (kind, _variables(node.inputs[1:2], nodes, names), {}) if kind else ("", [], {})


def _unfused_batch_norm(
    node: _Node, nodes: Mapping[str, _Node], names: set[str]
) -> tuple[str, list[str], dict[str, object]]:
    """`rsqrt(variance + eps)`, as tf.nn.batch_normalization writes it; eps is a constant."""
    total = nodes.get(_source(node.inputs[0]))
    if total is None or total.op not in ("Add", "AddV2") or len(total.inputs) != 2:
        return "", [], {}
    constant = nodes.get(_source(total.inputs[1]))
    variables = _variables(total.inputs[:1], nodes, names)
    if constant is None or constant.op != "Const" or not variables:
        return "", [], {}
    for number, value in fields(_attribute(constant, "value")):
        if number == 8:
            return "BatchNormalization", variables, {"eps": _decimal(float(values_of(as_bytes(value), "float32", ())))}
    return "", [], {}


def _variables(inputs: tuple[str, ...], nodes: Mapping[str, _Node], names: set[str]) -> list[str]:
    """The checkpoint's variables that these inputs read, through what only passes them on."""
    found = []
    for one in inputs:
        name = _source(one)
        for _ in range(8):
            node = nodes.get(name)
            if node is None or node.op not in _PASSED or not node.inputs:
                break
            name = _source(node.inputs[0])
        whole = _PART.sub("", name)  # a partitioned variable is put together by ConcatV2
        if node is not None and node.op in _VARIABLES and whole in names:
            found.append(whole)
    return found


def _source(text: str) -> str:
    """The node of an input: without the number of its output."""
    return text.removeprefix("^").partition(":")[0]


def _convolution(node: _Node) -> dict[str, object]:
    """Padding, strides and dilation along the axes of space."""
    data_format = _text(_attribute(node, "data_format")) or "NHWC"
    padding = _text(_attribute(node, "padding")).lower()
    space = slice(2, None) if data_format.startswith("NC") else slice(1, -1)
    facts: dict[str, object] = {"padding": padding, "strides": _integers(_attribute(node, "strides"))[space]}
    if padding == "explicit":
        pads = _integers(_attribute(node, "explicit_paddings"))
        facts["padding"] = [pads[at : at + 2] for at in range(0, len(pads), 2)][space]
    if dilations := _integers(_attribute(node, "dilations"))[space]:
        facts["dilation"] = dilations
    return facts


def _nodes(content: bytes, *, is_saved_model: bool) -> Iterator[tuple[str, _Node]]:
    """(name, node) of the graph, or of the first graph of a SavedModel."""
    graphs: list[memoryview] = []
    metas = _messages(memoryview(content), 2)[:1] if is_saved_model else [memoryview(content)]
    for meta in metas:
        graphs += _messages(meta, 2)
    for graph in graphs:
        for message in _messages(graph, 1):
            yield _node(message)


def _node(message: memoryview) -> tuple[str, _Node]:
    name, op, inputs, attributes = "", "", [], []
    for number, value in fields(message):
        if number == 1:
            name = as_text(value)
        elif number == 2:
            op = as_text(value)
        elif number == 3:
            inputs.append(as_text(value))
        elif number == 5:
            attributes.append(as_bytes(value))
    return name, _Node(op, tuple(inputs), tuple(attributes))


def _messages(message: memoryview, wanted: int) -> list[memoryview]:
    return [as_bytes(value) for number, value in fields(message) if number == wanted]


def _attribute(node: _Node, wanted: str) -> memoryview:
    """The AttrValue of that name; empty when there is none."""
    for entry in node.attributes:
        told = dict(fields(entry))
        if 1 in told and 2 in told and as_text(told[1]) == wanted:
            return as_bytes(told[2])
    return memoryview(b"")


def _text(attribute: memoryview) -> str:
    """An AttrValue that holds a text; "" when it holds none."""
    return next((as_text(value) for number, value in fields(attribute) if number == 2), "")


def _integers(attribute: memoryview) -> list[int]:
    """An AttrValue that holds a list of integers."""
    numbers: list[int] = []
    for number, value in fields(attribute):
        for inner, told in fields(as_bytes(value)) if number == 1 else ():
            if inner == 3:
                numbers += varints(told)
    return numbers


def _real(attribute: memoryview) -> float:
    """An AttrValue that holds a float; 0 when it is left out, as zeros are."""
    bits = next((as_int(value) for number, value in fields(attribute) if number == 4), 0)
    return _decimal(unpack("<f", pack("<I", bits & 0xFFFFFFFF))[0])


def _decimal(value: float) -> float:
    """The shortest decimal that is this float32: 0.001 rather than 0.0010000000474974513."""
    return float(f"{value:.7g}")
