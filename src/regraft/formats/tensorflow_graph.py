"""The layers of a TensorFlow graph: which array is whose weight, paddings and the like, and how layers are connected.

Arrays are variables of a checkpoint, constants of a frozen graph, or the weights of a TensorFlow.js model. Nodes are
walked where they lie and nothing is run. Graphs of TF2 hold functions that capture their variables by position; of
these nothing is known.
Source: tensorflow/core/protobuf/meta_graph.proto; tensorflow/python/ops/nn_impl.py (batch_normalization).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, count
from math import prod
from pathlib import Path

import numpy as np

from regraft.arrays import ArrayInfo, Facts, Requirement, requirements_for
from regraft.containers.protobuf import field_bytes, fields
from regraft.containers.spans import mapped
from regraft.errors import CheckpointError
from regraft.formats.tensor_bundle import DTYPES
from regraft.formats.tensor_proto import proto_values
from regraft.formats.tensorflow_flattening import flattening
from regraft.formats.tensorflow_nodes import GraphNode, decimal, nodes_of_graph, tensor_dtype_and_shape
from regraft.formats.tensorflow_wiring import tensorflow_wiring

_MOST_BYTES = 64 << 20  # larger graphs hold constants, and would take seconds
_VARIABLES = ("VariableV2", "Variable", "VarHandleOp", "Const")
# Between an array and its layer.
_PASSED = ("Identity", "ReadVariableOp", "Enter", "ExpandDims", "Cast", "Reshape", "ConcatV2", "Squeeze")
_CONVOLUTIONS = {
    "Conv2D": "Conv2D", "_FusedConv2D": "Conv2D", "FusedConv2D": "Conv2D", "Conv3D": "Conv3D",
    "DepthwiseConv2dNative": "DepthwiseConv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2D",
    "DepthwiseConv2d": "DepthwiseConv2D", "Conv2DBackpropInput": "Conv2DTranspose",
}  # fmt: skip
_PRODUCTS = ("MatMul", "_FusedMatMul")
_BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_NORM_LEAVES = ("gamma", "beta", "moving_mean", "moving_variance")
_FUSED_ACTIVATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Elu": "elu(1)", "Sigmoid": "sigmoid", "Tanh": "tanh", "LeakyRelu": "leaky relu",
    "Prelu": "prelu",
}  # fmt: skip
_MOST_NUMBERS = 64  # of a constant that is a setting: paddings, block shapes
Constant = Callable[[str], np.ndarray | None]


@dataclass
class GraphLayer:
    """A node that computes a layer.

    kind    the layer's type in Keras' words
    arrays  leaf → the array's name
    facts   its requirements
    """

    node: str
    kind: str
    arrays: dict[str, str] = field(default_factory=dict)
    facts: Facts = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class TensorFlowGraph:
    """The nodes of a graph, and what of it is an array.

    names     the arrays that the file holds, by the node that gives each
    constant  gives the values of a small constant; None for others
    """

    nodes: Mapping[str, GraphNode]
    names: Collection[str]
    constant: Constant

    def layers(self) -> list[GraphLayer]:
        """The layers in the order of the file. An array belongs to the first layer that uses it."""
        # The gradient of a convolution takes the same array, and has no settings of its own.
        forward = {name: node for name, node in self.nodes.items() if not _is_gradient(name)}
        by_node: dict[str, GraphLayer] = {}
        owned: set[str] = set()
        for name, node in forward.items():
            layer = self._layer(name, node)
            if layer is not None and set(layer.arrays.values()) - owned:
                owned.update(layer.arrays.values())
                by_node[name] = layer
        for node in forward.values():
            self._add_bias(node, by_node, owned)
        layers = list(by_node.values())
        _name_layers(layers)
        return layers

    def arrays_of(self, inputs: Sequence[str]) -> list[str]:
        """The arrays that these inputs read, through what only passes them on."""
        arrays = (self._array(name) for name in inputs)
        return [name for name in arrays if name is not None]

    def _array(self, name: str) -> str | None:
        for _ in range(8):
            node = self.nodes.get(name)
            if node is None or node.op not in _PASSED or not node.inputs:
                break
            name = node.inputs[0]
        whole = _without_part(name)  # a partitioned variable is put together by ConcatV2
        node = self.nodes.get(name)
        return whole if node is not None and node.op in _VARIABLES and whole in self.names else None

    def _layer(self, name: str, node: GraphNode) -> GraphLayer | None:
        """The layer that the node computes; None when it computes none, or one without arrays."""
        if node.op in _CONVOLUTIONS:
            return self._of_inputs(name, node, _CONVOLUTIONS[node.op], _kernel_and_bias(node))
        if node.op in _PRODUCTS:
            return self._of_inputs(name, node, "Dense", _kernel_and_bias(node))
        if node.op in _BATCH_NORMS:
            return self._of_inputs(name, node, "BatchNormalization", dict(enumerate(_NORM_LEAVES, 1)))
        return self._unfused_batch_norm(name, node) if node.op == "Rsqrt" and node.inputs else None

    def _of_inputs(self, name: str, node: GraphNode, kind: str, leaves: Mapping[int, str]) -> GraphLayer | None:
        arrays = {
            leaf: array
            for index, leaf in leaves.items()
            if index < len(node.inputs) and (array := self._array(node.inputs[index])) is not None
        }
        if not arrays or (node.op == "Conv2DBackpropInput" and "kernel" not in arrays):
            return None
        facts = self._facts(node, kind)
        fused = [word for word in node.attributes.texts("fused_ops") if word in _FUSED_ACTIVATIONS]
        return GraphLayer(name, kind, arrays, facts | ({"activation": _FUSED_ACTIVATIONS[fused[0]]} if fused else {}))

    def _facts(self, node: GraphNode, kind: str) -> Facts:
        if kind == "BatchNormalization":
            return {"eps": node.attributes.real("epsilon")}
        if kind == "Dense":
            turned: Facts = {"kernel_axes": ["out", "in"]} if node.attributes.flag("transpose_b") else {}
            return turned | flattening(self.nodes, node, self.constant)
        return self._convolution(node)

    def _add_bias(self, node: GraphNode, layers: Mapping[str, GraphLayer], owned: set[str]) -> None:
        """Give a layer the bias that this node adds to its output."""
        if node.op not in ("BiasAdd", "Add", "AddV2") or len(node.inputs) != 2:
            return
        for before, other in (node.inputs, node.inputs[::-1]):
            squeeze = self.nodes.get(before)
            if squeeze is not None and squeeze.op == "Squeeze" and squeeze.inputs:  # a convolution along one axis
                before = squeeze.inputs[0]
            layer, array = layers.get(before), self._array(other)
            if layer is None or array is None or array in owned:
                continue
            if "bias" not in layer.arrays and layer.kind in _WITH_BIAS:
                layer.arrays["bias"] = array
                owned.add(array)

    def _unfused_batch_norm(self, name: str, node: GraphNode) -> GraphLayer | None:
        """`rsqrt(variance + eps)`, as tf.nn.batch_normalization writes it; eps is a constant."""
        total = self.nodes.get(node.inputs[0])
        if total is None or total.op not in ("Add", "AddV2") or len(total.inputs) != 2:
            return None
        variance, eps = self._array(total.inputs[0]), self.constant(total.inputs[1])
        if variance is None or eps is None or eps.size != 1:
            return None
        facts: Facts = {"eps": decimal(float(eps.reshape(())))}
        return GraphLayer(name, "BatchNormalization", {"moving_variance": variance}, facts)

    def _convolution(self, node: GraphNode) -> Facts:
        """Padding, strides and dilation along the axes of space, with the zeros of a Pad node before it."""
        settings = node.attributes
        space = slice(2, None) if settings.text("data_format").startswith("NC") else slice(1, -1)
        padding = settings.text("padding").lower()
        facts: Facts = {"padding": padding, "strides": settings.integers("strides")[space]}
        if padding == "explicit":
            pads = settings.integers("explicit_paddings")
            facts["padding"] = [pads[index : index + 2] for index in range(0, len(pads), 2)][space]
        if dilation := settings.integers("dilations")[space]:
            facts["dilation"] = dilation
        return facts | self._before_convolution(node, facts, space)

    def _before_convolution(self, node: GraphNode, facts: Facts, space: slice) -> Facts:
        """What the node before a convolution changes of its facts."""
        before = self.nodes.get(node.inputs[0]) if node.inputs and node.op != "Conv2DBackpropInput" else None
        if before is None:
            return {}
        if before.op == "ExpandDims" and node.op == "Conv2D":  # along one axis alone
            along: Facts = {"strides": facts.get("strides"), "dilation": facts.get("dilation")}
            return {key: sizes[1:] for key, sizes in along.items() if isinstance(sizes, list) and sizes[1:]}
        if before.op in ("Pad", "PadV2", "MirrorPad"):
            return self._padded(node.inputs[0], before, node.attributes.text("padding").lower(), space)
        return self._dilated(node, before) if before.op == "SpaceToBatchND" else {}

    def _padded(self, name: str, pad: GraphNode, padding: str, space: slice) -> Facts:
        """The padding of a convolution behind a Pad node; in words when it is no number of zeros."""
        sides = self.constant(pad.inputs[1]) if len(pad.inputs) > 1 else None
        value = self.constant(pad.inputs[2]) if len(pad.inputs) > 2 else np.zeros(1)
        if sides is None or value is None or sides.ndim != 2 or value.any():
            return {"padding": "computed by the graph", "padding_layer": name}
        pairs = sides.astype(int).tolist()[space]
        if pad.op == "MirrorPad":
            return {"padding": f"{pad.attributes.text('mode').lower()} of {pairs}", "padding_layer": name}
        return {"padding": pairs if padding == "valid" else f"{pairs}, then {padding}", "padding_layer": name}

    def _dilated(self, node: GraphNode, before: GraphNode) -> Facts:
        """A convolution with holes, as TF1 writes it: the map is cut into batches, and put together behind."""
        crops_of = self.crops.get(id(node))
        names = [*before.inputs[1:3], *([crops_of] if crops_of else [])]
        numbers = [value.astype(int) for name in names if (value := self.constant(name)) is not None]
        if len(numbers) < 3 or numbers[1].shape != numbers[2].shape:
            return {"padding": "computed by the graph"}
        block, pads, crops = numbers
        return {"dilation": block.reshape(-1).tolist(), "padding": (pads - crops).tolist()}

    @cached_property
    def crops(self) -> dict[int, str]:
        """id of a node → the constant that a BatchToSpaceND behind it crops its map by."""
        return {
            id(self.nodes[node.inputs[0]]): node.inputs[2]
            for node in self.nodes.values()
            if node.op == "BatchToSpaceND" and len(node.inputs) > 2 and node.inputs[0] in self.nodes
        }


def _kernel_and_bias(node: GraphNode) -> dict[int, str]:
    """The inputs that are weights; an operation may be fused with the addition of a bias, or with a batch-norm."""
    return {1: "kernel"} | ({2: "bias"} if "BiasAdd" in node.attributes.texts("fused_ops") else {})


_WITH_BIAS = frozenset((*_CONVOLUTIONS.values(), "Dense"))


def _is_gradient(name: str) -> bool:
    return name.startswith("gradients") or "/gradients/" in name


def _without_part(name: str) -> str:
    head, slash, last = name.rpartition("/")
    return head if slash and last.startswith("part_") and last[5:].isdigit() else name


def _name_layers(layers: Sequence[GraphLayer]) -> None:
    """Name each layer after the scope of its first array, or, where another layer has that, after its node."""
    taken: set[str] = set()
    for layer in layers:
        array = next(iter(layer.arrays.values()))
        numbered = (f"{layer.node}#{number}" for number in count(2))
        names = chain((array.rpartition("/")[0], layer.node, array), numbered)
        layer.name = next(name for name in names if name and name not in taken)
        taken.add(layer.name)


# --- graphs beside a checkpoint ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GraphFacts:
    """What a graph determines: array → its layer's type; requirements; the file when it was read; what went wrong."""

    layer_types: Mapping[str, str]
    requirements: tuple[Requirement, ...] = ()
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def added_to(self, infos: Mapping[str, ArrayInfo]) -> dict[str, ArrayInfo]:
        """The same arrays with their layers' types."""
        types = self.layer_types
        return {name: replace(info, layer_type=types[name]) if name in types else info for name, info in infos.items()}


