"""The zeros around the maps of an ONNX graph: those of a convolution or pooling itself, and those of a Pad node."""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from regraft.arrays import Facts
from regraft.errors import CheckpointError
from regraft.formats.onnx_nodes import OnnxGraph, OnnxNode

Sides = list[list[int]]  # [low, high] of each axis of space
_WORDS = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}
_MOST_NUMBERS = 64  # of a list of pads or axes
_DEEPEST = 16  # nodes that compute a list of pads


def own_padding(graph: OnnxGraph, node: OnnxNode, rank: int) -> str | Sides:
    """The padding in a convolution's or a pooling's own attributes.  rank  axes of space

    Raises CheckpointError (without a file's name) for an odd number of pads.
    """
    automatic = graph.text(node, "auto_pad", "NOTSET")
    if automatic in _WORDS:
        return _WORDS[automatic]
    pads = graph.integers(node, "pads") or [0] * (2 * rank)
    if len(pads) % 2:
        raise CheckpointError(
            f"the node {node.name or node.outputs[:1]} has {len(pads)} pads, expected two for each axis"
        )
    return _pairs(pads)


def padding_facts(graph: OnnxGraph, node: OnnxNode, rank: int) -> Facts:
    """`padding` of a convolution, with the zeros of a Pad node before it, which is then its `padding_layer`.

    A Pad node whose effect is no fixed number of zeros makes a padding of words, which no layer of a model has.
    """
    own = own_padding(graph, node, rank)
    pad = _pad_before(graph, node)
    if pad is None:
        return {"padding": own}
    mode = graph.text(pad, "mode", "constant")
    sides = spatial_pads(graph, pad)
    if mode != "constant":
        return {"padding": f"{mode} of {sides or 'computed sizes'}", "padding_layer": pad.outputs[0]}
    if sides is None or len(sides) != rank:
        return {"padding": "computed by the graph", "padding_layer": pad.outputs[0]}
    if isinstance(own, str) and own != "valid":
        return {"padding": f"{sides}, then {own}", "padding_layer": pad.outputs[0]}
    inner = [[0, 0]] * rank if isinstance(own, str) else own
    total = [[low + a, high + b] for (low, high), (a, b) in zip(sides, inner, strict=True)]
    return {"padding": total, "padding_layer": pad.outputs[0]}


def _pad_before(graph: OnnxGraph, node: OnnxNode) -> OnnxNode | None:
    """The Pad node that gives a convolution its map."""
    before = graph.before(node)
    for _ in range(4):
        if before is None or before.operator not in ("Identity", "Cast", "QuantizeLinear", "DequantizeLinear"):
            break
        before = graph.before(before)
    return before if before is not None and before.operator == "Pad" and before.outputs else None


def spatial_pads(graph: OnnxGraph, node: OnnxNode) -> Sides | None:
    """What a Pad node adds to the axes of space; None when it is not zeros, not known, or beside other axes."""
    sides = _pairs(graph.integers(node, "pads") or _listed(graph, node.input(1)))
    if node.input(3):
        sides = _on_axes(graph, node.input(3), sides)
    is_of_space = len(sides) >= 3 and sides[:2] == [[0, 0], [0, 0]]
    return sides[2:] if is_of_space and _adds_zeros(graph, node) else None


def _listed(graph: OnnxGraph, name: str) -> list[int]:
    """The integers of a list that is known; none when it is not."""
    numbers = _integers(graph, name)
    return [] if numbers is None else [int(number) for number in numbers.reshape(-1)]


def _adds_zeros(graph: OnnxGraph, node: OnnxNode) -> bool:
    """Whether the value of a Pad node is 0, where its mode has one."""
    if graph.text(node, "mode", "constant") != "constant":
        return True
    name = node.input(2)
    return graph.number(name) == 0 if name else graph.real(node, "value", 0.0) == 0


def _on_axes(graph: OnnxGraph, name: str, sides: Sides) -> Sides:
    """The pads of all axes from those of some; the axes of space are then the last ones."""
    axes = _integers(graph, name)
    if axes is None or axes.size != len(sides) or axes.size == 0:
        return []
    numbers = [int(axis) for axis in axes.reshape(-1)]
    rank = max(max(numbers) + 1, -min(numbers), 3)
    if min(numbers) < 0:
        rank = max(rank, len(numbers) + 2)  # counted from the end: batch and channels come before them
    whole = [[0, 0] for _ in range(rank)]
    for number, pair in zip(numbers, sides, strict=True):
        if -rank <= number < rank:
            whole[number] = pair
    return whole


