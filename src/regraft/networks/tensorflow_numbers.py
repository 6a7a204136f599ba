"""TensorFlow operations on numbers by themselves, along axes, and products of matrices.

Source: tensorflow/core/api_def/base_api.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from regraft.formats.tensorflow_program import ProgramOperation
from regraft.networks.drafting import UnsupportedError
from regraft.networks.network import Input, Literal
from regraft.networks.tensorflow_translation import TensorFlowTranslation, Translate

_PLAIN = {  # operation → ours, with the same inputs and no settings
    "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh", "Exp": "exp", "Expm1": "expm1",
    "Log": "log", "Log1p": "log1p", "Sqrt": "sqrt", "Rsqrt": "rsqrt", "Neg": "neg", "Abs": "abs", "Floor": "floor",
    "Ceil": "ceil", "Round": "round", "Rint": "round", "Erf": "erf", "Erfc": "erfc", "Sin": "sin", "Cos": "cos",
        "Tan": "tan",
    "Asin": "asin", "Acos": "acos", "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh", "Asinh": "asinh",
    "Acosh": "acosh", "Atanh": "atanh", "Sign": "sign", "Reciprocal": "reciprocal", "Inv": "reciprocal",
    "Square": "square", "LogicalNot": "logical_not", "IsNan": "isnan", "IsInf": "isinf", "Softplus": "softplus",
    "Softsign": "softsign", "Selu": "selu", "HardSwish": "hardswish", "Add": "add", "AddV2": "add", "Sub": "sub",
    "Mul": "mul", "Pow": "pow", "Maximum": "maximum", "Minimum": "minimum", "Equal": "equal",
    "NotEqual": "not_equal", "Less": "less", "LessEqual": "less_equal", "Greater": "greater",
    "GreaterEqual": "greater_equal", "LogicalAnd": "logical_and", "LogicalOr": "logical_or",
    "SquaredDifference": "squared_difference", "FloorDiv": "floor_div", "FloorMod": "mod", "Atan2": "atan2",
    "SelectV2": "where",
}  # fmt: skip
_ACTIVATIONS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "Relu": ("relu", {}), "Relu6": ("relu6", {}), "Elu": ("elu", {"alpha": 1.0}), "Sigmoid": ("sigmoid", {}),
    "Tanh": ("tanh", {}), "ReluN1To1": ("clamp", {"min": -1.0, "max": 1.0}),
    "Relu0To1": ("clamp", {"min": 0.0, "max": 1.0}),
}  # fmt: skip
_REDUCTIONS = {"Mean": "mean", "Sum": "sum", "Max": "max", "Min": "min", "Prod": "prod", "Any": "any", "All": "all",
               "EuclideanNorm": "l2"}  # fmt: skip


def activate(
    translation: TensorFlowTranslation, operation: ProgramOperation, value: Input, word: str, output: str
) -> None:
    """The activation that an operation does behind its own work."""
    if word == "LeakyRelu":
        slope = operation.settings.get("leakyrelu_alpha")
        translation.emit("leaky_relu", [value], output, slope=0.2 if slope is None else slope)
        return
    if word not in _ACTIVATIONS:
        raise UnsupportedError(f"its activation is {word}")
    operator, settings = _ACTIVATIONS[word]
    translation.emit(operator, [value], output, **settings)


def _plain(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    fused = operation.settings.get("fused_activation") or ""
    output = translation.draft.unnamed(operation.name) if fused else operation.name
    translation.emit(_PLAIN[operation.op], translation.inputs(operation), output)
    if fused:
        activate(translation, operation, output, fused, operation.name)


def _divide(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """Div of whole numbers is cut towards 0; RealDiv is of real ones."""
    operator = "div_trunc" if translation.is_integer(operation.inputs[0]) else "div"
    fused = operation.settings.get("fused_activation") or ""
    output = translation.draft.unnamed(operation.name) if fused else operation.name
    translation.emit(operator, translation.inputs(operation), output)
    if fused:
        activate(translation, operation, output, fused, operation.name)


def _divide_no_nan(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """0 where the divisor is 0."""
    x, y = translation.inputs(operation, 0, 1)
    quotient = translation.step("div", [x, y], operation)
    is_zero = translation.step("equal", [y, Literal(0.0)], operation)
    translation.emit("where", [is_zero, Literal(0.0), quotient], operation.name)


def _leaky_relu(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    slope = operation.settings.get("alpha")
    translation.emit("leaky_relu", translation.inputs(operation), operation.name, slope=0.2 if slope is None else slope)


def _elu(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    translation.emit("elu", translation.inputs(operation), operation.name, alpha=1.0)


def _gelu(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    is_tanh = bool(operation.settings.get("approximate"))
    translation.emit("gelu", translation.inputs(operation, 0), operation.name, approximate=is_tanh)


def _between(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """TensorFlow Lite's activations between two bounds."""
    activate(translation, operation, translation.value(operation.inputs[0]), operation.op, operation.name)


