"""One ONNX graph as it is translated: what each of its values is, and the nodes that have been written so far."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from regraft.arrays import Checkpoint
from regraft.formats.onnx_graph import OnnxLayer, module_of
from regraft.formats.onnx_nodes import OnnxBody, OnnxGraph, OnnxNode
from regraft.networks.drafting import Draft, UnsupportedError, literal
from regraft.networks.network import Array, Input, Literal, Untranslated
from regraft.networks.onnx_constants import MOST_NUMBERS, fill_value, folded, ints
from regraft.networks.onnx_moves import PASSED, moves_of
from regraft.operations.joins import Fill
from regraft.operations.operation import Shape

_MOST_WRITTEN = 64  # numbers of a constant that is written into the code
_MOST_EVALUATED = 1 << 26  # numbers of the weights of one recurrent layer
_HALVES = ("float16", "bfloat16")
_DOMAINS = ("", "ai.onnx", "com.microsoft")
_TRUTHS = frozenset({
    "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf",
})  # fmt: skip
_INTEGERS = frozenset({"Shape", "Size", "ArgMax", "ArgMin", "NonZero", "NonMaxSuppression"})


@dataclass
class Translation:
    """What has been translated of a graph; a branch of an `If` has one of its own that knows what surrounds it.

    table   operator → its translation
    layers  first output of a node → the layer that it computes
    names   tensor → its name in the checkpoint
    values  value → what it is: another value, an array, or a constant
    known   values whose numbers are known as the graph is read
    dtypes  value → its dtype, where it is none of float32's
    real        values that are integers in the file and stay real numbers in the network
    units       scales that count as 1, because what they scale reads as real numbers
    own         ids of the nodes of this very graph
    absorbed    ids of the nodes that have become part of a layer
    """

    graph: OnnxGraph
    checkpoint: Checkpoint
    opset: int
    table: "Mapping[str, Translate]"
    layers: dict[str, OnnxLayer]
    names: Mapping[str, str]
    outputs: frozenset[str] = frozenset()
    values: dict[str, Input] = field(default_factory=dict)
    known: dict[str, np.ndarray | None] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    draft: Draft = field(default_factory=Draft)
    real: set[str] = field(default_factory=set)
    units: set[str] = field(default_factory=set)
    own: frozenset[int] = frozenset()
    absorbed: set[int] = field(default_factory=set)

    # --- what a value is --------------------------------------------------------------------------------------------

    def value(self, name: str) -> Input:
        """A node's input: the name of a value, an array of the checkpoint, or a constant; None for "" (left out)."""
        if not name:
            return None
        if name not in self.values:
            tensor = self.graph.tensors.get(name)
            self.values[name] = name if tensor is None else self._of_tensor(name)
        return self.values[name]

    def inputs(self, node: OnnxNode, *indices: int) -> tuple[Input, ...]:
        """All inputs of a node, or those of these indices."""
        wanted = indices or range(len(node.inputs))
        return tuple(self.value(node.input(index)) for index in wanted)

    def array(self, name: str) -> Array | None:
        """The array that a value is; None for what is computed as the network runs."""
        value = self.value(name)
        if isinstance(value, Literal):  # a number that the file holds without a name in the checkpoint
            return None
        return value if isinstance(value, Array) else None

    def weight(self, name: str) -> Array | None:
        """The array that a layer takes as its weight, also one of a few numbers; None for what is computed."""
        value = self.value(name)
        if isinstance(value, Array) or not isinstance(value, Literal):
            return value if isinstance(value, Array) else None
        if name in self.graph.tensors and self.names[name] in self.checkpoint:
            return Array((self.names[name],))
        numbers = self.constant(name)
        if numbers is None or not numbers.size or (numbers != numbers.flat[0]).any():
            return None
        return Array((), (Fill(float(numbers.flat[0]), numbers.shape),))

    def only_user(self, node: OnnxNode) -> OnnxNode | None:
        """The node of the same graph that takes what this one gives, when nothing else does."""
        uses = self.graph.consumers.get(node.outputs[0], [])
        if len(uses) != 1 or node.outputs[0] in self.outputs:
            return None
        user = uses[0][0]
        return user if id(user) in self.own else None

    def layer_name(
        self, node: OnnxNode, operator: str, arrays: Mapping[str, Array], settings: Mapping[str, object]
    ) -> str:
        """The name of a node's layer; the same for nodes that have the same arrays and settings."""
        layer = self.layers.get(node.outputs[0])
        candidates = [layer.name if layer is not None else "", module_of(node), node.name, node.outputs[0]]
        return self.draft.layer_name(operator, arrays, settings, candidates)

    def shape(self, array: Array) -> Shape:
        """The shape of an array as the network takes it."""
        return array.shape_in(self.checkpoint.infos)

    def constant(self, name: str) -> np.ndarray | None:
        """The numbers of a small constant; None for large ones and for what is computed as the network runs."""
        if name not in self.known:
            tensor = self.graph.tensors.get(name)
            is_small = tensor is not None and prod(tensor.shape) <= MOST_NUMBERS
            self.known[name] = tensor.read() if tensor is not None and is_small else None
        return self.known[name]

    def integers(self, name: str) -> list[int] | None:
        """The integers of a small constant; None when they are not known."""
        value = self.constant(name) if name else None
        return None if value is None else ints(value)

    def needed_integers(self, name: str, what: str) -> list[int]:
        """The same. Raises UnsupportedError when they are computed as the network runs."""
        numbers = self.integers(name)
        if numbers is None:
            raise UnsupportedError(f"its {what} are computed as the network runs")
        return numbers

    def number(self, name: str) -> float | None:
        """The value of a constant that is one number; None for all others."""
        value = self.constant(name) if name else None
        return None if value is None or value.size != 1 else float(value.reshape(()))

    def dtype(self, name: str) -> str:
        """The dtype of a value; halves count as float32, in which they are computed."""
        tensor = self.graph.tensors.get(name)
        dtype = tensor.dtype if tensor is not None else self.dtypes.get(name, "float32")
        return "float32" if dtype in _HALVES else dtype

    def is_integer(self, name: str) -> bool:
        """Whether a value holds whole numbers."""
        return "int" in self.dtype(name)

    def _of_tensor(self, name: str) -> Input:
        """A tensor of the file: an array of the checkpoint, or a constant when it is a setting of a node."""
        shown = self.names[name]
        info = self.checkpoint.get(shown)
        small = self.constant(name) if prod(self.graph.tensors[name].shape) <= _MOST_WRITTEN else None
        if small is not None and (info is None or info.role == "constant"):
            return literal(small)
        if info is None:
            raise UnsupportedError(f"the constant {name!r} is not in the checkpoint")
        return Array((shown,))

    # --- writing ------------------------------------------------------------------------------------------------------

    def emit(self, operator: str, inputs: Sequence[Input], outputs: Sequence[str], **settings: object) -> None:
        """Add a step."""
        self.draft.emit(operator, inputs, outputs, settings=settings)

    def unnamed(self, node: OnnxNode) -> str:
        """A name for a value that the file does not have."""
        return self.draft.unnamed(node.outputs[0] or node.name)

    def step(self, operator: str, inputs: Sequence[Input], like: str, **settings: object) -> str:
        """Add a node that the file does not have, and give the name of its value."""
        output = self.draft.unnamed(like)
        self.emit(operator, inputs, [output], **settings)
        return output

    def give(self, output: str) -> None:
        """Let an output of the graph be a value of that name, whatever it is."""
        value = self.value(output)
        if value != output or output in self.graph.tensors:
            self.emit("identity", [value], [output])

    def alias(self, node: OnnxNode, value: Input, index: int = 0) -> None:
        """Let an output of a node be another value."""
        output = node.outputs[index]
        if output in self.outputs:
            self.emit("identity", [value], [output])
        else:
            self.values[output] = value

    # --- constants that are computed ----------------------------------------------------------------------------------

    def evaluated(self, name: str, depth: int = 32) -> np.ndarray | None:
        """The numbers of a value that depends on tensors of the file alone, of any size; None for all others."""
        tensor, node = self.graph.tensors.get(name), self.graph.producers.get(name)
        if tensor is not None:
            return tensor.read()
        if node is None or depth == 0 or node.bodies:
            return None
        values = [self.evaluated(source, depth - 1) if source else None for source in node.inputs]
        if any(source and value is None for source, value in zip(node.inputs, values, strict=True)):
            return None
        return folded(self.graph, node, values, most=_MOST_EVALUATED)

    def sources_of(self, name: str, most: int) -> list[str]:
        """The values that another one is computed from, nearest first."""
        waiting, seen = [name], dict.fromkeys([name])
        while waiting and len(seen) < most:
            node = self.graph.producers.get(waiting.pop(0))
            more = [source for source in (node.inputs if node else ()) if source and source not in seen]
            seen |= dict.fromkeys(more)
            waiting += more
        return list(seen)

    def fold(self, node: OnnxNode) -> bool:
        """Whether the node's output is known as the graph is read, and has been noted."""
        if len(node.outputs) != 1 or node.bodies or not self.units.isdisjoint(node.inputs):
            return False
        return self._fold_shape(node) or self._moved(node) or self._fold_constants(node)

    def _fold_shape(self, node: OnnxNode) -> bool:
        """The shape of an array of the file."""
        array = self.array(node.input(0)) if node.operator == "Shape" else None
        if array is None:
            return False
        sizes = self.shape(array)[self.graph.integer(node, "start", 0) : _end(self.graph, node)]
        return self._fold_to(node, np.array(sizes, np.int64))

    def _fold_constants(self, node: OnnxNode) -> bool:
        """What is computed from constants alone."""
        values = [self.constant(name) if name else None for name in node.inputs]
        if not node.inputs or any(name and value is None for name, value in zip(node.inputs, values, strict=True)):
            return False
        if node.operator == "ConstantOfShape":
            self.dtypes[node.outputs[0]] = fill_value(self.graph, node).dtype.name
        result = folded(self.graph, node, values)
        return result is not None and self._fold_to(node, result)

    def _fold_to(self, node: OnnxNode, result: np.ndarray) -> bool:
        """Note the numbers; whether they are few enough to be written where they are used."""
        output = node.outputs[0]
        self.known[output] = result
        self.dtypes[output] = result.dtype.name
        if result.size > _MOST_WRITTEN or output in self.outputs:
            return False
        self.values[output] = literal(result)
        return True

    def _moved(self, node: OnnxNode) -> bool:
        """Whether the node only moves the numbers of an array, which then becomes part of the array's operations."""
        array = self.array(node.input(0)) if node.outputs[0] not in self.outputs else None
        if array is None:
            return False
        values = [self.constant(name) if name else None for name in node.inputs[1:]]
        is_known = all(not name or value is not None for name, value in zip(node.inputs[1:], values, strict=True))
        moves = moves_of(self.graph, node, self.shape(array), values) if is_known or node.operator in PASSED else None
        if moves is None:
            return False
        self.values[node.outputs[0]] = Array(array.sources, (*array.operations, *moves))
        self.dtypes[node.outputs[0]] = self.dtype(node.input(0))
        return True


