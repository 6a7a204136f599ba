"""ONNX' LSTM, GRU and RNN as torch's: gates in torch's order, both biases apart, states and outputs as ONNX gives them.

Source: onnx/onnx, docs/Operators.md. ONNX orders gates i o f c (LSTM) and z r h (GRU).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from regraft.formats.onnx_nodes import OnnxNode
from regraft.networks.drafting import UnsupportedError
from regraft.networks.network import Array, Input
from regraft.networks.onnx_translation import Translate, Translation
from regraft.operations.joins import Fill
from regraft.operations.moves import Gates, Take
from regraft.operations.operation import Operation
from regraft.operations.running import run_operations

_GATES = {"lstm": ((0, 2, 3, 1), "iofc"), "gru": ((1, 0, 2), "zrh"), "rnn": ((0,), "i")}
_USUAL = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh"), "rnn": ("tanh",)}
_WORDS = {"hardsigmoid": "hard_sigmoid"}
_MOST_SEARCHED = 1000  # nodes that compute the weights of a layer


@dataclass(frozen=True)
class _Cell:
    """What a recurrent node computes.

    kind          "lstm", "gru" or "rnn"
    batch_first   whether the examples are the first axis, and the steps the second
    gates         the function of the gates, which an rnn has not
    resets_after  whether a gru multiplies its state before it resets it
    """

    kind: str
    hidden: int
    directions: int
    is_reverse: bool
    batch_first: bool
    gates: str
    activation: str
    resets_after: bool

    @property
    def is_of_torch(self) -> bool:
        """Whether torch's own layer computes this."""
        if self.kind == "rnn":
            return self.activation in ("tanh", "relu")
        return (self.gates, self.activation) == ("sigmoid", "tanh") and (self.kind == "lstm" or self.resets_after)


def _recurrent(translation: Translation, node: OnnxNode) -> None:
    """One layer of torch, or one of `runtime` for each direction where torch has none."""
    cell = _cell(translation, node)
    arrays = _arrays(translation, node, cell)
    x = translation.value(node.input(0))
    states = [_state(translation, node, index, cell) for index in ((5, 6) if cell.kind == "lstm" else (5,))]
    given = (_with_torch if cell.is_of_torch else _by_direction)(translation, node, cell, arrays, _left_out(states, x))
    _outputs(translation, node, given, cell)


def _with_torch(
    translation: Translation, node: OnnxNode, cell: _Cell, arrays: Mapping[str, Array], inputs: list[Input]
) -> list[str]:
    """A layer of torch: what it gives, in torch's form. A reverse one takes the steps from the last to the first."""
    settings: dict[str, Any] = {
        "hidden": cell.hidden, "bidirectional": cell.directions == 2, "batch_first": cell.batch_first,
    }  # fmt: skip
    settings |= {"nonlinearity": cell.activation} if cell.kind == "rnn" else {}
    time = (1 if cell.batch_first else 0,)
    if cell.is_reverse:
        inputs = [translation.step("flip", inputs[:1], node.outputs[0], axes=time), *inputs[1:]]
    given = [translation.unnamed(node) for _ in range(3 if cell.kind == "lstm" else 2)]
    name = translation.layer_name(node, cell.kind, arrays, settings)
    translation.draft.emit(cell.kind, inputs, given, name, arrays, settings)
    if cell.is_reverse:
        given[0] = translation.step("flip", [given[0]], node.outputs[0], axes=time)
    return given


def _by_direction(
    translation: Translation, node: OnnxNode, cell: _Cell, arrays: Mapping[str, Array], inputs: list[Input]
) -> list[str]:
    """A layer of `runtime` for each direction, batch first; together as torch's layer would give it."""
    like, turn = node.outputs[0], (1, 0, 2)
    x = inputs[0] if cell.batch_first else translation.step("permute", inputs[:1], like, axes=turn)
    settings = {
        "hidden": cell.hidden, "kind": cell.kind, "activation": cell.activation, "gates": cell.gates,
        "reset_after": cell.resets_after,
    }  # fmt: skip
    parts = [
        _one_direction(translation, node, cell, direction, _own_arrays(arrays, direction), [x, *inputs[1:]], settings)
        for direction in range(cell.directions)
    ]
    given = parts[0]
    if cell.directions == 2:
        pairs = zip(zip(*parts, strict=True), (-1, 0, 0), strict=False)
        given = [translation.step("concat", list(pair), like, axis=axis) for pair, axis in pairs]
    return given if cell.batch_first else [translation.step("permute", given[:1], like, axes=turn), *given[1:]]


