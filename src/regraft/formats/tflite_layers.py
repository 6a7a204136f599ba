"""The layers of a TensorFlow Lite model: their constants, paddings and strides, and how they are connected."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from regraft.arrays import Facts, Requirement, requirements_for
from regraft.containers.flatbuffer import FlatTable
from regraft.formats.flattening import SPATIAL, flatten_facts

Owner = tuple[str, str, str]  # type of the layer, layer, leaf


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where an operator with weights keeps what. A number is a field of its options; None where it has no such field.

    weight, bias, map  indices among the operator's inputs
    """

    name: str
    weight: int
    bias: int
    map: int = 0
    strides: tuple[int, int] | None = None
    dilation: tuple[int, int] | None = None
    multiplier: int | None = None
    activation: int = 0


# Codes are those of BuiltinOperator; strides and dilation as (height, width).
_KINDS = {
    3: _Kind("Conv2D", 1, 2, strides=(2, 1), dilation=(5, 4), activation=3),
    4: _Kind("DepthwiseConv2D", 1, 2, strides=(2, 1), dilation=(6, 5), multiplier=3, activation=4),
    9: _Kind("Dense", 1, 2),
    67: _Kind("Conv2DTranspose", 1, 3, map=2, strides=(2, 1), activation=3),
}
_AVERAGE_POOL, _CONCATENATION, _DEQUANTIZE, _MAX_POOL, _RESHAPE = 1, 2, 6, 17, 22
_PAD, _TRANSPOSE, _MEAN, _PADV2, _LEAKY_RELU, _MIRROR_PAD = 34, 39, 40, 60, 98, 100
_JOINS = {0: "Add", _CONCATENATION: "Concat", 18: "Multiply", 106: "Add"}
_FUSED_FIELD = {0: 0, _CONCATENATION: 1, 18: 0, _AVERAGE_POOL: 5, _MAX_POOL: 5}  # operator → its fused activation
_POOLS = {_AVERAGE_POOL: "average", _MAX_POOL: "max"}
_ACTIVATION_OPERATORS = {14: "sigmoid", 19: "relu", 21: "relu6", 25: "softmax", 28: "tanh", 111: "elu(1)",
                         117: "hard_swish", 150: "gelu"}  # fmt: skip
_WORDS = {_PAD: "Pad", _PADV2: "Pad", _MIRROR_PAD: "MirrorPad", _RESHAPE: "Reshape", _TRANSPOSE: "Transpose",
          40: "Mean", 43: "Squeeze", 54: "PRelu"}  # fmt: skip
_DENSIFY = 124
_PASSED = (_DEQUANTIZE, 114, _DENSIFY)  # also quantise: they change how numbers are stored
_PADDINGS = {0: "same", 1: "valid"}
_ACTIVATIONS = {0: "linear", 1: "relu", 2: "relu_n1_to_1", 3: "relu6", 4: "tanh", 5: "sign_bit"}


@dataclass(slots=True)
class Layers:
    """owners: constant's name → whose it is; requirements: in the order of the operators."""

    owners: dict[str, Owner] = field(default_factory=dict)
    requirements: tuple[Requirement, ...] = ()

    def add(self, other: "Layers") -> None:
        """Those of a further subgraph."""
        self.owners |= other.owners
        self.requirements += other.requirements


@dataclass(frozen=True)
class Constants:
    """The constants of one subgraph.

    names   index of a tensor → its name
    dtypes  name → dtype as stored
    values  gives the values of a small constant by its index; None for others
    """

    names: Mapping[int, str]
    dtypes: Mapping[str, str]
    values: Callable[[int], np.ndarray | None]


@dataclass(frozen=True)
class _Operator:
    code: int
    inputs: list[int]
    outputs: list[int]
    options: FlatTable | None


def layers_of(model: FlatTable, subgraph: FlatTable, constants: Constants) -> Layers:
    """The layers of one subgraph.

    A layer is named by its weight's name up to the last slash; by the whole name when that is taken.
    """
    return _Subgraph(model, subgraph, constants).layers()


