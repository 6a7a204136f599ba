"""TensorFlow operations that hold weights, as layers of torch under the names of the file; and their poolings.

Kernels are (h, w, in, out) in TensorFlow and (out, h, w, in) in TensorFlow Lite, of products (in, out) and (out, in).
Source: tensorflow/core/api_def/base_api; tensorflow/lite/kernels.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from regraft.formats.tensorflow_program import ProgramOperation
from regraft.networks.drafting import UnsupportedError
from regraft.networks.network import Array, Input
from regraft.networks.tensorflow_numbers import activate
from regraft.networks.tensorflow_translation import TensorFlowTranslation, Translate
from regraft.operations.moves import Reshape, Transpose
from regraft.operations.operation import Operation as Move

_BIASED = ("BiasAdd", "Add", "AddV2")
_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "BatchNormWithGlobalNormalization")


def _after(array: Array, *moves: Move) -> Array:
    """An array after more operations."""
    return Array(array.sources, (*array.operations, *moves))


def as_vector(translation: TensorFlowTranslation, array: Array | None, count: int) -> Array | None:
    """The array as a vector of so many numbers; None when it has another number of them."""
    shape = () if array is None else translation.shape(array)
    if array is None or prod(shape) != count:
        return None
    return array if shape == (count,) else _after(array, Reshape((count,)))


class _Tail:
    """What an operation does behind its own work: a bias, an activation; and the name of what it then gives."""

    def __init__(self, translation: TensorFlowTranslation, operation: ProgramOperation, count: int) -> None:
        fused = [str(word) for word in operation.settings.get("fused_ops") or ()]
        self.bias: Array | None = None
        self.output, self.activation, self.slope = operation.name, "", ""
        extra = list(operation.inputs[2:])
        for word in fused:
            if word == "BiasAdd":
                self.bias = as_vector(translation, translation.weight(extra.pop(0)), count)
                if self.bias is None:
                    raise UnsupportedError("its bias is computed as the network runs")
            elif word == "Prelu":
                self.activation, self.slope = word, extra.pop(0)
            elif word in _NORMS:
                raise UnsupportedError(f"it is fused with {word}")
            else:
                self.activation = word
        self.activation = self.activation or str(operation.settings.get("fused_activation") or "")
        if not fused and not self.activation:
            self._take_bias(translation, operation, count)

    def _take_bias(self, translation: TensorFlowTranslation, operation: ProgramOperation, count: int) -> None:
        """The bias that the one operation behind adds, which is then part of the layer."""
        user = translation.only_user(operation.name)
        if user is None or user.op not in _BIASED or self.bias is not None:
            return
        other = next((name for name in user.inputs if name != operation.name), "")
        array = translation.weight(other) if other else None
        shape = () if array is None else translation.shape(array)
        is_last = bool(shape) and shape[-1] == count
        if is_last and user.settings.get("fused_activation") is None and _is_channels_last(user):
            bias = as_vector(translation, array, count)
            if bias is not None:
                self.bias, self.output = bias, user.name
                translation.absorbed.add(user.name)

    def finish(self, translation: TensorFlowTranslation, operation: ProgramOperation) -> str:
        """The name that the layer itself gives; the activation is written behind it by `activate`."""
        return translation.draft.unnamed(operation.name) if self.activation else self.output

    def activate(self, translation: TensorFlowTranslation, operation: ProgramOperation, value: str) -> None:
        """Write the activation."""
        if self.slope:
            _slope(translation, operation, value, self.slope)
        elif self.activation:
            activate(translation, operation, value, self.activation, self.output)


def _is_channels_last(operation: ProgramOperation) -> bool:
    return not str(operation.settings.get("data_format") or "NHWC").startswith("NC")


def _space(operation: ProgramOperation, name: str, rank: int) -> tuple[int, ...]:
    """The part of a list of the operation's settings that is for the axes of space."""
    numbers = [int(number) for number in operation.settings.get(name) or [1] * (rank + 2)]
    return tuple(numbers[1:-1] if _is_channels_last(operation) else numbers[2:])


def _padding(operation: ProgramOperation, rank: int) -> Any:
    """ "same", "valid", or (before, after) for each axis of space."""
    word = str(operation.settings.get("padding") or "VALID").lower()
    if word != "explicit":
        return word
    pads = [int(number) for number in operation.settings.get("explicit_paddings") or ()]
    pairs = list(zip(pads[::2], pads[1::2], strict=True))
    return tuple(pairs[1:-1] if _is_channels_last(operation) else pairs[2:])