def _own_arrays(arrays: Mapping[str, Array], direction: int) -> dict[str, Array]:
    """Those of one direction, as a layer of one direction names them."""
    suffix = "_l0_reverse" if direction else "_l0"
    return {role.removesuffix(suffix) + "_l0": array for role, array in arrays.items() if role.endswith(suffix)}


def _one_direction(
    translation: Translation, node: OnnxNode, cell: _Cell, direction: int, arrays: Mapping[str, Array],
    inputs: list[Input], settings: Mapping[str, object],
) -> list[str]:  # fmt: skip
    """What one direction gives; a backward one takes the steps from the last to the first."""
    like, is_backward = node.outputs[0], cell.is_reverse or direction == 1
    taken = [translation.step("flip", inputs[:1], like, axes=(1,)) if is_backward else inputs[0]]
    ends = {"axes": (0,), "starts": (direction,), "ends": (direction + 1,), "steps": (1,)}
    taken += [translation.step("slice", [state], like, **ends) for state in inputs[1:]]
    given = [translation.unnamed(node) for _ in range(3 if cell.kind == "lstm" else 2)]
    name = translation.layer_name(node, "recurrent", arrays, {**settings, "direction": direction})
    translation.draft.emit("recurrent", taken, given, name, arrays, settings)
    if is_backward:
        given[0] = translation.step("flip", given[:1], like, axes=(1,))
    return given


def _left_out(states: list[Input], x: Input) -> list[Input]:
    """The input and the first states, when the node names them all."""
    if None not in states:
        return [x, *states]
    if any(state is not None for state in states):
        raise UnsupportedError("it names one of its first states alone")
    return [x]


# --- what it computes -------------------------------------------------------------------------------------------------


def _cell(translation: Translation, node: OnnxNode) -> _Cell:
    """What the node's settings say. Raises UnsupportedError for what neither torch nor `runtime` computes."""
    graph, kind = translation.graph, node.operator.lower()
    if "clip" in node.attributes or graph.integer(node, "input_forget", 0):
        raise UnsupportedError("it clips its values, or couples its gates")
    if node.input(7):
        raise UnsupportedError("it has peepholes")
    if node.input(4) and not _are_whole(translation, node.input(4)):
        raise UnsupportedError("the sequences have lengths of their own")
    direction = graph.text(node, "direction", "forward")
    directions = 2 if direction == "bidirectional" else 1
    gates, activation = _functions(graph.texts(node, "activations"), kind, directions)
    if any(name in node.attributes for name in ("activation_alpha", "activation_beta")) and "hard_sigmoid" in gates:
        raise UnsupportedError("its hard sigmoid has a slope of its own")
    return _Cell(
        kind, graph.integer(node, "hidden_size", 0), directions, direction == "reverse",
        graph.integer(node, "layout", 0) == 1, gates, activation, bool(graph.integer(node, "linear_before_reset", 0)),
    )  # fmt: skip


def _functions(words: list[str], kind: str, directions: int) -> tuple[str, str]:
    """(the function of the gates, which a simple layer has not, the other one)."""
    usual = _USUAL[kind]
    listed = [_WORDS.get(word.lower(), word.lower()) for word in words] or list(usual) * directions
    first = listed[: len(usual)]
    is_known = listed == first * directions and set(first) <= {"sigmoid", "tanh", "relu", "hard_sigmoid"}
    if not is_known or len(set(first[-1 if kind != "lstm" else 1 :])) > 1:
        raise UnsupportedError(f"its activations are {', '.join(words).lower()}")
    return ("sigmoid" if kind == "rnn" else first[0]), first[-1]


def _are_whole(translation: Translation, name: str) -> bool:
    """Whether lengths are those of the whole sequences: computed from the shape of the input alone."""
    producer = translation.graph.producers.get(name)
    for _ in range(16):
        if producer is None:
            return False
        if producer.operator == "Shape":
            return True
        sources = [
            translation.graph.producers.get(source)
            for source in producer.inputs
            if translation.integers(source) is None
        ]
        if len(sources) != 1:
            return False
        producer = sources[0]
    return False


