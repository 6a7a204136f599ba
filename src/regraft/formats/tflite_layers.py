"""What the operators of a TensorFlow Lite model say of its constants: kind of layer, padding, strides, activation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from regraft.arrays import Requirement
from regraft.containers.flatbuffer import FlatTable

Owner = tuple[str, str, str]  # kind of layer, layer, leaf


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where an operator keeps what. A number is a field of its options; None where it has no such field.

    weight, bias  positions among the operator's inputs
    """

    name: str
    weight: int
    bias: int
    strides: tuple[int, int] | None = None
    dilation: tuple[int, int] | None = None
    multiplier: int | None = None
    activation: int = 0


# BuiltinOperator → its kind; strides and dilation as (height, width)
_KINDS = {
    3: _Kind("Conv2D", 1, 2, strides=(2, 1), dilation=(5, 4), activation=3),
    4: _Kind("DepthwiseConv2D", 1, 2, strides=(2, 1), dilation=(6, 5), multiplier=3, activation=4),
    9: _Kind("Dense", 1, 2),
    67: _Kind("Conv2DTranspose", 1, 3, strides=(2, 1), activation=3),
}
_DEQUANTIZE = 6
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


def layers_of(model: FlatTable, subgraph: FlatTable, constants: Mapping[int, str], dtypes: Mapping[str, str]) -> Layers:
    """The layers of one subgraph.

    constants  index of a tensor → its name
    dtypes     name → dtype as stored

    A layer is named by its weight's name up to the last slash; by the whole name when that is taken.
    """
    codes = [max(code.number(0, "b"), code.number(3, "i")) for code in model.tables(1)]
    operators = [(_code(operator, codes), operator) for operator in subgraph.tables(3)]
    constants = dict(constants)
    for code, operator in operators:
        if code == _DEQUANTIZE:  # float16 weights are widened by an operator before they are used
            constants |= dict(_passed(operator, constants, dtypes))
    found = Layers()
    taken: set[str] = set()
    for code, operator in operators:
        if code not in _KINDS:
            continue
        kind = _KINDS[code]
        inputs = [int(index) for index in operator.numbers(1, "<i4")]
        weight = constants.get(inputs[kind.weight]) if len(inputs) > kind.weight else None
        if weight is None or weight in found.owners:
            continue
        prefix = weight.rpartition("/")[0]
        layer = weight if not prefix or prefix in taken else prefix
        taken.add(layer)
        found.owners[weight] = (kind.name, layer, "kernel")
        bias = constants.get(inputs[kind.bias]) if len(inputs) > kind.bias else None
        if bias is not None:
            found.owners.setdefault(bias, (kind.name, layer, "bias"))
        facts = _facts(kind, operator.table(4))
        found.requirements += tuple(Requirement(layer, attribute, value) for attribute, value in facts.items())
    return found


def _code(operator: FlatTable, codes: list[int]) -> int:
    index = operator.number(0, "I")
    return codes[index] if index < len(codes) else -1


def _passed(operator: FlatTable, constants: Mapping[int, str], dtypes: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """(output, name) of a float16 constant that the operator widens."""
    inputs, outputs = operator.numbers(1, "<i4"), operator.numbers(2, "<i4")
    if len(inputs) and len(outputs):
        name = constants.get(int(inputs[0]))
        if name is not None and dtypes[name] == "float16":
            yield int(outputs[0]), name


def _facts(kind: _Kind, options: FlatTable | None) -> dict[str, object]:
    """The layer's settings, in the words of `docs/reference-requirements.md`."""
    if options is None:
        return {}
    facts: dict[str, object] = {}
    if kind.strides is not None:
        facts["padding"] = _PADDINGS.get(options.number(0, "b"), "unknown")
        facts["strides"] = [options.number(place, "i") for place in kind.strides]
    if kind.dilation is not None:
        facts["dilation"] = [options.number(place, "i", 1) for place in kind.dilation]
    if kind.multiplier is not None:
        facts["depth_multiplier"] = options.number(kind.multiplier, "i")
    facts["activation"] = _ACTIVATIONS.get(options.number(kind.activation, "b"), "unknown")
    return facts
