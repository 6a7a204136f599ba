"""TensorFlow operations that move numbers: reshape, slice, gather, pad, resize and the like.

Source: tensorflow/core/api_def/base_api.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from regraft.formats.tensorflow_program import ProgramOperation
from regraft.networks.drafting import UnsupportedError
from regraft.networks.network import Input
from regraft.networks.tensorflow_constants import slice_index
from regraft.networks.tensorflow_translation import TensorFlowTranslation, Translate

Step = tuple[str, dict[str, Any]]  # operator and settings


def _reshape(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    shape = translation.integers(operation.inputs[1]) if len(operation.inputs) > 1 else operation.settings["shape"]
    if shape is None:
        translation.emit("reshape", translation.inputs(operation, 0, 1), operation.name)
    elif 0 in shape:
        raise UnsupportedError("it makes an empty tensor")
    else:
        translation.emit("reshape", translation.inputs(operation, 0), operation.name, shape=_any_batch(shape))


def _any_batch(shape: Sequence[int]) -> tuple[int, ...]:
    """Sizes that were written for a batch of one hold for every batch, where no other axis is left open."""
    return (-1, *shape[1:]) if shape[:1] == [1] and -1 not in shape and len(shape) > 1 else tuple(shape)


def _squeeze(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    axes = operation.settings.get("squeeze_dims") or None
    translation.emit(
        "squeeze", translation.inputs(operation, 0), operation.name, axes=None if axes is None else tuple(axes)
    )


def _expand_dims(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    axis = translation.needed_integers(operation, 1, "axes")[0]
    translation.emit("unsqueeze", translation.inputs(operation, 0), operation.name, axes=(axis,))


def _pack(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    axis = int(operation.settings.get("axis") or 0)
    translation.emit("stack", translation.inputs(operation), operation.name, axis=axis)


def _unpack(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    count, axis = int(operation.settings.get("num") or 1), int(operation.settings.get("axis") or 0)
    outputs = [translation.output(operation, index) for index in range(count)]
    translation.dtypes |= dict.fromkeys(outputs, translation.dtype(operation.inputs[0]))
    translation.emit("unstack", translation.inputs(operation, 0), outputs, axis=axis)


def _concat(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """The first version has the axis in front; TensorFlow Lite has it in its settings."""
    places = {"ConcatV2": (slice(None, -1), -1), "Concat": (slice(1, None), 0)}
    if "axis" in operation.settings:
        parts, axis = operation.inputs, int(operation.settings["axis"])
    else:
        part, place = places[operation.op]
        parts = operation.inputs[part]
        numbers = translation.integers(operation.inputs[place])
        if numbers is None:
            raise UnsupportedError("its axis is computed as the network runs")
        axis = numbers[0]
    translation.emit("concat", [translation.value(name) for name in parts], operation.name, axis=axis)


def _split(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """Into equal parts: axis, value."""
    axis = translation.needed_integers(operation, 0, "axes")[0]
    count = int(operation.settings.get("num_split") or 1)
    outputs = [translation.output(operation, index) for index in range(count)]
    translation.dtypes |= dict.fromkeys(outputs, translation.dtype(operation.inputs[1]))
    translation.emit("chunk", translation.inputs(operation, 1), outputs, count=count, axis=axis)


def _split_sizes(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """Into parts of given sizes: value, sizes, axis. One size may be -1, for the rest."""
    sizes = translation.needed_integers(operation, 1, "sizes")
    axis = translation.needed_integers(operation, 2, "axes")[0]
    outputs = [translation.output(operation, index) for index in range(len(sizes))]
    translation.dtypes |= dict.fromkeys(outputs, translation.dtype(operation.inputs[0]))
    if -1 in sizes:
        _split_rest(translation, operation, sizes, axis)
    else:
        translation.emit("split", translation.inputs(operation, 0), outputs, sizes=tuple(sizes), axis=axis)


def _split_rest(
    translation: TensorFlowTranslation, operation: ProgramOperation, sizes: Sequence[int], axis: int
) -> None:
    """Parts before the open one count from the start, parts behind it from the end."""
    place = list(sizes).index(-1)
    for index in range(len(sizes)):
        start = sum(sizes[:index]) if index <= place else -sum(sizes[index:])
        end = sum(sizes[: index + 1]) if index < place else -sum(sizes[index + 1 :]) or None
        translation.emit(
            "slice", translation.inputs(operation, 0), translation.output(operation, index), axes=(axis,),
            starts=(start,), ends=(end,), steps=(1,),
        )  # fmt: skip


def _slice(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    begins = translation.integers(operation.inputs[1])
    sizes = translation.integers(operation.inputs[2])
    if begins is None or sizes is None:
        translation.emit("slice_sizes", translation.inputs(operation), operation.name)
        return
    ends = tuple(None if size < 0 else begin + size for begin, size in zip(begins, sizes, strict=True))
    translation.emit(
        "slice", translation.inputs(operation, 0), operation.name, axes=tuple(range(len(begins))),
        starts=tuple(begins), ends=ends, steps=(1,) * len(begins),
    )  # fmt: skip


def _strided_slice(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    bounds = [translation.integers(name) for name in operation.inputs[1:4]]
    if any(bound is None for bound in bounds):
        _slice_by_values(translation, operation)
        return
    index = slice_index(operation.settings, [bound for bound in bounds if bound is not None])
    if any(isinstance(part, slice) and (part.step or 1) < 0 for part in index):
        _flipped(translation, operation, index)
        return
    _indexed(translation, operation, translation.value(operation.inputs[0]), index)


def _indexed(
    translation: TensorFlowTranslation, operation: ProgramOperation, value: Input, index: Sequence[object]
) -> None:
    """A slice of some axes, then those of which one place is taken, then new axes."""
    if ... in index:
        translation.emit("subscript", [value], operation.name, index=tuple(map(_part, index)))
        return
    steps = [*_slices(index), *_numbers(index), *_new_axes(index)]
    for operator, settings in steps[:-1]:
        value = translation.step(operator, [value], operation, **settings)
    if steps:
        translation.emit(steps[-1][0], [value], operation.name, **steps[-1][1])
    else:
        translation.alias(operation.name, value)


def _slices(index: Sequence[object]) -> Iterator[Step]:
    """The axes of which a part is taken."""
    places = enumerate(part for part in index if part is not None)
    parts = {axis: part for axis, part in places if isinstance(part, slice) and part != slice(None, None, 1)}
    if parts:
        bounds = [(part.start or 0, part.stop, part.step) for part in parts.values()]
        starts, ends, steps = zip(*bounds, strict=True)
        yield "slice", {"axes": tuple(parts), "starts": starts, "ends": ends, "steps": steps}


def _numbers(index: Sequence[object]) -> Iterator[Step]:
    """The axes of which one place is taken, the last first."""
    places = [part for part in index if part is not None]
    for axis in reversed(range(len(places))):
        if not isinstance(places[axis], slice):
            yield "index", {"axes": (axis,), "index": places[axis]}


def _new_axes(index: Sequence[object]) -> Iterator[Step]:
    if None in index:
        kept = [part for part in index if part is None or isinstance(part, slice)]
        yield "unsqueeze", {"axes": tuple(axis for axis, part in enumerate(kept) if part is None)}


def _part(part: object) -> Any:
    """A part of an index as plain data: "..." for all axes between, (start, stop, step) of a slice."""
    return "..." if part is ... else (part.start, part.stop, part.step) if isinstance(part, slice) else part


def _flipped(translation: TensorFlowTranslation, operation: ProgramOperation, index: Sequence[Any]) -> None:
    """Steps of -1 over whole axes are a flip; torch has no other negative steps."""
    whole = (slice(None, None, 1), slice(None, None, -1))
    if any(part not in whole for part in index):
        raise UnsupportedError("it goes backwards over a part of an axis")
    axes = tuple(axis for axis, part in enumerate(index) if part.step == -1)
    translation.emit("flip", translation.inputs(operation, 0), operation.name, axes=axes)


def _slice_by_values(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """Bounds that are computed as the network runs, along the first axes."""
    masks = {name: int(operation.settings.get(f"{name}_mask") or 0) for name in
             ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}  # fmt: skip
    steps = translation.needed_integers(operation, 3, "steps")
    if masks["ellipsis"] or masks["new_axis"] or min(steps) < 0:
        raise UnsupportedError("its bounds are computed as the network runs, and it adds axes or goes backwards")
    translation.emit(
        "slice_masked", translation.inputs(operation, 0, 1, 2), operation.name, steps=tuple(steps),
        begin_mask=masks["begin"], end_mask=masks["end"], shrink_mask=masks["shrink_axis"],
    )  # fmt: skip


def _transpose(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    axes = translation.needed_integers(operation, 1, "axes")
    translation.emit("permute", translation.inputs(operation, 0), operation.name, axes=tuple(axes))


def _tile(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    _by_numbers(translation, operation, "tile", "repeats")


def _broadcast(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    _by_numbers(translation, operation, "expand", "shape")


def _by_numbers(translation: TensorFlowTranslation, operation: ProgramOperation, operator: str, setting: str) -> None:
    """An operator whose second input is a setting where its numbers are known, and an input where they are not."""
    numbers = translation.integers(operation.inputs[1])
    if numbers is None:
        translation.emit(operator, translation.inputs(operation), operation.name)
    else:
        translation.emit(operator, translation.inputs(operation, 0), operation.name, **{setting: tuple(numbers)})


def _fill(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    value = translation.constant(operation.inputs[1])
    if value is None or value.size != 1:
        raise UnsupportedError("its value is computed as the network runs")
    dtype = translation.dtypes[operation.name] = value.dtype.name
    translation.emit("fill", translation.inputs(operation, 0), operation.name, value=value.item(), dtype=dtype)


def _range(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    translation.emit("range", translation.inputs(operation), operation.name)


def _like(value: float, translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    translation.emit("full_like", translation.inputs(operation, 0), operation.name, value=value)


def _gather(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    axis = operation.settings.get("axis")
    if axis is None:
        axis = translation.needed_integers(operation, 2, "axes")[0] if len(operation.inputs) > 2 else 0
    if operation.settings.get("batch_dims"):
        raise UnsupportedError("it has axes of a batch")
    translation.emit("gather", translation.inputs(operation, 0, 1), operation.name, axis=int(axis))


def _gather_nd(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    translation.emit("gather_nd", translation.inputs(operation, 0, 1), operation.name, batch=0)


def _reverse(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    axes = translation.needed_integers(operation, 1, "axes")
    translation.emit("flip", translation.inputs(operation, 0), operation.name, axes=tuple(axes))


def _pad(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    sides = translation.constant(operation.inputs[1])
    value = translation.number(operation.inputs[2]) if len(operation.inputs) > 2 else 0.0
    if value is None:
        raise UnsupportedError("its value is computed as the network runs")
    if sides is None and operation.op != "MirrorPad":
        translation.emit("pad_sizes", translation.inputs(operation, 0, 1), operation.name, value=value, by_axis=True)
        return
    if sides is None or sides.ndim != 2:
        raise UnsupportedError("its widths are computed as the network runs")
    mode = str(operation.settings.get("mode") or "constant").lower() if operation.op == "MirrorPad" else "constant"
    pads = tuple((int(before), int(after)) for before, after in sides)
    if translation.is_integer(operation.inputs[0]):
        value = int(value)
    translation.emit("pad", translation.inputs(operation, 0), operation.name, pads=pads, mode=mode, value=value)


def _one_hot(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    depth = translation.needed_integers(operation, 1, "depths")[0]
    on, off = (translation.constant(name) for name in operation.inputs[2:4])
    if on is None or off is None:
        raise UnsupportedError("its values are computed as the network runs")
    axis = operation.settings.get("axis")
    dtype = translation.dtypes[operation.name] = on.dtype.name
    translation.emit(
        "one_hot_values", translation.inputs(operation, 0), operation.name, depth=depth, off=off.item(), on=on.item(),
        axis=-1 if axis is None else int(axis), dtype=dtype,
    )  # fmt: skip


def _shape(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    translation.emit("shape", translation.inputs(operation, 0), operation.name)


def _size(operator: str, translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    translation.emit(operator, translation.inputs(operation, 0), operation.name)


def _resize(mode: str, translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """Source: tensorflow/core/kernels/image/resize_{bilinear,nearest_neighbor}_op.cc."""
    settings = operation.settings
    align, half = bool(settings.get("align_corners")), bool(settings.get("half_pixel_centers"))
    coordinates = "align_corners" if align else "half_pixel" if half else "asymmetric"
    named: dict[str, Any] = {"mode": mode, "coordinates": coordinates, "channels_last": True}
    if mode == "nearest":
        named["rounding"] = "round_prefer_ceil" if align else "floor"
        named["coordinates"] = "tf_half_pixel_for_nn" if half and not align else coordinates
    size = translation.integers(operation.inputs[1])
    if size is None:
        translation.emit("resize_to_map", translation.inputs(operation, 0, 1), operation.name, **named)
    else:
        translation.emit("resize", translation.inputs(operation, 0), operation.name, size=tuple(size), **named)
    translation.dtypes[operation.name] = "float32" if mode == "linear" else translation.dtype(operation.inputs[0])


def _blocks(operator: str, translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    block = int(operation.settings.get("block_size") or 1)
    channels_last = operation.settings.get("data_format") != "NCHW"
    translation.emit(
        operator, translation.inputs(operation, 0), operation.name, block=block, channels_last=channels_last
    )


def _batches(operator: str, translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """Blocks of a map as items of the batch, and back; convolutions between the two have holes."""
    block = translation.needed_integers(operation, 1, "blocks")
    sides = translation.constant(operation.inputs[2])
    if sides is None:
        raise UnsupportedError("its widths are computed as the network runs")
    pairs = tuple((int(before), int(after)) for before, after in sides)
    translation.emit(operator, translation.inputs(operation, 0), operation.name, block=tuple(block), sides=pairs)


def _band_part(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """A triangle of matrices."""
    lower, upper = (translation.needed_integers(operation, index, "widths")[0] for index in (1, 2))
    value: Input = translation.value(operation.inputs[0])
    if lower >= 0:
        value = translation.step("triu", [value], operation, diagonal=-lower)
    if upper >= 0:
        value = translation.step("tril", [value], operation, diagonal=upper)
    translation.alias(operation.name, value)


SHAPES: Mapping[str, Translate] = {
    "Reshape": _reshape, "Squeeze": _squeeze, "ExpandDims": _expand_dims, "Pack": _pack, "Unpack": _unpack,
    "ConcatV2": _concat, "Concat": _concat, "Split": _split, "SplitV": _split_sizes, "Slice": _slice,
    "StridedSlice": _strided_slice, "Transpose": _transpose, "Tile": _tile, "BroadcastTo": _broadcast,
    "Fill": _fill, "Range": _range, "ZerosLike": partial(_like, 0.0), "OnesLike": partial(_like, 1.0),
    "GatherV2": _gather, "Gather": _gather, "GatherNd": _gather_nd, "ReverseV2": _reverse, "Pad": _pad,
    "PadV2": _pad, "MirrorPad": _pad, "OneHot": _one_hot, "Shape": _shape, "Size": partial(_size, "numel"),
    "Rank": partial(_size, "rank"), "ResizeBilinear": partial(_resize, "linear"),
    "ResizeNearestNeighbor": partial(_resize, "nearest"), "DepthToSpace": partial(_blocks, "depth_to_space"),
    "SpaceToDepth": partial(_blocks, "space_to_depth"), "SpaceToBatchND": partial(_batches, "space_to_batch"),
    "BatchToSpaceND": partial(_batches, "batch_to_space"), "MatrixBandPart": _band_part,
}  # fmt: skip
