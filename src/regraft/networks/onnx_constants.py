"""ONNX nodes whose inputs are all known: shapes, axes, bounds and the like, computed with NumPy as the graph is read.

Source: onnx/onnx, docs/Operators.md.
"""

from collections.abc import Callable, Sequence

import numpy as np

from regraft.formats.onnx_nodes import OnnxGraph, OnnxNode
from regraft.formats.onnx_tensors import DTYPES, read_tensor

MOST_NUMBERS = 4096  # of a constant that is computed as the graph is read
Values = Sequence[np.ndarray | None]
Compute = Callable[[OnnxGraph, OnnxNode, Values], np.ndarray]


def folded(graph: OnnxGraph, node: OnnxNode, values: Values, *, most: int = MOST_NUMBERS) -> np.ndarray | None:
    """What a node with one output computes from these inputs; None when it is not computed here, or is too large."""
    compute = _COMPUTED.get(node.operator)
    if compute is None or len(node.outputs) != 1 or node.domain not in ("", "ai.onnx"):
        return None
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(compute(graph, node, values))
    except (ValueError, IndexError, TypeError, OverflowError, MemoryError):
        return None
    return result if result.size <= most else None


def ints(value: np.ndarray) -> list[int]:
    """The numbers of a list, or of a single number, as Python's."""
    return [int(number) for number in value.reshape(-1)]


def axes_of(graph: OnnxGraph, node: OnnxNode, values: Values, index: int) -> list[int] | None:
    """The axes of a node: its attribute in older files, its input since opset 13; None when it names none."""
    value = values[index] if len(values) > index else None
    if value is not None:
        return ints(value)
    return graph.integers(node, "axes") or None


def _needed(values: Values) -> list[np.ndarray]:
    """All inputs. Raises ValueError when an optional one is left out."""
    if any(value is None for value in values):
        raise ValueError("an input is left out")
    return [value for value in values if value is not None]


def _plain(function: Callable[..., np.ndarray]) -> Compute:
    """A function of the inputs alone."""
    return lambda graph, node, values: function(*_needed(values))


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    return np.trunc(a.astype(np.float64) / b).astype(a.dtype) if np.all(b != 0) else np.array(a / b, a.dtype)


def _cast(graph: OnnxGraph, node: OnnxNode, values: Values) -> np.ndarray:
    dtype = DTYPES.get(graph.integer(node, "to", 0), "")
    return _needed(values)[0].astype(np.dtype("float32" if dtype in ("float16", "bfloat16") else dtype))


def _slice(graph: OnnxGraph, node: OnnxNode, values: Values) -> np.ndarray:
    data = _needed(values)[0]
    index = [slice(None)] * data.ndim
    for axis, start, end, step in slice_bounds(graph, node, values):
        is_begin = step < 0 and end <= -(1 << 31)
        index[axis] = slice(start, None if is_begin else end, step)
    return np.asarray(data[tuple(index)])


def slice_bounds(graph: OnnxGraph, node: OnnxNode, values: Values) -> list[tuple[int, int, int, int]]:
    """(axis, start, end, step) of a Slice node whose bounds are known. Raises ValueError when they do not fit."""
    if "starts" in node.attributes:  # before opset 10
        starts, ends = graph.integers(node, "starts"), graph.integers(node, "ends")
        axes, steps = graph.integers(node, "axes") or list(range(len(starts))), [1] * len(starts)
    else:
        starts, ends = (ints(value) for value in _needed(values[1:3]))
        more = [ints(value) if value is not None else [] for value in (*values[3:5], None, None)[:2]]
        axes, steps = more[0] or list(range(len(starts))), more[1] or [1] * len(starts)
    return list(zip(axes, starts, ends, steps, strict=True))


def _gather(graph: OnnxGraph, node: OnnxNode, values: Values) -> np.ndarray:
    data, indices = _needed(values)
    return np.take(data, indices, graph.integer(node, "axis", 0))


def _constant_of_shape(graph: OnnxGraph, node: OnnxNode, values: Values) -> np.ndarray:
    shape = ints(_needed(values)[0])
    if np.prod(shape, dtype=np.float64) > MOST_NUMBERS:
        raise ValueError("too large")
    fill = fill_value(graph, node)
    return np.full(shape, fill.reshape(-1)[0], fill.dtype)


