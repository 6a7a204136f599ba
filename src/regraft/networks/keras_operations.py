"""Functions that stand in a Keras model without a layer: keras.ops of Keras 3, TensorFlow's in Keras 2."""

from collections.abc import Callable, Mapping
from typing import Any

from regraft.networks.keras_activations import activated
from regraft.networks.keras_builder import LayerCall, RefusedError
from regraft.networks.network import Input, Literal

_BINARY = {
    "Add": "add", "Subtract": "sub", "Multiply": "mul", "Divide": "div", "TrueDivide": "div", "Maximum": "maximum",
    "Minimum": "minimum", "Power": "pow", "Matmul": "matmul",
    "math.add": "add", "math.subtract": "sub", "math.multiply": "mul", "math.divide": "div", "math.truediv": "div",
    "__operators__.add": "add", "math.maximum": "maximum", "math.minimum": "minimum", "linalg.matmul": "matmul",
}  # fmt: skip
_ACTIVATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh", "Silu": "silu", "Softplus": "softplus",
    "Elu": "elu", "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "Exp": "exponential", "Selu": "selu",
    "nn.relu": "relu", "nn.relu6": "relu6", "math.sigmoid": "sigmoid", "nn.sigmoid": "sigmoid", "math.tanh": "tanh",
    "nn.silu": "silu", "nn.swish": "silu", "math.exp": "exponential",
}  # fmt: skip
_UNARY = {
    "Sqrt": "sqrt", "Square": "square", "Absolute": "abs", "Negative": "neg", "Log": "log", "Rsqrt": "rsqrt",
    "math.sqrt": "sqrt", "math.square": "square", "math.abs": "abs", "math.negative": "neg", "math.log": "log",
}  # fmt: skip
_REDUCTIONS = {
    "Mean": "mean", "Sum": "sum", "Max": "max", "Min": "min", "math.reduce_mean": "mean", "math.reduce_sum": "sum",
    "math.reduce_max": "max", "math.reduce_min": "min",
}  # fmt: skip


def function_name(class_name: str, settings: Mapping[str, object]) -> str:
    """What the entry computes: the class of Keras 3's operation, the function of TensorFlow's."""
    is_function = class_name in ("TFOpLambda", "SlicingOpLambda")
    return str(settings.get("function", class_name)) if is_function else class_name.removeprefix("ops.")


def operation(call: LayerCall) -> str:
    """The function's result."""
    name = function_name(call.layer.class_name, call.settings)
    arguments = [*call.inputs, *call.rest]
    if name in _BINARY:
        other = arguments[1] if len(arguments) > 1 else call.named.get("y", call.named.get("x2", call.named.get("b")))
        return call.step(_BINARY[name], _input(arguments[0]), _input(other))
    if not call.inputs:
        raise RefusedError("its first argument is no tensor")
    if name in _ACTIVATIONS:
        return activated(call, call.inputs[0], _ACTIVATIONS[name])
    if name in _UNARY:
        return call.step(_UNARY[name], call.inputs[0])
    if name in _REDUCTIONS:
        return _reduction(call, _REDUCTIONS[name])
    if name in _OTHERS:
        return _OTHERS[name](call)
    raise RefusedError("")


def _input(value: object) -> Input:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Literal(float(value))
    raise RefusedError(f"its argument {value!r}")


def _setting(call: LayerCall, *keys: str, default: object = None) -> Any:
    """An argument by name, in the call or in the operation's own settings."""
    for source in (call.named, call.settings):
        for key in keys:
            if source.get(key) is not None:
                return source[key]
    return default


def _reduction(call: LayerCall, operator: str) -> str:
    axes = _setting(call, "axis", default=call.rest[0] if call.rest else None)
    axes = (axes,) if isinstance(axes, int) else axes
    keepdim = bool(_setting(call, "keepdims", default=False))
    return call.step(operator, call.inputs[0], axes=None if axes is None else tuple(axes), keepdim=keepdim)


def _reshape(call: LayerCall) -> str:
    shape = _setting(call, "newshape", "shape", default=call.rest[0] if call.rest else None)
    if not isinstance(shape, list | tuple) or not all(isinstance(size, int) for size in shape):
        raise RefusedError(f"its shape {shape!r}")
    return call.step("reshape", call.inputs[0], shape=tuple(shape))


def _transpose(call: LayerCall) -> str:
    axes = _setting(call, "axes", "perm", default=call.rest[0] if call.rest else None)
    if not isinstance(axes, list | tuple):
        raise RefusedError(f"its axes {axes!r}")
    return call.step("permute", call.inputs[0], axes=tuple(axes))


def _concatenate(call: LayerCall) -> str:
    axis = _setting(call, "axis", default=call.rest[0] if call.rest else 0)
    return call.step("concat", *call.inputs, axis=int(axis))


def _softmax(call: LayerCall) -> str:
    return call.step("softmax", call.inputs[0], axis=int(_setting(call, "axis", default=-1)))


def _gelu(call: LayerCall) -> str:
    return call.step("gelu", call.inputs[0], approximate=bool(_setting(call, "approximate", default=True)))


def _expand(call: LayerCall) -> str:
    axis = _setting(call, "axis", default=call.rest[0] if call.rest else None)
    if not isinstance(axis, int):
        raise RefusedError(f"its axis {axis!r}")
    return call.step("unsqueeze", call.inputs[0], axes=(axis,))


def _squeeze(call: LayerCall) -> str:
    axis = _setting(call, "axis", default=call.rest[0] if call.rest else None)
    if not isinstance(axis, int):
        raise RefusedError(f"its axis {axis!r}")
    return call.step("squeeze", call.inputs[0], axes=(axis,))


_OTHERS: Mapping[str, Callable[[LayerCall], str]] = {
    "Reshape": _reshape, "reshape": _reshape, "Transpose": _transpose, "transpose": _transpose,
    "compat.v1.transpose": _transpose, "Concatenate": _concatenate, "concat": _concatenate, "Softmax": _softmax,
    "nn.softmax": _softmax, "Gelu": _gelu, "ExpandDims": _expand, "expand_dims": _expand, "Squeeze": _squeeze,
    "squeeze": _squeeze,
}  # fmt: skip
