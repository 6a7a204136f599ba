"""ONNX' LSTM, GRU and RNN as torch's: gates in torch's order, both biases apart, states and outputs as ONNX gives them.

Source: onnx/onnx, docs/Operators.md. ONNX orders gates i o f c (LSTM) and z r h (GRU).
"""

from collections.abc import Mapping
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

_GATES = {"LSTM": ((0, 2, 3, 1), "iofc"), "GRU": ((1, 0, 2), "zrh"), "RNN": ((0,), "i")}
_USUAL = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
_MOST_SEARCHED = 1000  # nodes that compute the weights of a layer


def _recurrent(translation: Translation, node: OnnxNode) -> None:
    graph, kind = translation.graph, node.operator
    direction = graph.text(node, "direction", "forward")
    activation = _checked_activation(translation, node, 2 if direction == "bidirectional" else 1)
    hidden, batch_first = graph.integer(node, "hidden_size", 0), graph.integer(node, "layout", 0) == 1
    arrays = _arrays(translation, node, 2 if direction == "bidirectional" else 1, hidden)
    settings: dict[str, Any] = {
        "hidden": hidden,
        "bidirectional": direction == "bidirectional",
        "batch_first": batch_first,
    }
    settings |= {"nonlinearity": activation} if kind == "RNN" else {}
    x = translation.value(node.input(0))
    time = 1 if batch_first else 0
    if direction == "reverse":
        x = translation.step("flip", [x], node.outputs[0], axes=(time,))
    states = [_state(translation, node, index, batch_first) for index in ((5, 6) if kind == "LSTM" else (5,))]
    given = [translation.unnamed(node) for _ in range(3 if kind == "LSTM" else 2)]
    operator = kind.lower() if kind != "GRU" or graph.integer(node, "linear_before_reset", 0) else "gru_reset_before"
    if operator == "gru_reset_before":
        raise UnsupportedError("it resets the state before its product (linear_before_reset=0)")
    name = translation.layer_name(node, operator, arrays, settings)
    translation.draft.emit(operator, _left_out(states, x), given, name, arrays, settings)
    if direction == "reverse":
        given[0] = translation.step("flip", [given[0]], node.outputs[0], axes=(time,))
    _outputs(translation, node, given, hidden)


def _left_out(states: list[Input], x: Input) -> list[Input]:
    """The input and the first states, when the node names them all."""
    if None not in states:
        return [x, *states]
    if any(state is not None for state in states):
        raise UnsupportedError("it names one of its first states alone")
    return [x]


def _checked_activation(translation: Translation, node: OnnxNode, directions: int) -> str:
    """The activation of an RNN. Raises UnsupportedError for what torch's layers do not compute."""
    graph, kind = translation.graph, node.operator
    words = [word.lower() for word in graph.texts(node, "activations")] or list(_USUAL[kind]) * directions
    if kind == "RNN" and set(words) == {"relu"}:
        words = ["relu"]
    elif words != list(_USUAL[kind]) * directions:
        raise UnsupportedError(f"its activations are {', '.join(words)}")
    if "clip" in node.attributes or graph.integer(node, "input_forget", 0):
        raise UnsupportedError("it clips its values, or couples its gates")
    if node.input(7):
        raise UnsupportedError("it has peepholes")
    if node.input(4) and not _are_whole(translation, node.input(4)):
        raise UnsupportedError("the sequences have lengths of their own")
    return words[0]


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


def _state(translation: Translation, node: OnnxNode, index: int, batch_first: bool) -> Input:
    """The first state (directions, n, hidden); None where it is left out, or is 0."""
    name = node.input(index)
    if not name:
        return None
    constant = translation.constant(name)
    if constant is not None and not constant.any():
        return None
    value = translation.value(name)
    return translation.step("permute", [value], node.outputs[0], axes=(1, 0, 2)) if batch_first else value


def _outputs(translation: Translation, node: OnnxNode, given: list[str], hidden: int) -> None:
    """torch's (steps, n, directions · hidden) as ONNX' (steps, directions, n, hidden), and the last states."""
    directions = 2 if translation.graph.text(node, "direction", "forward") == "bidirectional" else 1
    batch_first = translation.graph.integer(node, "layout", 0) == 1
    if node.outputs[0] and directions == 1:
        translation.emit("unsqueeze", [given[0]], node.outputs[:1], axes=(2 if batch_first else 1,))
    elif node.outputs[0]:
        apart = translation.step("unflatten", [given[0]], node.outputs[0], axis=-1, sizes=(directions, hidden))
        axes = (0, 1, 2, 3) if batch_first else (0, 2, 1, 3)
        translation.emit("permute", [apart], node.outputs[:1], axes=axes)
    for value, output in zip(given[1:], node.outputs[1:], strict=False):
        if output and batch_first:
            translation.emit("permute", [value], [output], axes=(1, 0, 2))
        elif output:
            translation.emit("identity", [value], [output])


# --- arrays -----------------------------------------------------------------------------------------------------------


def _arrays(translation: Translation, node: OnnxNode, directions: int, hidden: int) -> dict[str, Array]:
    """torch's arrays of every direction."""
    order, words = _GATES[node.operator]
    gates = () if order == (0,) else (Gates(0, order, words),)
    arrays: dict[str, Array] = {}
    for direction in range(directions):
        suffix = "_l0_reverse" if direction else "_l0"
        for base, index in (("weight_ih", 1), ("weight_hh", 2)):
            array = translation.weight(node.input(index))
            taken = Take(0, direction, direction + 1, drop=True)
            if array is None:
                arrays[base + suffix] = _computed(translation, node, index, (taken, *gates))
            else:
                arrays[base + suffix] = Array(array.sources, (*array.operations, taken, *gates))
        if node.input(3):
            arrays |= _biases(translation, node, direction, hidden * len(order), gates)
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


RECURRENT: Mapping[str, Translate] = dict.fromkeys(_GATES, _recurrent)
