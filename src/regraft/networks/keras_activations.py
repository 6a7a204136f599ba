"""Keras' activations, as steps."""

from collections.abc import Callable, Mapping
from typing import Any

from regraft.networks.keras_builder import LayerCall, RefusedError, number

# Name → the step and its settings. Source: keras/src/activations/activations.py.
_FUNCTIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "relu": ("relu", {}), "relu6": ("relu6", {}), "sigmoid": ("sigmoid", {}), "tanh": ("tanh", {}),
    "softmax": ("softmax", {"axis": -1}), "log_softmax": ("log_softmax", {"axis": -1}), "elu": ("elu", {"alpha": 1.0}),
    "selu": ("selu", {}), "gelu": ("gelu", {}), "swish": ("silu", {}), "silu": ("silu", {}), "exponential": ("exp", {}),
    "softplus": ("softplus", {}), "softsign": ("softsign", {}), "mish": ("mish", {}), "hard_swish": ("hardswish", {}),
    "hard_silu": ("hardswish", {}), "leaky_relu": ("leaky_relu", {"slope": 0.2}), "celu": ("celu", {"alpha": 1.0}),
    "log_sigmoid": ("logsigmoid", {}), "tanh_shrink": ("tanhshrink", {}),
    "hard_shrink": ("hardshrink", {"threshold": 0.5}), "soft_shrink": ("softshrink", {"threshold": 0.5}),
}  # fmt: skip


def activation_name(value: object) -> str:
    """The name of an activation in a layer's settings; "linear" for none."""
    if isinstance(value, Mapping):
        inner = value.get("config")
        return inner if isinstance(inner, str) else str(value.get("class_name"))
    return "linear" if value is None else str(value)


def activated(call: LayerCall, x: str, value: object) -> str:
    """The value behind an activation as a layer's settings name it."""
    name = activation_name(value)
    if name == "linear":
        return x
    if name == "hard_sigmoid":
        slope = 1 / 6 if call.builder.is_keras_3 else 0.2
        return call.step("hardsigmoid", x, slope=slope, offset=0.5)
    if isinstance(value, Mapping) and not isinstance(value.get("config"), str):
        return _layer_as_activation(call, x, value)
    if name not in _FUNCTIONS:
        raise RefusedError(f"its activation {name!r}")
    operator, settings = _FUNCTIONS[name]
    return call.step(operator, x, **settings)


def _layer_as_activation(call: LayerCall, x: str, value: Mapping[str, Any]) -> str:
    class_name, settings = str(value.get("class_name")), value.get("config") or {}
    if class_name not in ACTIVATION_LAYERS:
        raise RefusedError(f"its activation {class_name!r}")
    return ACTIVATION_LAYERS[class_name](call, x, settings)


def _relu(call: LayerCall, x: str, settings: Mapping[str, Any]) -> str:
    slope, most = settings.get("negative_slope") or 0.0, settings.get("max_value")
    if settings.get("threshold"):
        raise RefusedError("a ReLU with a threshold")
    if slope and most is not None:
        return call.step("minimum", call.step("leaky_relu", x, slope=slope), number(most))
    if slope:
        return call.step("leaky_relu", x, slope=slope)
    return call.step("relu", x) if most is None else call.step("clamp", x, min=0, max=per_int(most))


def per_int(value: float) -> float:
    """6.0 → 6."""
    return int(value) if float(value).is_integer() else value


def _leaky_relu(call: LayerCall, x: str, settings: Mapping[str, Any]) -> str:
    return call.step("leaky_relu", x, slope=float(settings.get("negative_slope", settings.get("alpha", 0.3))))


def _softmax(call: LayerCall, x: str, settings: Mapping[str, object]) -> str:
    axis = settings.get("axis", -1)
    if not isinstance(axis, int):
        raise RefusedError("a Softmax over several axes")
    return call.step("softmax", x, axis=axis)


ACTIVATION_LAYERS: Mapping[str, Callable[[LayerCall, str, Mapping[str, Any]], str]] = {
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": lambda call, x, settings: call.step("elu", x, alpha=float(settings.get("alpha", 1.0))),
    "Softmax": _softmax,
}
