"""Keras' layers that join values, change shapes or wrap others, as steps."""

from regraft.networks.keras_activations import activated
from regraft.networks.keras_builder import LayerCall, RefusedError, number
from regraft.networks.keras_convolutions import is_last
from regraft.operations.moves import Reshape, Transpose

_JOINS = {"Add": "add", "Multiply": "mul", "Maximum": "maximum", "Minimum": "minimum", "Average": "add"}


def join(call: LayerCall) -> str:
    """Add, Multiply, Maximum, Minimum, Average, Subtract."""
    kind = call.layer.class_name
    x = call.inputs[0]
    for other in call.inputs[1:]:
        x = call.step("sub" if kind == "Subtract" else _JOINS[kind], x, other)
    return call.step("div", x, number(len(call.inputs))) if kind == "Average" else x


def concatenate(call: LayerCall) -> str:
    """Concatenate."""
    return call.step("concat", *call.inputs, axis=int(call.settings.get("axis", call.settings.get("concat_axis", -1))))


def dot(call: LayerCall) -> str:
    """Dot: the products of two tensors over one axis of each, for each example."""
    axes = call.settings.get("axes")
    if call.settings.get("normalize") or len(call.inputs) != 2:
        raise RefusedError("it normalises its inputs" if call.settings.get("normalize") else "it has no two inputs")
    pair = (axes, axes) if isinstance(axes, int) else tuple(axes or ())
    if len(pair) != 2 or 0 in pair:
        raise RefusedError(f"its axes {axes!r}")
    return call.step("batch_dot", *call.inputs, axes=pair)


def flatten(call: LayerCall) -> str:
    """Flatten; of channels first, Keras moves the channels last before it flattens."""
    if is_last(call):
        return call.step("flatten", call.x, start=1)
    return call.step("flatten", call.step("channels_last", call.x), start=1)


def reshape(call: LayerCall) -> str:
    """Reshape, the batch not counted."""
    shape = call.settings.get("target_shape", call.settings.get("dims"))
    return call.step("reshape", call.x, shape=(0 if -1 in shape else -1, *shape))


def permute(call: LayerCall) -> str:
    """Permute, the batch not counted."""
    return call.step("permute", call.x, axes=(0, *call.settings["dims"]))


def repeat_vector(call: LayerCall) -> str:
    """RepeatVector: (n, d) → (n, count, d)."""
    count = int(call.settings["n"])
    return call.step("tile", call.step("unsqueeze", call.x, axes=(1,)), repeats=(1, count, 1))


def einsum_dense(call: LayerCall) -> str:
    """EinsumDense: a dense layer where one axis is summed over, the last; else a step."""
    equation = str(call.settings["equation"]).replace(" ", "")
    given, kernel, result = equation.replace("->", ",").split(",")
    shape = call.shape("kernel")
    summed = [axis for axis in kernel if axis not in result]
    is_dense = len(summed) == 1 and kernel[0] == summed[0] == given[-1] and result.endswith(kernel[1:])
    if is_dense and len(kernel) == 2:
        arrays = {"weight": call.array("kernel", Transpose((1, 0), ("in", "out")))}
        if call.has("bias"):
            bias = call.shape("bias")
            arrays["bias"] = call.array("bias", *([Reshape((bias[-1],))] if len(bias) > 1 else []))
        x = call.builder.layer("linear", call.path, [call.x], arrays)
        return activated(call, x, call.settings.get("activation"))
    if len(shape) != len(kernel) or "." in equation:
        raise RefusedError(f"its equation {equation}")
    x = call.step("einsum", call.x, call.array("kernel"), equation=equation)
    if call.has("bias"):
        x = call.step("add", x, call.array("bias"))
    return activated(call, x, call.settings.get("activation"))


def resizing(call: LayerCall) -> str:
    """Resizing to a fixed size, as tf.image.resize does."""
    words = {"bilinear": "linear", "nearest": "nearest"}
    mode = call.settings.get("interpolation", "bilinear")
    if mode not in words or call.settings.get("crop_to_aspect_ratio") or call.settings.get("pad_to_aspect_ratio"):
        raise RefusedError(f"its interpolation {mode!r}, or that it keeps the aspect ratio")
    if mode == "nearest" and call.builder.is_keras_3:
        raise RefusedError("its interpolation 'nearest', which the backends of Keras 3 compute differently")
    size = (int(call.settings["height"]), int(call.settings["width"]))
    exact = {"coordinates": "tf_half_pixel_for_nn", "rounding": "floor"} if mode == "nearest" else {}
    chosen = {"coordinates": "half_pixel", **exact}
    return call.step("resize", call.x, size=size, mode=words[mode], channels_last=is_last(call), **chosen)
