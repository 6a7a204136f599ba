"""ONNX operators that move numbers: reshape, slice, gather, pad and the like.

Source: onnx/onnx, docs/Operators.md. Since opset 10 to 13 many settings are inputs; both forms are read.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.formats.onnx_nodes import OnnxNode
from regraft.networks.drafting import UnsupportedError
from regraft.networks.onnx_constants import fill_value, slice_bounds
from regraft.networks.onnx_translation import Translate, Translation

_FAR = 1 << 30  # bounds beyond this mean "to the end"


def _reshape(translation: Translation, node: OnnxNode) -> None:
    shape = translation.integers(node.input(1)) if node.input(1) else translation.graph.integers(node, "shape")
    is_literal = translation.graph.integer(node, "allowzero", 0) == 1
    if is_literal and shape is not None and 0 in shape:
        raise UnsupportedError("it makes an empty tensor")
    if shape is None:
        keeps = not is_literal and _may_keep(translation, node.input(1))
        operator = "reshape_keeping" if keeps else "reshape"
        translation.emit(operator, translation.inputs(node, 0, 1), node.outputs)
    else:
        translation.emit("reshape", translation.inputs(node, 0), node.outputs, shape=tuple(shape))


def _may_keep(translation: Translation, name: str) -> bool:
    """Whether computed sizes may hold a 0, which stands for the size that an axis has."""
    producer = translation.graph.producers.get(name)
    if producer is None or producer.operator != "Concat":
        return producer is None or producer.operator != "Shape"
    return any(0 in (translation.integers(source) or ()) for source in producer.inputs)


def _flatten(translation: Translation, node: OnnxNode) -> None:
    """All axes before the given one become one, and all others one."""
    axis = translation.graph.integer(node, "axis", 1)
    if axis == 1:
        translation.emit("flatten", translation.inputs(node, 0), node.outputs, start=1)
    elif axis == 0:
        translation.emit("reshape", translation.inputs(node, 0), node.outputs, shape=(1, -1))
    else:
        translation.emit("flatten_2d", translation.inputs(node, 0), node.outputs, axis=axis)


def _transpose(translation: Translation, node: OnnxNode) -> None:
    axes = translation.graph.integers(node, "perm")
    if axes:
        translation.emit("permute", translation.inputs(node, 0), node.outputs, axes=tuple(axes))
    else:
        translation.emit("reverse_axes", translation.inputs(node, 0), node.outputs)


def _axes(translation: Translation, node: OnnxNode, index: int) -> list[int] | None:
    """The axes of a node, an attribute or an input; None when it names none."""
    if node.input(index):
        return translation.needed_integers(node.input(index), "axes")
    return translation.graph.integers(node, "axes") or None


def _squeeze(translation: Translation, node: OnnxNode) -> None:
    axes = _axes(translation, node, 1)
    translation.emit("squeeze", translation.inputs(node, 0), node.outputs, axes=None if axes is None else tuple(axes))


def _unsqueeze(translation: Translation, node: OnnxNode) -> None:
    axes = _axes(translation, node, 1) or []
    translation.emit("unsqueeze", translation.inputs(node, 0), node.outputs, axes=tuple(axes))


def _expand(translation: Translation, node: OnnxNode) -> None:
    _by_numbers(translation, node, "expand", "shape")


def _tile(translation: Translation, node: OnnxNode) -> None:
    _by_numbers(translation, node, "tile", "repeats")


def _by_numbers(translation: Translation, node: OnnxNode, operator: str, setting: str) -> None:
    """An operator whose second input is a setting where its numbers are known, and an input where they are not."""
    numbers = translation.integers(node.input(1))
    if numbers is None:
        translation.emit(operator, translation.inputs(node, 0, 1), node.outputs)
    else:
        translation.emit(operator, translation.inputs(node, 0), node.outputs, **{setting: tuple(numbers)})


def _slice(translation: Translation, node: OnnxNode) -> None:
    values = [None, *(translation.constant(name) if name else None for name in node.inputs[1:])]
    if any(name and value is None for name, value in zip(node.inputs[1:], values[1:], strict=True)):
        _slice_by_values(translation, node)
        return
    bounds = slice_bounds(translation.graph, node, values)
    axes, starts, ends, steps = (tuple(column) for column in zip(*bounds, strict=True))
    if min(steps) < 0:
        _slice_backwards(translation, node, bounds)
        return
    starts = tuple(0 if start <= -_FAR else start for start in starts)
    translation.emit(
        "slice", translation.inputs(node, 0), node.outputs, axes=axes, starts=starts,
        ends=tuple(None if end >= _FAR else end for end in ends), steps=steps,
    )  # fmt: skip


def _slice_backwards(translation: Translation, node: OnnxNode, bounds: Sequence[tuple[int, int, int, int]]) -> None:
    """Steps of -1 over whole axes are a flip; torch has no other negative steps."""
    for _, start, end, step in bounds:
        if step != -1 or (start not in (-1,) and start < _FAR) or end > -_FAR:
            raise UnsupportedError(f"it goes backwards from {start} to {end} in steps of {step}")
    translation.emit("flip", translation.inputs(node, 0), node.outputs, axes=tuple(axis for axis, *_ in bounds))


def _slice_by_values(translation: Translation, node: OnnxNode) -> None:
    """Bounds that are computed as the network runs; axes and steps are known."""
    count = next((len(known) for name in node.inputs[1:3] if (known := translation.integers(name)) is not None), None)
    axes = translation.needed_integers(node.input(3), "axes") if node.input(3) else list(range(count or 1))
    steps = translation.needed_integers(node.input(4), "steps") if node.input(4) else [1] * len(axes)
    if min(steps) < 0:
        raise UnsupportedError("it goes backwards between computed bounds")
    translation.emit(
        "slice_between", translation.inputs(node, 0, 1, 2), node.outputs, axes=tuple(axes), steps=tuple(steps)
    )


def _split(translation: Translation, node: OnnxNode) -> None:
    """Sizes of the parts; none means equal parts, the last one smaller when they do not fit."""
    graph, axis = translation.graph, translation.graph.integer(node, "axis", 0)
    sizes = translation.needed_integers(node.input(1), "sizes") if node.input(1) else graph.integers(node, "split")
    if sizes:
        translation.emit("split", translation.inputs(node, 0), node.outputs, sizes=tuple(sizes), axis=axis)
    else:
        translation.emit("chunk", translation.inputs(node, 0), node.outputs, count=len(node.outputs), axis=axis)


def _concat(translation: Translation, node: OnnxNode) -> None:
    values = translation.inputs(node)
    translation.emit("concat", values, node.outputs, axis=translation.graph.integer(node, "axis", 0))


def _gather(translation: Translation, node: OnnxNode) -> None:
    axis = translation.graph.integer(node, "axis", 0)
    translation.emit("gather", translation.inputs(node, 0, 1), node.outputs, axis=axis)


def _gather_elements(translation: Translation, node: OnnxNode) -> None:
    axis = translation.graph.integer(node, "axis", 0)
    translation.emit("gather_elements", translation.inputs(node, 0, 1), node.outputs, axis=axis)


def _gather_nd(translation: Translation, node: OnnxNode) -> None:
    batch = translation.graph.integer(node, "batch_dims", 0)
    translation.emit("gather_nd", translation.inputs(node, 0, 1), node.outputs, batch=batch)


def _scatter(translation: Translation, node: OnnxNode) -> None:
    """Elements along an axis, or parts at indices."""
    reduction = translation.graph.text(node, "reduction", "none")
    if reduction not in ("none", "add", "mul", "max", "min"):
        raise UnsupportedError(f"its reduction is {reduction}")
    if node.operator == "ScatterND":
        translation.emit("scatter_nd", translation.inputs(node), node.outputs, reduction=reduction)
    else:
        axis = translation.graph.integer(node, "axis", 0)
        translation.emit("scatter_elements", translation.inputs(node), node.outputs, axis=axis, reduction=reduction)


def _shape(translation: Translation, node: OnnxNode) -> None:
    start = translation.graph.integer(node, "start", 0)
    end = translation.graph.integer(node, "end", 0) if "end" in node.attributes else None
    translation.emit("shape", translation.inputs(node, 0), node.outputs, start=start, end=end)


def _constant_of_shape(translation: Translation, node: OnnxNode) -> None:
    fill = fill_value(translation.graph, node)
    value = fill.reshape(-1)[0].item()
    translation.dtypes[node.outputs[0]] = fill.dtype.name
    translation.emit("fill", translation.inputs(node, 0), node.outputs, value=value, dtype=fill.dtype.name)


def _one_hot(translation: Translation, node: OnnxNode) -> None:
    """Values (off, on) of any numbers; the new axis has `depth` elements."""
    depth, values = translation.integers(node.input(1)), translation.constant(node.input(2))
    if depth is None or values is None:
        raise UnsupportedError("its depth or its values are computed as the network runs")
    off, on = (value.item() for value in values.reshape(-1))
    translation.dtypes[node.outputs[0]] = values.dtype.name
    translation.emit(
        "one_hot_values", translation.inputs(node, 0), node.outputs, depth=depth[0], off=off, on=on,
        axis=translation.graph.integer(node, "axis", -1), dtype=values.dtype.name,
    )  # fmt: skip


def _pad(translation: Translation, node: OnnxNode) -> None:
    graph, mode = translation.graph, translation.graph.text(node, "mode", "constant")
    if mode not in ("constant", "reflect", "edge"):
        raise UnsupportedError(f"its mode is {mode}")
    value = translation.number(node.input(2)) if node.input(2) else graph.real(node, "value", 0.0)
    if value is None:
        raise UnsupportedError("its value is computed as the network runs")
    value = int(value) if translation.is_integer(node.input(0)) else value
    is_computed = bool(node.input(1)) and translation.integers(node.input(1)) is None
    if is_computed and not node.input(3) and mode == "constant":
        translation.emit("pad_sizes", translation.inputs(node, 0, 1), node.outputs, value=value, by_axis=False)
        return
    settings: dict[str, Any] = {"pads": _widths(translation, node), "mode": mode, "value": value}
    if node.input(3):
        settings["axes"] = tuple(translation.needed_integers(node.input(3), "axes"))
    translation.emit("pad_axes" if node.input(3) else "pad", translation.inputs(node, 0), node.outputs, **settings)


def _widths(translation: Translation, node: OnnxNode) -> tuple[tuple[int, int], ...]:
    """What is added before and behind each axis: an input, or an attribute of old files."""
    if node.input(1):
        widths = translation.needed_integers(node.input(1), "widths")
    else:
        widths = translation.graph.integers(node, "pads") or translation.graph.integers(node, "paddings")
    half = len(widths) // 2
    return tuple(zip(widths[:half], widths[half:], strict=True))


def _triangle(translation: Translation, node: OnnxNode) -> None:
    offset = translation.number(node.input(1)) if node.input(1) else 0.0
    if offset is None:
        raise UnsupportedError("its diagonal is computed as the network runs")
    operator = "triu" if translation.graph.integer(node, "upper", 1) else "tril"
    translation.emit(operator, translation.inputs(node, 0), node.outputs, diagonal=int(offset))


def _blocks(translation: Translation, node: OnnxNode) -> None:
    size, mode = translation.graph.integer(node, "blocksize", 1), translation.graph.text(node, "mode", "DCR")
    if node.operator == "SpaceToDepth":
        translation.emit("space_to_depth", translation.inputs(node, 0), node.outputs, block=size)
    else:
        translation.emit("depth_to_space", translation.inputs(node, 0), node.outputs, block=size, mode=mode)


def _einsum(translation: Translation, node: OnnxNode) -> None:
    equation = translation.graph.text(node, "equation").replace(" ", "")
    translation.emit("einsum", translation.inputs(node), node.outputs, equation=equation)


def _size(translation: Translation, node: OnnxNode) -> None:
    translation.emit("numel", translation.inputs(node, 0), node.outputs)


def _range(translation: Translation, node: OnnxNode) -> None:
    translation.emit("range", translation.inputs(node), node.outputs)


def _nonzero(translation: Translation, node: OnnxNode) -> None:
    translation.emit("nonzero", translation.inputs(node, 0), node.outputs)


SHAPES: Mapping[str, Translate] = {
    "Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Expand": _expand, "Tile": _tile, "Slice": _slice, "Split": _split, "Concat": _concat, "Gather": _gather,
    "GatherElements": _gather_elements, "GatherND": _gather_nd, "ScatterND": _scatter, "ScatterElements": _scatter,
    "Scatter": _scatter, "Shape": _shape, "Size": _size, "ConstantOfShape": _constant_of_shape, "Range": _range,
    "OneHot": _one_hot, "Pad": _pad, "Trilu": _triangle, "DepthToSpace": _blocks, "SpaceToDepth": _blocks,
    "Einsum": _einsum, "NonZero": _nonzero,
}  # fmt: skip