def _state(translation: Translation, node: OnnxNode, index: int, cell: _Cell) -> Input:
    """The first state (directions, n, hidden); None where it is left out, or is 0."""
    name = node.input(index)
    if not name:
        return None
    constant = translation.constant(name)
    if constant is not None and not constant.any():
        return None
    value = translation.value(name)
    return translation.step("permute", [value], node.outputs[0], axes=(1, 0, 2)) if cell.batch_first else value


def _outputs(translation: Translation, node: OnnxNode, given: list[str], cell: _Cell) -> None:
    """torch's (steps, n, directions · hidden) as ONNX' (steps, directions, n, hidden), and the last states."""
    if node.outputs[0] and cell.directions == 1:
        translation.emit("unsqueeze", [given[0]], node.outputs[:1], axes=(2 if cell.batch_first else 1,))
    elif node.outputs[0]:
        sizes = (cell.directions, cell.hidden)
        apart = translation.step("unflatten", [given[0]], node.outputs[0], axis=-1, sizes=sizes)
        axes = (0, 1, 2, 3) if cell.batch_first else (0, 2, 1, 3)
        translation.emit("permute", [apart], node.outputs[:1], axes=axes)
    for value, output in zip(given[1:], node.outputs[1:], strict=False):
        if output and cell.batch_first:
            translation.emit("permute", [value], [output], axes=(1, 0, 2))
        elif output:
            translation.emit("identity", [value], [output])


# --- arrays -----------------------------------------------------------------------------------------------------------


def _arrays(translation: Translation, node: OnnxNode, cell: _Cell) -> dict[str, Array]:
    """torch's arrays of every direction."""
    order, words = _GATES[cell.kind]
    gates = () if order == (0,) else (Gates(0, order, words),)
    arrays: dict[str, Array] = {}
    for direction in range(cell.directions):
        suffix = "_l0_reverse" if direction else "_l0"
        taken = (Take(0, direction, direction + 1, drop=True), *gates)
        for base, index in (("weight_ih", 1), ("weight_hh", 2)):
            array = translation.weight(node.input(index))
            arrays[base + suffix] = (
                _computed(translation, node, index, taken)
                if array is None
                else Array(array.sources, (*array.operations, *taken))
            )
        if node.input(3):
            arrays |= _biases(translation, node, direction, cell.hidden * len(order), gates)
    return arrays


def _biases(
    translation: Translation, node: OnnxNode, direction: int, count: int, gates: tuple[Operation, ...]
) -> dict[str, Array]:
    """The two biases of a direction, which lie one after the other."""
    suffix = "_l0_reverse" if direction else "_l0"
    array = translation.weight(node.input(3))
    arrays = {}
    for number, base in enumerate(("bias_ih", "bias_hh")):
        parts = (Take(0, direction, direction + 1, drop=True), Take(0, number * count, (number + 1) * count), *gates)
        if array is None:
            arrays[base + suffix] = _computed(translation, node, 3, parts)
        elif array.sources:
            arrays[base + suffix] = Array(array.sources, (*array.operations, *parts))
        else:
            arrays[base + suffix] = Array((), (Fill(0.0, (count,)),))
    return arrays


def _computed(translation: Translation, node: OnnxNode, index: int, operations: tuple[Operation, ...]) -> Array:
    """The array that the graph cuts and joins into ONNX' form as it runs, as torch's exporters write it.

    Which one it is shows by its numbers: the computed value, brought into torch's form, equals the array.
    Raises UnsupportedError when none does.
    """
    whole = translation.evaluated(node.input(index))
    if whole is None:
        raise UnsupportedError("its weights are computed as the network runs")
    wanted = run_operations(operations, [whole])
    for name in translation.sources_of(node.input(index), _MOST_SEARCHED):
        array = translation.array(name)
        if array is None or translation.shape(array) != wanted.shape:
            continue
        held = run_operations(array.operations, [translation.checkpoint.read(source) for source in array.sources])
        if np.array_equal(held.astype(np.float32), wanted.astype(np.float32)):
            return array
    raise UnsupportedError("its weights are computed from several arrays")


RECURRENT: Mapping[str, Translate] = dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent)