def fill_value(graph: OnnxGraph, node: OnnxNode) -> np.ndarray:
    """The one value of a ConstantOfShape: float32 0 where the node names none."""
    attribute = node.attributes.get("value")
    tensor = None
    if attribute is not None and attribute[5]:
        tensor = read_tensor(graph.file, node.name, graph.file.message(attribute[5][-1]))
    return np.zeros(1, np.float32) if tensor is None else tensor.read().reshape(-1)[:1]


def _reshape(graph: OnnxGraph, node: OnnxNode, values: Values) -> np.ndarray:
    data, shape = _needed(values)
    sizes = ints(shape)
    kept = [data.shape[axis] if size == 0 and axis < data.ndim else size for axis, size in enumerate(sizes)]
    return data.reshape(kept)


def _unsqueeze(graph: OnnxGraph, node: OnnxNode, values: Values) -> np.ndarray:
    return np.expand_dims(_needed(values[:1])[0], tuple(axes_of(graph, node, values, 1) or ()))


def _squeeze(graph: OnnxGraph, node: OnnxNode, values: Values) -> np.ndarray:
    axes = axes_of(graph, node, values, 1)
    return _needed(values[:1])[0].squeeze(None if axes is None else tuple(axes))


def _reduced(function: Callable[..., np.ndarray]) -> Compute:
    """A reduction over the node's axes."""

    def compute(graph: OnnxGraph, node: OnnxNode, values: Values) -> np.ndarray:
        axes, keep = axes_of(graph, node, values, 1), graph.integer(node, "keepdims", 1) == 1
        data = _needed(values[:1])[0]
        return function(data, None if axes is None else tuple(axes), keepdims=keep).astype(data.dtype)

    return compute


def _folded_all(function: Callable[..., np.ndarray]) -> Compute:
    """A function of two, done to all inputs in turn."""

    def compute(graph: OnnxGraph, node: OnnxNode, values: Values) -> np.ndarray:
        first, *others = _needed(values)
        for other in others:
            first = function(first, other)
        return first

    return compute


_COMPUTED: dict[str, Compute] = {
    "Identity": _plain(lambda x: x),
    "Cast": _cast,
    "Gather": _gather,
    "ConstantOfShape": _constant_of_shape,
    "Slice": _slice,
    "Concat": lambda graph, node, values: np.concatenate(_needed(values), graph.integer(node, "axis", 0)),
    "Reshape": _reshape,
    "Transpose": lambda graph, node, values: _needed(values)[0].transpose(graph.integers(node, "perm") or None),
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Shape": _plain(lambda x: np.array(x.shape, np.int64)),
    "Size": _plain(lambda x: np.array(x.size, np.int64)),
    "Add": _plain(np.add), "Sub": _plain(np.subtract), "Mul": _plain(np.multiply), "Div": _plain(_divide),
    "Neg": _plain(np.negative), "Abs": _plain(np.abs), "Floor": _plain(np.floor), "Ceil": _plain(np.ceil),
    "Sqrt": _plain(np.sqrt), "Exp": _plain(np.exp), "Log": _plain(np.log), "Reciprocal": _plain(lambda x: 1 / x),
    "Pow": _plain(lambda x, y: np.power(x, y).astype(x.dtype)),
    "Mod": lambda graph, node, values: (np.fmod if graph.integer(node, "fmod", 0) else np.mod)(*_needed(values)),
    "Max": _folded_all(np.maximum), "Min": _folded_all(np.minimum),
    "Equal": _plain(np.equal), "Less": _plain(np.less), "Greater": _plain(np.greater),
    "LessOrEqual": _plain(np.less_equal), "GreaterOrEqual": _plain(np.greater_equal),
    "Not": _plain(np.logical_not), "And": _plain(np.logical_and), "Or": _plain(np.logical_or),
    "Where": _plain(np.where),
    "Range": _plain(lambda start, end, step: np.arange(start.item(), end.item(), step.item()).astype(start.dtype)),
    "Expand": _plain(lambda x, shape: x * np.ones(ints(shape), x.dtype)),
    "Tile": _plain(lambda x, repeats: np.tile(x, ints(repeats))),
    "ReduceProd": _reduced(np.prod), "ReduceSum": _reduced(np.sum), "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
}  # fmt: skip
