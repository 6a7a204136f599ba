"""Keras' convolutions, dense layers, paddings and poolings, as layers and steps."""

import re
from typing import Any

from regraft.networks.keras_activations import activated
from regraft.networks.keras_builder import LayerCall, RefusedError
from regraft.networks.network import Array
from regraft.operations.moves import Reshape, Transpose
from regraft.operations.operation import Operation


def rank_of(call: LayerCall) -> int:
    """The number of spatial axes, as the class's name has it."""
    match = re.search(r"([123])D", call.layer.class_name)
    assert match is not None
    return int(match[1])


def is_last(call: LayerCall) -> bool:
    """Whether the channels are the last axis."""
    held = call.settings.get("data_format", call.settings.get("dim_ordering"))
    return held not in ("channels_first", "th")


def per_axis(value: Any, rank: int) -> tuple[int, ...]:
    """A setting with one number for each axis."""
    return (int(value),) * rank if isinstance(value, int) else tuple(int(item) for item in value)


def kernel_operations(shape: tuple[int, ...]) -> tuple[Operation, ...]:
    """(*spatial, in, out) → (out, in, *spatial)."""
    rank = len(shape) - 2
    return (Transpose((rank + 1, rank, *range(rank)), (*"tdhw"[-rank:], "in", "out")),)


def depthwise_operations(shape: tuple[int, ...]) -> tuple[Operation, ...]:
    """(*spatial, channels, multiplier) → (channels · multiplier, 1, *spatial)."""
    rank = len(shape) - 2
    moved = Transpose((rank, rank + 1, *range(rank)), (*"tdhw"[-rank:], "in", "mult"))
    return (moved, Reshape((shape[-2] * shape[-1], 1, *shape[:-2])))


def _window(call: LayerCall, rank: int) -> dict[str, Any]:
    settings = call.settings
    padding = settings.get("padding", settings.get("border_mode", "valid"))
    strides = per_axis(settings.get("strides", settings.get("subsample", 1)), rank)
    dilation = per_axis(settings.get("dilation_rate", 1), rank)
    return {"stride": strides, "dilation": dilation, "padding": padding, "channels_last": is_last(call)}


def _causal(window: dict[str, Any], kernel: tuple[int, ...]) -> dict[str, Any]:
    """A causal padding as widths."""
    if window["padding"] != "causal":
        return window
    pads = tuple(((k - 1) * d, 0) for k, d in zip(kernel, window["dilation"], strict=True))
    return {**window, "padding": pads}


def _biased(call: LayerCall, arrays: dict[str, Array]) -> dict[str, Array]:
    return {**arrays, "bias": call.array("bias")} if call.has("bias") else arrays


def conv(call: LayerCall) -> str:
    """Conv1D, Conv2D, Conv3D."""
    shape = call.shape("kernel")
    window = _causal(_window(call, len(shape) - 2), shape[:-2])
    arrays = _biased(call, {"weight": call.array("kernel", *kernel_operations(shape))})
    x = call.builder.layer("conv", call.path, [call.x], arrays, groups=call.settings.get("groups", 1), **window)
    return activated(call, x, call.settings.get("activation"))


def depthwise(call: LayerCall) -> str:
    """DepthwiseConv1D, DepthwiseConv2D."""
    leaf = "kernel" if call.has("kernel") else "depthwise_kernel"
    shape = call.shape(leaf)
    arrays = _biased(call, {"weight": call.array(leaf, *depthwise_operations(shape))})
    x = call.builder.layer("conv", call.path, [call.x], arrays, groups=shape[-2], **_window(call, len(shape) - 2))
    return activated(call, x, call.settings.get("activation"))


def separable(call: LayerCall) -> str:
    """SeparableConv1D, SeparableConv2D: a depthwise and a pointwise convolution."""
    depth, point = call.shape("depthwise_kernel"), call.shape("pointwise_kernel")
    rank = len(depth) - 2
    window = _causal(_window(call, rank), depth[:-2])
    first = {"weight": call.array("depthwise_kernel", *depthwise_operations(depth))}
    second = _biased(call, {"weight": call.array("pointwise_kernel", *kernel_operations(point))})
    x = call.builder.layer("conv", f"{call.path}/depthwise", [call.x], first, groups=depth[-2], **window)
    x = call.builder.layer("conv", f"{call.path}/pointwise", [x], second, channels_last=is_last(call))
    return activated(call, x, call.settings.get("activation"))


