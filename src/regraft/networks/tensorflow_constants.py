"""TensorFlow operations whose inputs are all known: sizes, axes, bounds, computed with NumPy as the graph is read.

Source: tensorflow/core/api_def/base_api.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from regraft.formats.tensorflow_program import ProgramOperation

MOST_NUMBERS = 4096  # of a constant that is computed as the graph is read
Compute = Callable[[Mapping[str, Any], Sequence[np.ndarray]], np.ndarray]


def folded(operation: ProgramOperation, values: Sequence[np.ndarray]) -> np.ndarray | None:
    """What an operation computes from these inputs; None when it is not computed here, or is too large."""
    compute = _COMPUTED.get(operation.op)
    if compute is None:
        return None
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(compute(operation.settings, values))
    except (ValueError, IndexError, TypeError, OverflowError, MemoryError):
        return None
    return result if result.size <= MOST_NUMBERS else None


def ints(value: np.ndarray) -> list[int]:
    """The numbers of a list, or of a single number, as Python's."""
    return [int(number) for number in value.reshape(-1)]


def slice_index(settings: Mapping[str, Any], bounds: Sequence[Sequence[int]]) -> tuple[Any, ...]:
    """The index of a StridedSlice in NumPy's words: slices, numbers, None for a new axis, `...`.

    bounds  begins, ends and steps
    Source: tensorflow/core/util/strided_slice_op.cc.
    """
    masks = [int(settings.get(f"{name}_mask") or 0) for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")]
    index: list[Any] = []
    for place, (begin, end, step) in enumerate(zip(*bounds, strict=True)):
        no_begin, no_end, ellipsis, new_axis, shrink = (mask >> place & 1 for mask in masks)
        if ellipsis:
            index.append(...)
        elif new_axis:
            index.append(None)
        elif shrink:
            index.append(begin)
        else:
            index.append(slice(None if no_begin else begin, None if no_end else end, step))
    return tuple(index)


def _plain(function: Callable[..., Any]) -> Compute:
    """A function of the inputs alone."""
    return lambda settings, values: function(*values)


def _reduced(function: Callable[..., object]) -> Compute:
    def compute(settings: Mapping[str, object], values: Sequence[np.ndarray]) -> np.ndarray:
        keep = bool(settings.get("keep_dims") or settings.get("keepdims"))
        return np.asarray(function(values[0], tuple(ints(values[1])), keepdims=keep), values[0].dtype)

    return compute


def _cast(settings: Mapping[str, Any], values: Sequence[np.ndarray]) -> np.ndarray:
    dtype = settings.get("DstT") or "float32"
    return np.asarray(values[0].astype("float32" if dtype in ("float16", "bfloat16") else dtype))


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a / b if a.dtype.kind == "f" else a // b)


def _squeeze(settings: Mapping[str, Any], values: Sequence[np.ndarray]) -> np.ndarray:
    axes = settings.get("squeeze_dims") or None
    return np.asarray(values[0].squeeze(tuple(axes) if axes else None))


def _gather(settings: Mapping[str, object], values: Sequence[np.ndarray]) -> np.ndarray:
    return np.take(values[0], values[1], int(values[2]) if len(values) > 2 else 0)


def _shape(settings: Mapping[str, Any], values: Sequence[np.ndarray]) -> np.ndarray:
    return np.array(values[0].shape, settings.get("out_type") or "int32")


def _range(start: np.ndarray, end: np.ndarray, step: np.ndarray) -> np.ndarray:
    return np.arange(start.item(), end.item(), step.item()).astype(start.dtype)


def _fill(dims: np.ndarray, value: np.ndarray) -> np.ndarray:
    if np.prod(ints(dims), dtype=np.float64) > MOST_NUMBERS:
        raise ValueError("too large")
    return np.full(ints(dims), value)


_COMPUTED: dict[str, Compute] = {
    "Add": _plain(np.add), "AddV2": _plain(np.add), "Sub": _plain(np.subtract), "Mul": _plain(np.multiply),
    "RealDiv": _plain(_divide), "Div": _plain(_divide), "FloorDiv": _plain(np.floor_divide),
    "FloorMod": _plain(np.mod), "Neg": _plain(np.negative), "Sqrt": _plain(np.sqrt), "Abs": _plain(np.abs),
    "Rsqrt": _plain(lambda x: 1 / np.sqrt(x)), "Reciprocal": _plain(lambda x: 1 / x), "Square": _plain(np.square),
    "Maximum": _plain(np.maximum), "Minimum": _plain(np.minimum), "Pow": _plain(np.power), "Exp": _plain(np.exp),
    "Log": _plain(np.log), "Floor": _plain(np.floor), "Ceil": _plain(np.ceil),
    "Equal": _plain(np.equal), "NotEqual": _plain(np.not_equal), "Less": _plain(np.less),
    "LessEqual": _plain(np.less_equal), "Greater": _plain(np.greater), "GreaterEqual": _plain(np.greater_equal),
    "LogicalAnd": _plain(np.logical_and), "LogicalOr": _plain(np.logical_or), "LogicalNot": _plain(np.logical_not),
    "Select": _plain(np.where), "SelectV2": _plain(np.where), "Cast": _cast, "Shape": _shape,
    "Rank": _plain(lambda x: np.array(x.ndim, np.int32)), "Size": _plain(lambda x: np.array(x.size, np.int32)),
    "Reshape": _plain(lambda x, shape: x.reshape(ints(shape))), "Squeeze": _squeeze,
    "ExpandDims": _plain(lambda x, axis: np.expand_dims(x, int(axis))),
    "Pack": lambda settings, values: np.stack(values, int(settings.get("axis") or 0)),
    "ConcatV2": _plain(lambda *values: np.concatenate(values[:-1], int(values[-1]))),
    "Concat": _plain(lambda axis, *values: np.concatenate(values, int(axis))),
    "StridedSlice": lambda settings, values: values[0][slice_index(settings, [ints(value) for value in values[1:4]])],
    "Slice": _plain(lambda x, begin, size: x[tuple(
        slice(start, None if count < 0 else start + count) for start, count in zip(ints(begin), ints(size), strict=True)
    )]),
    "Transpose": _plain(lambda x, order: x.transpose(ints(order))), "GatherV2": _gather, "Gather": _gather,
    "Prod": _reduced(np.prod), "Sum": _reduced(np.sum), "Max": _reduced(np.max), "Min": _reduced(np.min),
    "Mean": _reduced(np.mean), "Range": _plain(_range),
    "Fill": _plain(_fill), "Tile": _plain(lambda x, repeats: np.tile(x, ints(repeats))),
    "ZerosLike": _plain(np.zeros_like), "OnesLike": _plain(np.ones_like),
    "BroadcastTo": _plain(lambda x, shape: np.broadcast_to(x, ints(shape))),
    "ReverseV2": _plain(lambda x, axes: np.flip(x, tuple(ints(axes)))),
}  # fmt: skip
