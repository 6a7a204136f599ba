"""ONNX nodes that only move the numbers of an array, as operations on the array when it is loaded."""

from collections.abc import Sequence
from math import prod

import numpy as np

from regraft.formats.onnx_nodes import OnnxGraph, OnnxNode
from regraft.formats.onnx_quantised import Dequantised
from regraft.formats.onnx_tensors import DTYPES
from regraft.networks.onnx_constants import axes_of, ints, slice_bounds
from regraft.operations.moves import Reshape, Take, Transpose
from regraft.operations.operation import Operation, Shape

PASSED = ("Identity", "Dropout", "Cast", "DequantizeLinear")
_REAL = ("float32", "float16", "bfloat16")
Values = Sequence[np.ndarray | None]


def moves_of(graph: OnnxGraph, node: OnnxNode, shape: Shape, values: Values) -> tuple[Operation, ...] | None:
    """What a node does to an array of this shape, when it only moves its numbers; None for all other nodes.

    values  of the node's inputs after the first
    """
    if node.operator in PASSED:
        return () if _keeps_numbers(graph, node) else None
    if node.operator == "Transpose":
        return (Transpose(tuple(graph.integers(node, "perm") or range(len(shape))[::-1])),)
    if node.operator == "Slice":
        return _taken(graph, node, shape, values)
    after = _reshaped(graph, node, shape, values)
    if after is None or prod(after) != prod(shape):
        return None
    return () if after == shape else (Reshape(after),)


def _keeps_numbers(graph: OnnxGraph, node: OnnxNode) -> bool:
    """Whether a node gives the numbers of an array as they are, or dequantised, as the checkpoint reads them."""
    tensor = graph.tensors.get(node.input(0))
    if node.operator == "DequantizeLinear":
        return isinstance(tensor, Dequantised)
    if node.operator == "Cast":
        to = DTYPES.get(graph.integer(node, "to", 0), "")
        return to in _REAL and (tensor is None or tensor.dtype in _REAL)
    return True


def _reshaped(graph: OnnxGraph, node: OnnxNode, shape: Shape, values: Values) -> Shape | None:
    """The shape that the node gives an array of this shape; None when it does something else."""
    if node.operator == "Flatten":
        axis = graph.integer(node, "axis", 1)
        return (prod(shape[:axis]), prod(shape[axis:]))
    if node.operator == "Reshape" and values and values[0] is not None:
        return whole_shape(ints(values[0]), shape)
    axes = axes_of(graph, node, values, 0)
    if node.operator == "Unsqueeze" and axes:
        return _unsqueezed(shape, axes)
    return _squeezed(shape, axes) if node.operator == "Squeeze" else None


def _unsqueezed(shape: Shape, axes: Sequence[int]) -> Shape:
    rank = len(shape) + len(axes)
    added, kept = {axis % rank for axis in axes}, iter(shape)
    return tuple(1 if axis in added else next(kept) for axis in range(rank))


def _squeezed(shape: Shape, axes: Sequence[int] | None) -> Shape:
    removed = {axis % len(shape) for axis in axes} if axes else {axis for axis, n in enumerate(shape) if n == 1}
    return tuple(size for axis, size in enumerate(shape) if axis not in removed)


def whole_shape(sizes: Sequence[int], shape: Shape) -> Shape:
    """The sizes of a Reshape, where 0 keeps an axis and -1 takes the rest, for an array of this shape.

    >>> whole_shape([0, -1], (2, 3, 4))
    (2, 12)
    """
    kept = [shape[axis] if size == 0 and axis < len(shape) else size for axis, size in enumerate(sizes)]
    known = prod(size for size in kept if size != -1)
    return tuple(prod(shape) // max(known, 1) if size == -1 else size for size in kept)


def _taken(graph: OnnxGraph, node: OnnxNode, shape: Shape, values: Values) -> tuple[Operation, ...] | None:
    """A Slice in steps of 1, one part of each axis."""
    try:
        bounds = slice_bounds(graph, node, [None, *values])
    except ValueError:
        return None
    moves: list[Operation] = []
    for axis, start, end, step in bounds:
        first, last, _ = slice(start, end).indices(shape[axis])
        if step != 1 or last <= first:
            return None
        moves += [Take(axis % len(shape), first, last)] if last - first < shape[axis] else []
    return tuple(moves)
