"""What Keras' layers and bare operations without arrays compute, in words that other frameworks share."""

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.arrays import Facts
from regraft.formats.arithmetic import with_number
from regraft.formats.keras_config import Settings

# Layers of Keras 2 around a bare operation, as h * 2.5.
_OLD_OPERATIONS = ("TFOpLambda", "TensorFlowOpLayer")
_OPERATIONS = {
    "Add": "add", "Subtract": "sub", "Multiply": "mul", "TrueDivide": "div", "Divide": "div", "Power": "pow",
    "__operators__.add": "add", "math.add": "add", "math.subtract": "sub", "math.multiply": "mul",
    "math.truediv": "div", "math.divide": "div", "math.pow": "pow",
}  # fmt: skip
_ACTIVATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh", "Silu": "silu", "Swish": "silu",
    "Softplus": "softplus", "Softsign": "softsign", "Selu": "selu", "HardSwish": "hard_swish", "HardSilu": "hard_swish",
    "HardSigmoid": "hard_sigmoid", "Mish": "mish", "nn.relu": "relu", "nn.relu6": "relu6", "math.sigmoid": "sigmoid",
    "math.tanh": "tanh", "nn.silu": "silu", "nn.swish": "silu", "nn.softplus": "softplus",
}  # fmt: skip
_PLAIN = {"Absolute": "abs", "Exp": "exp", "Log": "log", "Sqrt": "power 0.5", "Square": "power 2", "Erf": "erf",
          "Sign": "sign", "Flip": "flip", "UnitNormalization": "normalize", "math.abs": "abs",
          "math.sqrt": "power 0.5", "math.square": "power 2"}  # fmt: skip


def layer_function(class_name: str, settings: Settings, shape: Sequence[int | None] | None) -> Facts:
    """What a layer without arrays computes; nothing where it has no name in other frameworks.

    shape   of its input without the batch, where the file records it
    """
    if class_name.startswith("UpSampling"):
        return {"function": _resize(settings.get("interpolation", "nearest"))}
    if class_name.startswith("GlobalMax"):
        return {"function": "global max"}
    if class_name == "Rescaling" and not isinstance(settings.get("scale"), list):
        return {"function": [settings.get("scale", 1.0), settings.get("offset", 0.0)]}
    if class_name in ("Softmax", "LogSoftmax"):
        return {"function": _softmax(settings.get("axis", -1), shape)}
    return {"function": _PLAIN[class_name]} if class_name in _PLAIN else {}


def _resize(mode: object) -> str:
    return f"resize {'linear' if mode == 'bilinear' else mode}"


def _softmax(axis: object, shape: Sequence[int | None] | None) -> str:
    """Over the channels, which are Keras' last axis, or over another one; torch counts it one further."""
    last = None if shape is None else len(shape)
    if axis in (-1, last) or axis == [-1] or not isinstance(axis, int):
        return "softmax" if isinstance(axis, int) or axis == [-1] else "softmax over several axes"
    return f"softmax over axis {axis + 1 if axis > 0 else axis}"


def operation_function(entry: Mapping[str, object]) -> Facts:
    """What a bare operation of a model's list computes, as x * 2.5 or ops.gelu(x)."""
    settings = entry.get("config")
    settings = settings if isinstance(settings, Mapping) else {}
    is_old = entry.get("class_name") in _OLD_OPERATIONS
    word = str(settings.get("function") if is_old else entry.get("class_name"))
    if word in ("Gelu", "nn.gelu"):
        is_exact = settings.get("approximate", not is_old) is False
        return {"activation": "gelu" if is_exact else "gelu_tanh"}
    if word == "LeakyRelu":
        return {"activation": f"leaky_relu({settings.get('negative_slope', 0.2):g})"}
    if word in _ACTIVATIONS:
        return {"activation": _ACTIVATIONS[word]}
    if word in _PLAIN:
        return {"function": _PLAIN[word]}
    function = _arithmetic(_OPERATIONS.get(word, ""), _arguments(entry.get("inbound_nodes")))
    return {} if function is None else {"function": function}


def _arguments(nodes: object) -> list[Any]:
    """The arguments of the first call in order: numbers as they are, None for tensors."""
    call = nodes[0] if isinstance(nodes, list) and nodes else None
    if isinstance(call, Mapping):
        return _arguments_of_keras3(call)
    return _arguments_of_keras2(call) if isinstance(call, list) and call else []


def _arguments_of_keras3(call: Mapping[str, Any]) -> list[Any]:
    given = [*call.get("args", ()), *(value for key, value in call.get("kwargs", {}).items() if key != "name")]
    return [value if _is_number(value) else None for value in given]


def _arguments_of_keras2(call: list[Any]) -> list[Any]:
    first = call if isinstance(call[0], str) else call[0]
    if not isinstance(first, list) or len(first) < 4 or not isinstance(first[3], Mapping):
        return []
    return [None, *(value for key, value in first[3].items() if key in ("x", "y") and _is_number(value))]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _arithmetic(word: str, arguments: Sequence[Any]) -> list[float] | str | None:
    """[factor, summand] of a map and a number, or what stands for it; None for other operations."""
    numbers = [value for value in arguments if value is not None]
    if len(arguments) != 2 or len(numbers) != 1:
        return None
    return with_number(word, numbers[0], is_first=arguments[0] is not None)