class _Subgraph:
    """One walk over the operators of a subgraph.

    producers  tensor → the operator that gives it
    labels     tensor → what gives it: "" the input, a layer, or an operator by its output's name
    """

    def __init__(self, model: FlatTable, subgraph: FlatTable, constants: Constants) -> None:
        codes = [max(code.number(0, "b"), code.number(3, "i")) for code in model.tables(1)]
        self.tensors = subgraph.tables(0)
        self.operators = [_operator(table, codes) for table in subgraph.tables(3)]
        self.constants = constants
        self.names = dict(constants.names)
        self.producers = {index: operator for operator in self.operators for index in operator.outputs}
        self.labels: dict[int, str] = dict.fromkeys((int(index) for index in subgraph.numbers(1, "<i4")), "")
        self.result = Layers()
        self.layer_names: set[str] = set()

    def layers(self) -> Layers:
        """Owners of the constants, and the requirements of all operators."""
        for operator in self.operators:
            self._widen(operator)
        requirements: list[Requirement] = []
        for operator in self.operators:
            layer = self._own(operator)
            facts = self._layer_facts(operator) if layer else {}
            requirements += (Requirement(layer, attribute, value) for attribute, value in facts.items())
            requirements += self._connect(operator, layer)
        self.result.requirements = tuple(requirements)
        return self.result

    def _widen(self, operator: _Operator) -> None:
        """float16 and sparse weights are widened by an operator before they are used: its output is the constant."""
        if operator.code in (_DEQUANTIZE, _DENSIFY) and operator.inputs and operator.outputs:
            name = self.names.get(operator.inputs[0])
            if name is not None and (operator.code == _DENSIFY or self.constants.dtypes[name] == "float16"):
                self.names[operator.outputs[0]] = name

    def _own(self, operator: _Operator) -> str:
        """The layer that the operator computes, whose constants are noted; "" when it has no weight of its own."""
        kind = _KINDS.get(operator.code)
        weight = self._constant(operator, kind.weight) if kind else None
        if kind is None or weight is None or weight in self.result.owners:
            return ""
        prefix = weight.rpartition("/")[0]
        layer = weight if not prefix or prefix in self.layer_names else prefix
        self.layer_names.add(layer)
        self.result.owners[weight] = (kind.name, layer, "kernel")
        bias = self._constant(operator, kind.bias)
        if bias is not None:
            self.result.owners.setdefault(bias, (kind.name, layer, "bias"))
        return layer

    def _constant(self, operator: _Operator, index: int) -> str | None:
        return self.names.get(operator.inputs[index]) if index < len(operator.inputs) else None

    def _connect(self, operator: _Operator, layer: str) -> Iterator[Requirement]:
        """What feeds the operator and what it does; its outputs get its label."""
        kind = _KINDS.get(operator.code)
        inputs = operator.inputs if kind is None else operator.inputs[kind.map : kind.map + 1]
        feeding = [self.labels[index] for index in inputs if index in self.labels]
        if not feeding or not operator.outputs:
            return
        if operator.code in _PASSED:
            self.labels.update(dict.fromkeys(operator.outputs, feeding[0]))
            return
        label = layer or self._label(operator)
        yield Requirement(label, "inputs", feeding)
        yield Requirement(label, "operation", kind.name if kind and layer else self._operation(operator))
        fused = "" if layer else _fused(operator)
        if not layer:
            yield from requirements_for(label, self._facts(operator))
            yield from _activated(label, fused)
        self.labels.update(dict.fromkeys(operator.outputs, f"{label} ({fused})" if fused else label))

    def _label(self, operator: _Operator) -> str:
        name = self._tensor_name(operator.outputs[0])
        return f"{name} (value)" if name in self.layer_names or name in self.constants.dtypes else name

    def _tensor_name(self, index: int) -> str:
        name = self.tensors[index].text(3) if 0 <= index < len(self.tensors) else ""
        return name or f"tensor_{index}"

    def _shape(self, index: int) -> list[int]:
        return [int(size) for size in self.tensors[index].numbers(0, "<i4")] if 0 <= index < len(self.tensors) else []

    def _operation(self, operator: _Operator) -> str:
        """What an operator without weights does, in Keras' words."""
        code = operator.code
        if code == _MEAN and self._is_over_map(operator):
            return "GlobalAveragePooling2D"
        if code in _ACTIVATION_OPERATORS or code == _LEAKY_RELU:
            return "Activation"
        if code in _POOLS:
            return f"{'Global' * self._is_global(operator)}{_POOLS[code].title()}Pooling2D"
        return _JOINS.get(code) or _WORDS.get(code, f"operator {code}")

    def _is_over_map(self, operator: _Operator) -> bool:
        """Whether a mean is one over height and width."""
        axes = self.constants.values(operator.inputs[1]) if len(operator.inputs) > 1 else None
        return axes is not None and sorted(int(axis) % 4 for axis in axes.reshape(-1)) == [1, 2]

    def _is_global(self, operator: _Operator) -> bool:
        """Whether a pooling covers its whole map, as a mean over height and width does: one value for each channel."""
        options = operator.options
        size = [] if options is None else [options.number(4, "i"), options.number(3, "i")]
        return size == self._shape(operator.inputs[0])[1:3] and self._shape(operator.outputs[0])[1:3] == [1, 1]

    def _facts(self, operator: _Operator) -> Facts:
        """What a pooling, a padding or an activation does."""
        code, options = operator.code, operator.options
        if code in _ACTIVATION_OPERATORS:
            return {"activation": _ACTIVATION_OPERATORS[code]}
        if code == _LEAKY_RELU and options is not None:
            return {"activation": f"leaky_relu({options.number(0, 'f'):g})"}
        if code in _POOLS and options is not None and not self._is_global(operator):
            return {
                "pool": _POOLS[code], "pool_size": [options.number(4, "i"), options.number(3, "i")],
                "strides": [options.number(2, "i"), options.number(1, "i")],
                "padding": _PADDINGS.get(options.number(0, "b"), "unknown"),
            }  # fmt: skip
        sides = self._sides(operator) if code in (_PAD, _PADV2) else None
        return {"pad": sides} if isinstance(sides, list) else {}

    def _layer_facts(self, operator: _Operator) -> Facts:
        """The settings of a layer, in the words of `docs/reference-requirements.md`."""
        kind = _KINDS[operator.code]
        facts = _settings(kind, operator.options)
        before = self._before(operator, kind.map)
        if before is None:
            return facts
        if kind.name == "Dense":
            return facts | self._flattened(operator, before)
        if before.code in (_PAD, _PADV2, _MIRROR_PAD) and kind.name != "Conv2DTranspose":
            padding, sides = facts.get("padding"), self._sides(before)
            is_added = isinstance(sides, list) and padding == "valid"
            facts["padding"] = sides if is_added or isinstance(sides, str) else f"{sides}, then {padding}"
            facts["padding_layer"] = self._label(before)
        return facts

    def _before(self, operator: _Operator, index: int) -> _Operator | None:
        """The operator that computes an input, past those that change nothing."""
        before = self.producers.get(operator.inputs[index]) if index < len(operator.inputs) else None
        while before is not None and before.code in _PASSED and before.inputs:
            before = self.producers.get(before.inputs[0])
        return before

    def _sides(self, operator: _Operator) -> list[list[int]] | str:
        """What a padding adds to height and width; in words when it is no number of zeros."""
        sides = self.constants.values(operator.inputs[1]) if len(operator.inputs) > 1 else None
        if sides is None or sides.shape != (4, 2) or sides[[0, 3]].any() or not self._adds_zeros(operator):
            return "computed by the graph"
        pairs: list[list[int]] = sides[1:3].astype(int).tolist()
        if operator.code == _MIRROR_PAD:
            mode = operator.options.number(0, "b") if operator.options is not None else 0
            return f"{'symmetric' if mode else 'reflect'} of {pairs}"
        return pairs

    def _adds_zeros(self, operator: _Operator) -> bool:
        """Whether the value of a padding is 0, where it has one."""
        value = self.constants.values(operator.inputs[2]) if len(operator.inputs) > 2 else np.zeros(1)
        return value is not None and not value.any()

    def _flattened(self, operator: _Operator, before: _Operator) -> Facts:
        """The order in which a map was flattened before a dense layer: (h, w, c), unless it was transposed."""
        shape = self._shape(before.inputs[0]) if before.code == _RESHAPE and before.inputs else []
        if len(shape) - 2 not in SPATIAL or len(self._shape(operator.inputs[0])) > 2 or min(shape[1:]) < 1:
            return {}
        order = self._order(before.inputs[0], len(shape))
        if order[:1] != [0] or sorted(order) != list(range(len(shape))):
            return flatten_facts(["?"], [], None)
        stored = [*SPATIAL[len(shape) - 2], "c"]
        axes = [stored[number - 1] for number in order[1:]]
        return flatten_facts(axes, shape[1:], shape[1 + axes.index("c")])

    def _order(self, index: int, rank: int) -> list[int]:
        """The order of axes that a transposing gives the tensor; none when it is computed."""
        turned = self.producers.get(index)
        if turned is None or turned.code != _TRANSPOSE:
            return list(range(rank))
        order = self.constants.values(turned.inputs[1]) if len(turned.inputs) > 1 else None
        return [] if order is None else [int(number) for number in order.reshape(-1)]


