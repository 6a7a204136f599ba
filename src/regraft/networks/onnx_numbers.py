"""ONNX operators on numbers by themselves, and on numbers at the same position.

Source: onnx/onnx, docs/Operators.md; the defaults of attributes are ONNX's.
"""

from collections.abc import Mapping
from functools import partial
from math import inf

from regraft.formats.onnx_nodes import OnnxNode
from regraft.formats.onnx_tensors import DTYPES
from regraft.networks.drafting import UnsupportedError
from regraft.networks.network import Literal
from regraft.networks.onnx_translation import Translate, Translation

_PLAIN = {  # operator → ours, with the same inputs and no attributes
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Neg": "neg",
    "Abs": "abs", "Floor": "floor", "Ceil": "ceil", "Round": "round", "Erf": "erf", "Sign": "sign",
    "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan",
    "Sinh": "sinh", "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh",
    "Reciprocal": "reciprocal", "Not": "logical_not", "IsNaN": "isnan", "Softplus": "softplus",
    "Softsign": "softsign", "Mish": "mish", "HardSwish": "hardswish", "BitwiseNot": "bitwise_not",
    "Add": "add", "Sub": "sub", "Mul": "mul", "Pow": "pow", "Equal": "equal", "Less": "less",
    "LessOrEqual": "less_equal", "Greater": "greater", "GreaterOrEqual": "greater_equal", "And": "logical_and",
    "Or": "logical_or", "Xor": "logical_xor", "Where": "where", "BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
}  # fmt: skip
_WITH_NUMBERS: Mapping[str, tuple[str, dict[str, tuple[str, float]]]] = {  # ours, setting → (attribute, default)
    "LeakyRelu": ("leaky_relu", {"slope": ("alpha", 0.01)}),
    "Elu": ("elu", {"alpha": ("alpha", 1.0)}),
    "Celu": ("celu", {"alpha": ("alpha", 1.0)}),
    "ThresholdedRelu": ("thresholded_relu", {"threshold": ("alpha", 1.0)}),
    "HardSigmoid": ("hardsigmoid", {"slope": ("alpha", 0.2), "offset": ("beta", 0.5)}),
}
_SELU = (1.67326319217681884765625, 1.05070102214813232421875)


def _plain(translation: Translation, node: OnnxNode) -> None:
    translation.emit(_PLAIN[node.operator], translation.inputs(node), node.outputs)


def _with_numbers(translation: Translation, node: OnnxNode) -> None:
    operator, settings = _WITH_NUMBERS[node.operator]
    numbers = {name: translation.graph.real(node, *attribute) for name, attribute in settings.items()}
    translation.emit(operator, translation.inputs(node), node.outputs, **numbers)


def _identity(translation: Translation, node: OnnxNode) -> None:
    translation.alias(node, translation.value(node.input(0)))
    translation.dtypes[node.outputs[0]] = translation.dtype(node.input(0))


def _cast(translation: Translation, node: OnnxNode) -> None:
    _cast_to(translation, node, DTYPES.get(translation.graph.integer(node, "to", 0), ""))


def _cast_like(translation: Translation, node: OnnxNode) -> None:
    _cast_to(translation, node, translation.dtype(node.input(1)))


def _cast_to(translation: Translation, node: OnnxNode, to: str) -> None:
    if not to or "4" in to.replace("64", "") or "float8" in to:
        raise UnsupportedError(f"it casts to {to or 'texts'}")
    if to in ("float16", "bfloat16"):
        translation.draft.notes[f"The file computes some values in {to}; the network computes them in float32."] = None
        to = "float32"
    translation.dtypes[node.outputs[0]] = to
    if translation.dtype(node.input(0)) == to:
        translation.alias(node, translation.value(node.input(0)))
    else:
        translation.emit("cast", translation.inputs(node, 0), node.outputs, dtype=to)


def _divide(translation: Translation, node: OnnxNode) -> None:
    operator = "div_trunc" if translation.is_integer(node.input(0)) else "div"
    translation.emit(operator, translation.inputs(node), node.outputs)


def _remainder(translation: Translation, node: OnnxNode) -> None:
    """The remainder has the divisor's sign, as Python's, or with fmod the dividend's, as C's."""
    operator = "fmod" if translation.graph.integer(node, "fmod", 0) else "mod"
    translation.emit(operator, translation.inputs(node), node.outputs)


def _in_turn(operator: str, translation: Translation, node: OnnxNode) -> None:
    """An operator of two, done to all inputs in turn."""
    values = translation.inputs(node)
    if len(values) == 1:
        translation.emit("identity", values, node.outputs)
        return
    total = values[0]
    for value in values[1:-1]:
        total = translation.step(operator, [total, value], node.outputs[0])
    translation.emit(operator, [total, values[-1]], node.outputs)


def _mean(translation: Translation, node: OnnxNode) -> None:
    values = translation.inputs(node)
    total = values[0]
    for value in values[1:]:
        total = translation.step("add", [total, value], node.outputs[0])
    translation.emit("div", [total, Literal(float(len(values)))], node.outputs)