def graph_facts(program: Path, names: Collection[str]) -> GraphFacts:
    """What the graph in `program` determines of the variables `names`; nothing for a damaged or missing graph.

    program  a `.meta` or a `saved_model.pb`
    """
    try:
        size = program.stat().st_size
        if not 0 < size <= _MOST_BYTES:
            note = f"{program.name} has {size} bytes and was not read: paddings and epsilons are not known."
            return GraphFacts({}, files=(program,), notes=(note,))
        graph = _graph_of_program(bytes(mapped(program)), is_saved_model=program.name == "saved_model.pb")
        return _facts(program, nodes_of_graph(graph), set(names))
    except OSError:
        return GraphFacts({})
    except (CheckpointError, RecursionError) as error:
        note = f"{program.name} is damaged, so paddings and epsilons are not known: {error}."
        return GraphFacts({}, files=(program,), notes=(note,))


def _facts(program: Path, nodes: Mapping[str, GraphNode], names: set[str]) -> GraphFacts:
    graph = TensorFlowGraph(nodes, names, lambda name: constant_of(nodes, name))
    layers = graph.layers()
    types = {array: layer.kind for layer in layers for array in layer.arrays.values()}
    return GraphFacts(types, tuple(requirements_of(graph, layers)), (program,))


def with_graph_layers(infos: Mapping[str, ArrayInfo], layers: Sequence[GraphLayer]) -> dict[str, ArrayInfo]:
    """The arrays of the layers in the graph's order, each with its layer, then all others; integers are no weights."""
    ordered: dict[str, ArrayInfo] = {}
    for layer in layers:
        for leaf, name in layer.arrays.items():
            ordered[name] = replace(infos[name], layer=layer.name, leaf=leaf, layer_type=layer.kind)
    for name, info in infos.items():
        is_setting = info.dtype.startswith(("int", "uint", "bool"))
        ordered.setdefault(name, replace(info, role="constant") if is_setting else info)
    return ordered