Translate = Callable[[Translation, OnnxNode], None]


def walk(translation: Translation, body: OnnxBody, *, inline: bool = False) -> None:
    """Translate all nodes of a graph, in their order.

    inline  its outputs are no outputs of the network, but values of the surrounding graph
    """
    translation.own = frozenset(map(id, body.nodes))
    for node in body.nodes:
        if node.operator == "Constant" or id(node) in translation.absorbed or not node.outputs:
            continue
        try:
            if not translation.fold(node):
                _translate(translation, node)
            if node.input(0) in translation.real and node.operator not in ("DequantizeLinear", "Cast"):
                translation.real.update(node.outputs)
        except UnsupportedError as error:
            translation.draft.untranslated.append(Untranslated(_word(node), node.name or node.outputs[0], str(error)))
    for output in () if inline else body.outputs:
        translation.give(output)


def _translate(translation: Translation, node: OnnxNode) -> None:
    """Translate one node, and note the dtype of what it gives."""
    translate = translation.table.get(node.operator if node.domain in _DOMAINS else "")
    if translate is None:
        raise UnsupportedError
    translate(translation, node)
    translation.dtypes.setdefault(node.outputs[0], _dtype_after(translation, node))


def _word(node: OnnxNode) -> str:
    return node.operator if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.operator}"


def _dtype_after(translation: Translation, node: OnnxNode) -> str:
    """The dtype of what a node gives: most give that of their first input."""
    kind = node.operator
    if kind in _TRUTHS:
        return "bool"
    if kind in _INTEGERS:
        return "int64"
    return translation.dtype(node.input(1 if kind == "Where" else 0))


def _end(graph: OnnxGraph, node: OnnxNode) -> int | None:
    return graph.integer(node, "end", 0) if "end" in node.attributes else None