# --- convolutions -----------------------------------------------------------------------------------------------------


def _convolution(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """Conv2D, Conv3D and their fused forms."""
    kernel = translation.needed_weight(operation, 1)
    shape = translation.shape(kernel)
    rank = len(shape) - 2
    if translation.is_lite:  # (out, *space, in)
        order, sizes, outputs = (0, rank + 1, *range(1, rank + 1)), shape[1:-1], shape[0]
    else:  # (*space, in, out)
        order, sizes, outputs = (rank + 1, rank, *range(rank)), shape[:-2], shape[-1]
    weight = _after(kernel, Transpose(order))
    # Groups are not recorded: the kernel has the channels of one, and the input tells their number.
    _layer(translation, operation, "conv", weight, sizes, outputs, {"groups": None})


def _depthwise(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    kernel = translation.needed_weight(operation, 1)
    shape = translation.shape(kernel)
    if translation.is_lite:  # (1, h, w, in · multiplier)
        channels, sizes = shape[3] // int(operation.settings.get("depth_multiplier") or 1), shape[1:3]
        outputs, weight = shape[3], _after(kernel, Transpose((3, 0, 1, 2)))
    else:  # (h, w, in, multiplier)
        channels, sizes, outputs = shape[2], shape[:2], shape[2] * shape[3]
        weight = _after(kernel, Transpose((2, 3, 0, 1)), Reshape((outputs, 1, *sizes)))
    _layer(translation, operation, "conv", weight, sizes, outputs, {"groups": channels})


def _layer(
    translation: TensorFlowTranslation, operation: ProgramOperation, operator: str, weight: Array, sizes: Sequence[int],
    outputs: int, settings: Mapping[str, object],
) -> None:  # fmt: skip
    tail, rank = _Tail(translation, operation, outputs), len(sizes)
    arrays = {"weight": weight} | ({"bias": tail.bias} if tail.bias is not None else {})
    given = tail.finish(translation, operation)
    translation.layer(
        operation, operator, [translation.value(operation.inputs[0])], given, arrays, kernel=tuple(sizes),
        stride=_space(operation, "strides", rank), dilation=_space(operation, "dilations", rank),
        padding=_padding(operation, rank), channels_last=_is_channels_last(operation), **settings,
    )  # fmt: skip
    tail.activate(translation, operation, given)


def _transposed(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """The gradient of a convolution: (size, kernel, map). The size of the output tells what is cut off."""
    kernel = translation.needed_weight(operation, 1)
    shape = translation.shape(kernel)
    if translation.is_lite:  # (out, h, w, in)
        weight, sizes, outputs = _after(kernel, Transpose((3, 0, 1, 2))), shape[1:3], shape[0]
    else:  # (h, w, out, in)
        weight, sizes, outputs = _after(kernel, Transpose((3, 2, 0, 1))), shape[:2], shape[2]
    stride = _space(operation, "strides", 2)
    cuts, extra = _cuts(operation, sizes, stride)
    whole = translation.integers(operation.inputs[0]) or []
    size = tuple(whole[1:3] if _is_channels_last(operation) else whole[2:4]) if len(whole) == 4 else None
    tail = _Tail(translation, _without_size(operation), outputs)
    arrays = {"weight": weight} | ({"bias": tail.bias} if tail.bias is not None else {})
    given = tail.finish(translation, operation)
    translation.layer(
        operation, "conv_transpose", [translation.value(operation.inputs[2])], given, arrays, kernel=tuple(sizes),
        stride=stride, dilation=(1, 1), groups=1, padding=cuts, output_padding=extra, size=size,
        channels_last=_is_channels_last(operation),
    )  # fmt: skip
    tail.activate(translation, operation, given)


def _without_size(operation: ProgramOperation) -> ProgramOperation:
    """The operation with its bias, where it has one, as the third input, as convolutions have it."""
    fused = ["BiasAdd"] if len(operation.inputs) > 3 else []
    return ProgramOperation(
        operation.op, operation.name, (*operation.inputs[:2], *operation.inputs[3:]),
        {**operation.settings, "fused_ops": operation.settings.get("fused_ops") or fused},
    )  # fmt: skip


def _cuts(
    operation: ProgramOperation, kernel: Sequence[int], stride: Sequence[int]
) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """(what is cut before and after each axis, zeros that are added after it), for an output of the usual size.

    "same": the output is stride times the input, and the whole is cut as TensorFlow pads it.
    """
    if _padding(operation, len(kernel)) == "valid":
        return ((0, 0),) * len(kernel), tuple(max(step - size, 0) for size, step in zip(kernel, stride, strict=True))
    if _padding(operation, len(kernel)) != "same":
        raise UnsupportedError("its padding is explicit")
    cuts = [max(size - step, 0) for size, step in zip(kernel, stride, strict=True)]
    extra = tuple(max(step - size, 0) for size, step in zip(kernel, stride, strict=True))
    return tuple((cut // 2, cut - cut // 2) for cut in cuts), extra


# --- products ---------------------------------------------------------------------------------------------------------


def _product(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """MatMul and its fused form: a dense layer when the second factor is an array."""
    weight = translation.weight(operation.inputs[1])
    is_layer = weight is not None and len(translation.shape(weight)) == 2 and "float" in _dtype(translation, weight)
    if weight is None or operation.settings.get("transpose_a") or not is_layer:
        _plain_product(translation, operation)
        return
    if not operation.settings.get("transpose_b"):
        weight = _after(weight, Transpose((1, 0)))
    _dense(translation, operation, weight)


def _dtype(translation: TensorFlowTranslation, array: Array) -> str:
    return array.dtype_in(translation.checkpoint.infos)


def _plain_product(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    factors: list[Input] = []
    for index, name in ((0, "transpose_a"), (1, "transpose_b")):
        value = translation.value(operation.inputs[index])
        is_turned = operation.settings.get(name)
        value = translation.step("matrix_transpose", [value], operation) if is_turned else value
        is_whole = translation.is_integer(operation.inputs[index])  # whole numbers of two sizes have no product
        factors.append(translation.step("cast", [value], operation, dtype="int64") if is_whole else value)
    if operation.settings.get("fused_ops"):
        raise UnsupportedError("its weights are computed as the network runs")
    translation.emit("matmul", factors, operation.name)


def _dense(translation: TensorFlowTranslation, operation: ProgramOperation, weight: Array) -> None:
    tail = _Tail(translation, operation, translation.shape(weight)[0])
    arrays = {"weight": weight} | ({"bias": tail.bias} if tail.bias is not None else {})
    given = tail.finish(translation, operation)
    translation.layer(operation, "linear", [translation.value(operation.inputs[0])], given, arrays)
    tail.activate(translation, operation, given)


def _fully_connected(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """TensorFlow Lite's dense layer: weights (out, in); all axes but the last are one, unless they are kept."""
    weight = translation.weight(operation.inputs[1])
    if weight is None:
        raise UnsupportedError("its weights are computed as the network runs")
    value = translation.value(operation.inputs[0])
    if not operation.settings.get("keep_num_dims"):
        inputs = translation.shape(weight)[1]
        if len(operation.settings.get("input_shape") or (1, 1)) != 2:
            value = translation.step("reshape", [value], operation, shape=(-1, inputs))
    has_bias = len(operation.inputs) > 2 and bool(operation.inputs[2])
    fused = ProgramOperation(operation.op, operation.name, operation.inputs,
                      {**operation.settings, "fused_ops": ["BiasAdd"] if has_bias else []})  # fmt: skip
    tail = _Tail(translation, fused, translation.shape(weight)[0])
    arrays = {"weight": weight} | ({"bias": tail.bias} if tail.bias is not None else {})
    given = tail.finish(translation, operation)
    translation.layer(operation, "linear", [value], given, arrays)
    tail.activate(translation, operation, given)


# --- norms, activations, tables ---------------------------------------------------------------------------------------


def _batch_norm(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """Scale, offset, mean, variance. In a graph for training the averages are variables beside the scale."""
    roles = ("weight", "bias", "running_mean", "running_var")
    arrays = {role: translation.weight(name) for role, name in zip(roles, operation.inputs[1:5], strict=True)}
    if operation.settings.get("is_training", True) is not False:
        arrays |= _moving_averages(translation, arrays["weight"] or arrays["bias"])
    if any(array is None for array in arrays.values()):
        raise UnsupportedError("it takes statistics of the batch, and the file holds no averages for it")
    eps = operation.settings.get("epsilon")
    translation.layer(
        operation, "batch_norm", [translation.value(operation.inputs[0])], operation.name,
        {role: array for role, array in arrays.items() if array is not None}, eps=1e-4 if eps is None else eps,
        axis=-1 if _is_channels_last(operation) else 1,
    )  # fmt: skip


def _moving_averages(translation: TensorFlowTranslation, beside: Array | None) -> dict[str, Array | None]:
    """The averages in the scope of a norm's scale."""
    scope = "" if beside is None or not beside.sources else beside.sources[0].rpartition("/")[0]
    names = {"running_mean": f"{scope}/moving_mean", "running_var": f"{scope}/moving_variance"}
    return {role: Array((name,)) if name in translation.checkpoint else None for role, name in names.items()}


def _prelu(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    _slope(translation, operation, translation.value(operation.inputs[0]), operation.inputs[1])


def _slope(translation: TensorFlowTranslation, operation: ProgramOperation, value: Input, name: str) -> None:
    """A slope for each channel, or one; slopes of another shape are steps."""
    slope = translation.weight(name)
    shape = () if slope is None else translation.shape(slope)
    long = [axis - len(shape) for axis, size in enumerate(shape) if size != 1]
    vector = None if len(long) > 1 else as_vector(translation, slope, prod(shape))
    if vector is None:
        low = translation.step("clamp", [value], operation, max=0.0)
        scaled = translation.step("mul", [translation.value(name), low], operation)
        translation.emit("add", [translation.step("relu", [value], operation), scaled], operation.name)
    else:
        translation.layer(
            operation, "prelu", [value], operation.name, {"weight": vector}, **({"axis": long[0]} if long else {})
        )


def _bias(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """A bias that belongs to no layer."""
    x, bias = translation.inputs(operation, 0, 1)
    if not _is_channels_last(operation):
        raise UnsupportedError("it adds along the second axis, behind no layer")
    translation.emit("add", [x, bias], operation.name)


def _lookup(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """Rows of a table that was learned."""
    table = translation.array(operation.inputs[0])
    indices, settings = translation.value(operation.inputs[1]), operation.settings
    axis = settings.get("axis")
    if axis is None and len(operation.inputs) > 2:
        axis = translation.needed_integers(operation, 2, "axes")[0]
    is_table = table is not None and len(translation.shape(table)) == 2 and isinstance(indices, str)
    if table is not None and is_table and not axis and not translation.is_integer(operation.inputs[0]):
        translation.layer(operation, "embedding", [indices], operation.name, {"weight": table})
    else:
        translation.emit(
            "gather", [translation.value(operation.inputs[0]), indices], operation.name, axis=int(axis or 0)
        )


# --- pooling ----------------------------------------------------------------------------------------------------------


def _pool(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    rank = len(operation.settings.get("ksize") or (1,) * 4) - 2
    output = operation.name
    activation = str(operation.settings.get("fused_activation") or "")
    given = translation.draft.unnamed(output) if activation else output
    translation.emit(
        "max_pool" if operation.op.startswith("Max") else "avg_pool", translation.inputs(operation, 0), given,
        kernel=_space(operation, "ksize", rank), stride=_space(operation, "strides", rank),
        padding=_padding(operation, rank), channels_last=_is_channels_last(operation),
    )  # fmt: skip
    if activation:
        activate(translation, operation, given, activation, output)


LAYERS: Mapping[str, Translate] = {
    **dict.fromkeys(("Conv2D", "Conv3D", "_FusedConv2D", "FusedConv2D"), _convolution),
    **dict.fromkeys(
        ("DepthwiseConv2dNative", "FusedDepthwiseConv2dNative", "DepthwiseConv2d", "_FusedDepthwiseConv2dNative"),
        _depthwise,
    ),
    "Conv2DBackpropInput": _transposed, "MatMul": _product, "_FusedMatMul": _product,
    "FullyConnected": _fully_connected, **dict.fromkeys(_NORMS[:3], _batch_norm), "Prelu": _prelu, "BiasAdd": _bias,
    "GatherV2": _lookup, "Gather": _lookup, "ResourceGather": _lookup,
    **dict.fromkeys(("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D"), _pool),
}  # fmt: skip