def requirements_of(graph: TensorFlowGraph, layers: Sequence[GraphLayer]) -> Iterator[Requirement]:
    """The facts of all layers, then how they are connected."""
    for layer in layers:
        yield from requirements_for(layer.name, layer.facts)
    owners = {array: layer.name for layer in layers for array in layer.arrays.values()}
    kinds = {layer.node: (layer.name, layer.kind) for layer in layers}

    def owners_of(name: str) -> list[str]:
        return [owners[array] for array in graph.arrays_of([name]) if array in owners]

    yield from tensorflow_wiring(graph.nodes, kinds, owners_of, graph.constant)


def _graph_of_program(content: bytes, *, is_saved_model: bool) -> memoryview:
    """The GraphDef of a MetaGraphDef, or of the first MetaGraphDef of a SavedModel."""
    meta = _message(memoryview(content), 2) if is_saved_model else memoryview(content)
    return _message(meta, 2)


def _message(message: memoryview, wanted: int) -> memoryview:
    return next((field_bytes(value) for number, value in fields(message) if number == wanted), memoryview(b""))


def constant_of(nodes: Mapping[str, GraphNode], name: str) -> np.ndarray | None:
    """The values of a small constant in the graph; None for large ones and for what is computed."""
    node = nodes.get(name)
    for _ in range(4):
        if node is None or node.op not in ("Identity", "Cast") or not node.inputs:
            break
        node = nodes.get(node.inputs[0])
    if node is None or node.op != "Const":
        return None
    dtype, shape = tensor_dtype_and_shape(node.tensor)
    if min(shape, default=0) < 0 or prod(shape) > _MOST_NUMBERS:
        return None
    try:
        return proto_values(node.tensor, DTYPES.get(dtype, "float32"), shape, repeats=True)
    except CheckpointError:
        return None