def _clip(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    least, most = (translation.number(name) for name in operation.inputs[1:3])
    if least is None or most is None:
        raise UnsupportedError("its bounds are computed as the network runs")
    translation.emit("clamp", translation.inputs(operation, 0), operation.name, min=least, max=most)


def _sum_all(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    values = translation.inputs(operation)
    total: Input = values[0]
    for value in values[1:-1]:
        total = translation.step("add", [total, value], operation)
    if len(values) == 1:
        translation.alias(operation.name, total)
    else:
        translation.emit("add", [total, values[-1]], operation.name)


def _cast(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    to = str(operation.settings.get("DstT") or "float32")
    if to in ("float16", "bfloat16"):
        translation.draft.notes[f"The file computes some values in {to}; the network computes them in float32."] = None
        to = "float32"
    source = translation.dtype(operation.inputs[0])
    translation.dtypes[operation.name] = to
    value = translation.value(operation.inputs[0])
    if source == to:
        translation.alias(operation.name, value)
    elif source == "complex64":
        translation.emit("real_part", [value], operation.name)
    else:
        translation.emit("cast", [value], operation.name, dtype=to)


def _select(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """The first version takes a condition of one axis along the first axis of the others; rarely, so it is refused."""
    translation.emit("select_rows", translation.inputs(operation), operation.name)


def _reduce(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    axes = translation.needed_integers(operation, 1, "axes")
    keep = bool(operation.settings.get("keep_dims") or operation.settings.get("keepdims"))
    if not axes:
        translation.alias(operation.name, translation.value(operation.inputs[0]))
        return
    translation.emit(
        _REDUCTIONS[operation.op], translation.inputs(operation, 0), operation.name, axes=tuple(axes), keepdim=keep
    )


def _argument(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    axis = translation.needed_integers(operation, 1, "axes")[0] if len(operation.inputs) > 1 else 0
    word = {"ArgMax": "argmax", "ArgMin": "argmin"}[operation.op]
    translation.emit(word, translation.inputs(operation, 0), operation.name, axes=axis, keepdim=False)


def _softmax(operator: str, translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    value, beta = translation.value(operation.inputs[0]), operation.settings.get("beta", 1.0)
    if beta != 1.0:
        value = translation.step("mul", [value, Literal(beta)], operation)
    translation.emit(operator, [value], operation.name, axis=-1)


def _cumsum(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    if operation.settings.get("exclusive") or operation.settings.get("reverse"):
        raise UnsupportedError("it goes backwards, or leaves out the element itself")
    axis = translation.needed_integers(operation, 1, "axes")[0]
    translation.emit("cumsum", translation.inputs(operation, 0), operation.name, axis=axis)


def _topk(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    count = translation.needed_integers(operation, 1, "numbers of elements")[0]
    outputs = [operation.name, translation.output(operation, 1)]
    translation.dtypes[outputs[1]] = "int32"
    translation.emit("topk", translation.inputs(operation, 0), outputs, k=count, axis=-1, largest=True)


def _batch_matmul(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    factors: list[Input] = []
    for index, name in ((0, "adj_x"), (1, "adj_y")):
        value = translation.value(operation.inputs[index])
        is_turned = operation.settings.get(name)
        factors.append(translation.step("matrix_transpose", [value], operation) if is_turned else value)
    translation.emit("matmul", factors, operation.name)


def _einsum(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    equation = str(operation.settings.get("equation", "")).replace(" ", "")
    translation.emit("einsum", translation.inputs(operation), operation.name, equation=equation)


def _local_response(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """TensorFlow sums squares over 2 · radius + 1 channels without dividing by their number, which torch does."""
    settings = operation.settings
    radius, alpha = (settings.get("depth_radius") or 5), settings.get("alpha")
    size = 2 * int(radius) + 1
    beta, bias = settings.get("beta"), settings.get("bias")
    translation.emit(
        "local_response_norm", translation.inputs(operation, 0), operation.name, size=size,
        alpha=(1.0 if alpha is None else alpha) * size, beta=0.5 if beta is None else beta,
        bias=1.0 if bias is None else bias, channels_last=True,
    )  # fmt: skip


def _l2_normalize(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """TensorFlow Lite's, along the last axis."""
    translation.emit("l2_normalize", translation.inputs(operation, 0), operation.name, axis=-1, eps=1e-6)


def _fourier(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    lengths = translation.needed_integers(operation, 1, "lengths")
    translation.dtypes[operation.name] = "complex64"
    operator = "rfft2" if operation.op == "RFFT2D" else "rfft"
    translation.emit(operator, translation.inputs(operation, 0), operation.name, lengths=tuple(lengths))


def _part(operator: str, translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """The absolute value, the real or the imaginary part of complex numbers."""
    translation.dtypes[operation.name] = "float32"
    translation.emit(operator, translation.inputs(operation, 0), operation.name)


NUMBERS: Mapping[str, Translate] = {
    **dict.fromkeys(_PLAIN, _plain), **dict.fromkeys(_REDUCTIONS, _reduce),
    "RealDiv": _divide, "Div": _divide, "TruncateDiv": _divide, "DivNoNan": _divide_no_nan,
    "LeakyRelu": _leaky_relu, "Elu": _elu, "Gelu": _gelu, "ReluN1To1": _between, "Relu0To1": _between,
    "ClipByValue": _clip, "AddN": _sum_all, "Cast": _cast, "Select": _select, "ArgMax": _argument,
    "ArgMin": _argument, "Softmax": partial(_softmax, "softmax"), "LogSoftmax": partial(_softmax, "log_softmax"),
    "Cumsum": _cumsum, "TopKV2": _topk, "BatchMatMul": _batch_matmul, "BatchMatMulV2": _batch_matmul,
    "BatchMatMulV3": _batch_matmul, "Einsum": _einsum, "LRN": _local_response, "L2Normalization": _l2_normalize,
    "RFFT": _fourier, "RFFT2D": _fourier, "ComplexAbs": partial(_part, "abs"), "Real": partial(_part, "real_part"),
    "Imag": partial(_part, "imaginary_part"),
}  # fmt: skip