def _pairs(pads: list[int]) -> Sides:
    """(before, after) for each axis; none when the numbers are no pairs."""
    half = len(pads) // 2
    if len(pads) % 2:
        return []
    return [[low, high] for low, high in zip(pads[:half], pads[half:], strict=True)]


def _integers(graph: OnnxGraph, name: str) -> np.ndarray | None:
    """A short list of integers that the graph holds, or that it computes from such lists; None for all others."""
    return _evaluated(graph, name, _DEEPEST, {})


def _evaluated(graph: OnnxGraph, name: str, depth: int, known: dict[str, np.ndarray | None]) -> np.ndarray | None:
    """The same; `known` is what has been evaluated, so that each node is evaluated once."""
    if name not in known:
        known[name] = None  # a node that takes its own output is not known
        tensor, node = graph.tensors.get(name), graph.producers.get(name)
        if tensor is not None:
            is_short = tensor.dtype.startswith(("int", "uint")) and prod(tensor.shape) <= _MOST_NUMBERS
            known[name] = tensor.read() if is_short else None
        elif node is not None and depth > 0 and node.operator in _COMPUTED:
            known[name] = _result(graph, node, [_evaluated(graph, source, depth - 1, known) for source in node.inputs])
    return known[name]


def _result(graph: OnnxGraph, node: OnnxNode, inputs: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """What the node computes; None when an input is not known or they do not fit one another."""
    values = [value for value in inputs if value is not None]
    if len(values) < len(inputs) or not values:
        return None
    try:
        result = _COMPUTED[node.operator](graph, node, values)
    except (ValueError, IndexError, TypeError):
        return None
    return result if result.size <= _MOST_NUMBERS else None


Computed = Callable[[OnnxGraph, OnnxNode, list[np.ndarray]], np.ndarray]


def _constant_of_shape(graph: OnnxGraph, node: OnnxNode, inputs: list[np.ndarray]) -> np.ndarray:
    shape = [int(size) for size in inputs[0].reshape(-1)]
    if any(size > _MOST_NUMBERS for size in shape):
        raise ValueError("a long list")
    return np.zeros(shape, np.int64)  # pads of the axes that are left alone


def _slice(graph: OnnxGraph, node: OnnxNode, inputs: list[np.ndarray]) -> np.ndarray:
    data, starts, ends, *rest = inputs
    axes = rest[0].reshape(-1) if rest else np.arange(starts.size)
    steps = rest[1].reshape(-1) if len(rest) > 1 else np.ones(starts.size, np.int64)
    index = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts.reshape(-1), ends.reshape(-1), steps, strict=True):
        is_begin = step < 0 and end <= -(1 << 31)
        index[int(axis)] = slice(int(start), None if is_begin else int(end), int(step))
    return data[tuple(index)]


_COMPUTED: dict[str, Computed] = {
    "Identity": lambda graph, node, inputs: inputs[0],
    "Cast": lambda graph, node, inputs: inputs[0],
    "Gather": lambda graph, node, inputs: inputs[0].take(inputs[1], graph.integer(node, "axis", 0)),
    "ConstantOfShape": _constant_of_shape,
    "Slice": _slice,
    "Concat": lambda graph, node, inputs: np.concatenate(inputs, graph.integer(node, "axis", 0)),
    "Reshape": lambda graph, node, inputs: inputs[0].reshape([int(size) for size in inputs[1].reshape(-1)]),
    "Transpose": lambda graph, node, inputs: inputs[0].transpose(graph.integers(node, "perm") or None),
    "Unsqueeze": lambda graph, node, inputs: inputs[0].reshape(1, *inputs[0].shape),
    "Shape": lambda graph, node, inputs: np.array(inputs[0].shape, np.int64),
    "Sub": lambda graph, node, inputs: inputs[0] - inputs[1],
    "Mul": lambda graph, node, inputs: inputs[0] * inputs[1],
}