def conv_transpose(call: LayerCall) -> str:
    """Conv1DTranspose to Conv3DTranspose. Source of the sizes: keras/src/backend/common/backend_utils.py."""
    shape = call.shape("kernel")
    rank = len(shape) - 2
    window, kernel = _window(call, rank), shape[:-2]
    if call.settings.get("output_padding") is not None:
        raise RefusedError("its output_padding")
    if set(window["dilation"]) != {1}:
        raise RefusedError("its dilation")
    pads, more = [], []
    for k, s in zip(kernel, window["stride"], strict=True):
        total = k - s if window["padding"] == "same" else min(k - s, 0)
        pads.append((max(total, 0) // 2, max(total, 0) - max(total, 0) // 2))
        more.append(max(-total, 0))
    moved = Transpose((rank + 1, rank, *range(rank)), (*"tdhw"[-rank:], "out", "in"))
    arrays = _biased(call, {"weight": call.array("kernel", moved)})
    given = {**window, "padding": tuple(pads), "output_padding": tuple(more)}
    x = call.builder.layer("conv_transpose", call.path, [call.x], arrays, **given)
    return activated(call, x, call.settings.get("activation"))


def dense(call: LayerCall) -> str:
    """Dense, on the last axis."""
    arrays = _biased(call, {"weight": call.array("kernel", Transpose((1, 0), ("in", "out")))})
    x = call.builder.layer("linear", call.path, [call.x], arrays)
    return activated(call, x, call.settings.get("activation"))


def zero_padding(call: LayerCall) -> str:
    """ZeroPadding1D to ZeroPadding3D."""
    pairs = _pairs(call.settings.get("padding", 1), rank_of(call))
    none = ((0, 0),)
    pads = none + pairs + none if is_last(call) else none * 2 + pairs
    return call.step("pad", call.x, pads=pads)


def _pairs(value: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """(before, after) for each axis, of a number for all, a number for each, or pairs."""
    if isinstance(value, int):
        return ((value, value),) * rank
    if rank == 1 and len(value) == 2 and isinstance(value[0], int):
        return ((int(value[0]), int(value[1])),)
    return tuple((item, item) if isinstance(item, int) else (int(item[0]), int(item[1])) for item in value)


def cropping(call: LayerCall) -> str:
    """Cropping1D to Cropping3D."""
    pairs = _pairs(call.settings.get("cropping", 1), rank_of(call))
    first = 1 if is_last(call) else 2
    axes = tuple(first + axis for axis, pair in enumerate(pairs) if any(pair))
    kept = [pair for pair in pairs if any(pair)]
    if not kept:
        return call.x
    starts, ends = tuple(before for before, _ in kept), tuple(-after or None for _, after in kept)
    return call.step("slice", call.x, starts=starts, ends=ends, axes=axes)


def upsampling(call: LayerCall) -> str:
    """UpSampling1D to UpSampling3D."""
    rank = rank_of(call)
    sizes = per_axis(call.settings.get("size", 2), rank)
    mode = call.settings.get("interpolation", "nearest")
    words = {"nearest": "nearest", "bilinear": "linear"}
    if mode not in words:
        raise RefusedError(f"its interpolation {mode!r}")
    channels_last = is_last(call) or rank == 1
    return call.step(
        "resize", call.x, scale=sizes, mode=words[mode], coordinates="half_pixel", channels_last=channels_last
    )


def pooling(call: LayerCall) -> str:
    """MaxPooling1D to AveragePooling3D."""
    rank, settings = rank_of(call), call.settings
    kernel = per_axis(settings.get("pool_size", settings.get("pool_length", 2)), rank)
    strides = settings.get("strides", settings.get("stride"))
    stride = kernel if strides is None else per_axis(strides, rank)
    padding = settings.get("padding", settings.get("border_mode", "valid"))
    operator = "max_pool" if call.layer.class_name.startswith("Max") else "avg_pool"
    return call.step(operator, call.x, kernel=kernel, stride=stride, padding=padding, channels_last=is_last(call))


def global_pooling(call: LayerCall) -> str:
    """GlobalMaxPooling1D to GlobalAveragePooling3D."""
    rank = rank_of(call)
    first = 1 if is_last(call) else 2
    operator = "max" if "Max" in call.layer.class_name else "mean"
    keepdim = bool(call.settings.get("keepdims", False))
    return call.step(operator, call.x, axes=tuple(range(first, first + rank)), keepdim=keepdim)