def _operator(table: FlatTable, codes: Sequence[int]) -> _Operator:
    index = table.number(0, "I")
    inputs, outputs = ([int(index) for index in table.numbers(number, "<i4")] for number in (1, 2))
    return _Operator(codes[index] if index < len(codes) else -1, inputs, outputs, table.table(4))


def _fused(operator: _Operator) -> str:
    """The activation that an operator without weights does behind its own work; "" for none."""
    if operator.code not in _FUSED_FIELD or operator.options is None:
        return ""
    number = operator.options.number(_FUSED_FIELD[operator.code], "b")
    return "" if number == 0 else _ACTIVATIONS.get(number, "unknown")


def _activated(label: str, activation: str) -> Iterator[Requirement]:
    """The activation behind an operator, as a step of its own; nothing for none."""
    if not activation:
        return
    name = f"{label} ({activation})"
    yield Requirement(name, "inputs", [label])
    yield Requirement(name, "operation", "Activation")
    yield Requirement(name, "activation", activation)


def _settings(kind: _Kind, options: FlatTable | None) -> Facts:
    """The layer's own options."""
    if options is None:
        return {}
    facts: Facts = {}
    if kind.strides is not None:
        facts["padding"] = _PADDINGS.get(options.number(0, "b"), "unknown")
        facts["strides"] = [options.number(number, "i") for number in kind.strides]
    if kind.dilation is not None:
        facts["dilation"] = [options.number(number, "i", 1) for number in kind.dilation]
    if kind.multiplier is not None:
        facts["depth_multiplier"] = options.number(kind.multiplier, "i")
    facts["activation"] = _ACTIVATIONS.get(options.number(kind.activation, "b"), "unknown")
    return facts