def _clip(translation: Translation, node: OnnxNode) -> None:
    """Bounds are inputs since opset 11; those that are computed become steps of their own."""
    graph = translation.graph
    if "min" in node.attributes or "max" in node.attributes or len(node.inputs) < 2:
        bounds: list[float | None] = [graph.real(node, "min", -inf), graph.real(node, "max", inf)]
    else:
        bounds = [translation.number(node.input(index)) for index in (1, 2)]
    if any(node.input(index + 1) and bound is None for index, bound in enumerate(bounds)):
        _clip_by_steps(translation, node)
        return
    least, most = (None if bound is None or abs(bound) >= 3.4e38 else bound for bound in bounds)
    if translation.is_integer(node.input(0)):
        least, most = (None if bound is None else int(bound) for bound in (least, most))
    translation.emit("clamp", translation.inputs(node, 0), node.outputs, min=least, max=most)


def _clip_by_steps(translation: Translation, node: OnnxNode) -> None:
    value = translation.value(node.input(0))
    if node.input(1):
        value = translation.step("maximum", [value, translation.value(node.input(1))], node.outputs[0])
    if node.input(2):
        value = translation.step("minimum", [value, translation.value(node.input(2))], node.outputs[0])
    translation.alias(node, value)


def _gelu(translation: Translation, node: OnnxNode) -> None:
    is_tanh = translation.graph.text(node, "approximate", "none") == "tanh"
    translation.emit("gelu", translation.inputs(node, 0), node.outputs, approximate=is_tanh)


def _fast_gelu(translation: Translation, node: OnnxNode) -> None:
    """ONNX Runtime's gelu by tanh, and its gelu with a bias."""
    value = translation.value(node.input(0))
    if node.input(1):
        value = translation.step("add", [value, translation.value(node.input(1))], node.outputs[0])
    translation.emit("gelu", [value], node.outputs, approximate=node.operator == "FastGelu")


def _selu(translation: Translation, node: OnnxNode) -> None:
    """torch's selu has ONNX's default numbers; others are gamma · elu(x, alpha)."""
    alpha, gamma = (translation.graph.real(node, name, 0.0) for name in ("alpha", "gamma"))
    alpha, gamma = alpha or _SELU[0], gamma or _SELU[1]
    if abs(alpha - _SELU[0]) < 1e-5 and abs(gamma - _SELU[1]) < 1e-5:
        translation.emit("selu", translation.inputs(node), node.outputs)
        return
    value = translation.step("elu", translation.inputs(node), node.outputs[0], alpha=alpha)
    translation.emit("mul", [value, Literal(gamma)], node.outputs)


def _swish(translation: Translation, node: OnnxNode) -> None:
    """x · sigmoid(alpha · x): ONNX's Swish and ONNX Runtime's QuickGelu."""
    default = 1.702 if node.operator == "QuickGelu" else 1.0
    alpha, x = translation.graph.real(node, "alpha", default), translation.value(node.input(0))
    scaled = translation.step("mul", [x, Literal(alpha)], node.outputs[0])
    translation.emit("mul", [x, translation.step("sigmoid", [scaled], node.outputs[0])], node.outputs)


def _shrink(translation: Translation, node: OnnxNode) -> None:
    bias, edge = translation.graph.real(node, "bias", 0.0), translation.graph.real(node, "lambd", 0.5)
    if bias not in (0.0, edge):
        raise UnsupportedError(f"its bias is {bias} and its lambd {edge}")
    operator = "softshrink" if bias else "hardshrink"
    translation.emit(operator, translation.inputs(node), node.outputs, threshold=edge)


def _is_inf(translation: Translation, node: OnnxNode) -> None:
    signs = [translation.graph.integer(node, name, 1) for name in ("detect_negative", "detect_positive")]
    if signs == [1, 1]:
        translation.emit("isinf", translation.inputs(node), node.outputs)
    else:
        translation.emit("equal", [*translation.inputs(node), Literal(inf if signs[1] else -inf)], node.outputs)


def _slope_by_steps(translation: Translation, node: OnnxNode) -> None:
    """A PRelu whose slopes are no vector along one axis: max(x, 0) + slope · min(x, 0)."""
    x, slope = translation.inputs(node)
    low = translation.step("clamp", [x], node.outputs[0], max=0.0)
    scaled = translation.step("mul", [slope, low], node.outputs[0])
    translation.emit("add", [translation.step("relu", [x], node.outputs[0]), scaled], node.outputs)


NUMBERS: Mapping[str, Translate] = {
    **dict.fromkeys(_PLAIN, _plain),
    **dict.fromkeys(_WITH_NUMBERS, _with_numbers),
    "Identity": _identity, "Cast": _cast, "CastLike": _cast_like, "Div": _divide, "Mod": _remainder,
    "Max": partial(_in_turn, "maximum"), "Min": partial(_in_turn, "minimum"), "Sum": partial(_in_turn, "add"),
    "Mean": _mean, "Clip": _clip, "Gelu": _gelu, "FastGelu": _fast_gelu, "BiasGelu": _fast_gelu, "Selu": _selu,
    "Swish": _swish, "QuickGelu": _swish, "Shrink": _shrink, "IsInf": _is_inf, "PRelu": _slope_by_steps,
}  # fmt: skip
