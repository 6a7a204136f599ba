"""What an ONNX node without weights computes: an activation, arithmetic with a number, a resize and the like."""

from collections.abc import Callable

import numpy as np

from regraft.arrays import Facts
from regraft.formats.arithmetic import with_number
from regraft.formats.onnx_nodes import OnnxGraph, OnnxNode

_ACTIVATIONS = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hard_swish", "Selu": "selu", "Mish": "mish",
    "Softplus": "softplus", "Softsign": "softsign",
}  # fmt: skip
_PLAIN = {"Abs": "abs", "Exp": "exp", "Log": "log", "Erf": "erf", "Sin": "sin", "Cos": "cos", "Sign": "sign",
          "Floor": "floor", "Round": "round", "Sqrt": "power 0.5", "Reciprocal": "power -1",
          "GlobalMaxPool": "global max"}  # fmt: skip
_REDUCED = {"ReduceMax": "global max", "ReduceMin": "global min", "ReduceSum": "global sum"}
_MOST_INDICES = 64


def function_facts(graph: OnnxGraph, node: OnnxNode) -> Facts:
    """`activation` or `function` of a node; nothing for one that has no name in other frameworks."""
    kind = node.operator
    if kind in _ACTIVATIONS:
        return {"activation": _ACTIVATIONS[kind]}
    if kind in _WITH_NUMBERS:
        return {"activation": _WITH_NUMBERS[kind](graph, node)}
    if kind in _PLAIN:
        return {"function": _PLAIN[kind]}
    function = _FUNCTIONS[kind](graph, node) if kind in _FUNCTIONS else None
    return {} if function is None else {"function": function}


def _leaky_relu(graph: OnnxGraph, node: OnnxNode) -> str:
    return f"leaky_relu({graph.real(node, 'alpha', 0.01):g})"


def _elu(graph: OnnxGraph, node: OnnxNode) -> str:
    return f"{node.operator.lower()}({graph.real(node, 'alpha', 1.0):g})"


def _gelu(graph: OnnxGraph, node: OnnxNode) -> str:
    return "gelu_tanh" if graph.text(node, "approximate") == "tanh" else "gelu"


def _hard_sigmoid(graph: OnnxGraph, node: OnnxNode) -> str:
    is_torchs = abs(graph.real(node, "alpha", 0.2) - 1 / 6) < 1e-4 and graph.real(node, "beta", 0.5) == 0.5
    return "hard_sigmoid" if is_torchs else "hard_sigmoid of another slope"


def _clip(graph: OnnxGraph, node: OnnxNode) -> str:
    names = (*node.inputs[1:3], "", "")[:2]
    bounds = [graph.number(name) if name else None for name in names]
    if not any(names):
        bounds = [graph.real(node, "min", -np.inf), graph.real(node, "max", np.inf)]
    if None in bounds:
        return "relu" if bounds[0] == 0.0 and not names[1] else "clip"
    low, high = bounds
    return "relu6" if bounds == [0.0, 6.0] else f"clip({low:g}, {high:g})"


def _softmax(graph: OnnxGraph, node: OnnxNode) -> str:
    """Over the channels, in which axis torch has them, or over another one."""
    word = "softmax" if node.operator == "Softmax" else "log_softmax"
    axis = graph.integer(node, "axis", -1)
    return word if axis in (1, -1) else f"{word} over axis {axis}"


_WITH_NUMBERS: dict[str, Callable[[OnnxGraph, OnnxNode], str]] = {
    "LeakyRelu": _leaky_relu, "Elu": _elu, "Celu": _elu, "Gelu": _gelu, "HardSigmoid": _hard_sigmoid, "Clip": _clip,
}  # fmt: skip


def _arithmetic(graph: OnnxGraph, node: OnnxNode) -> list[float] | str | None:
    """[factor, summand] of a map and a number, or what stands for it; None for two maps."""
    if len(node.inputs) != 2:
        return None
    numbers = [graph.number(name) for name in node.inputs]
    number = next((value for value in numbers if value is not None), None)
    if number is None or None not in numbers:
        return None
    return with_number(node.operator.lower(), number, is_first=numbers[0] is not None)


def _resize(graph: OnnxGraph, node: OnnxNode) -> str:
    word = {"cubic": "bicubic"}.get(graph.text(node, "mode", "nearest"), graph.text(node, "mode", "nearest"))
    if node.operator == "Upsample":  # of opset 9: as asymmetric
        return "resize nearest" if word == "nearest" else f"resize {word}, asymmetric"
    places = graph.text(node, "coordinate_transformation_mode", "half_pixel")
    if places == "align_corners":
        return f"resize {word}, corners aligned"
    if word == "nearest":
        rounding = graph.text(node, "nearest_mode", "round_prefer_floor")
        is_torchs = (places, rounding) in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))
        return "resize nearest" if is_torchs else f"resize nearest, {places}, {rounding}"
    return f"resize {word}" if places in ("half_pixel", "pytorch_half_pixel") else f"resize {word}, {places}"


def _response_norm(graph: OnnxGraph, node: OnnxNode) -> str:
    numbers = [graph.real(node, name, usual) for name, usual in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))]
    return f"local response norm {graph.integer(node, 'size', 0)}, " + ", ".join(f"{number:g}" for number in numbers)


def _reduced(graph: OnnxGraph, node: OnnxNode) -> str | None:
    """Over several axes at once it is over height and width."""
    axes = graph.integers(node, "axes") or _whole_numbers(graph, node, 1)
    return _REDUCED[node.operator] if axes is not None and len(axes) > 1 else None


def _slice(graph: OnnxGraph, node: OnnxNode) -> str | None:
    steps = _whole_numbers(graph, node, 4) or []
    return "flip" if any(step < 0 for step in steps) else None


def _gather(graph: OnnxGraph, node: OnnxNode) -> str | None:
    indices = _whole_numbers(graph, node, 1) or []
    return f"take {indices}" if len(indices) > 1 else None


def _whole_numbers(graph: OnnxGraph, node: OnnxNode, index: int) -> list[int] | None:
    """The few whole numbers of an input; None where they are not recorded."""
    tensor = graph.tensors.get(node.input(index))
    if tensor is None or not tensor.dtype.startswith("int") or np.prod(tensor.shape) > _MOST_INDICES:
        return None
    return [int(number) for number in tensor.read().reshape(-1)]


_FUNCTIONS: dict[str, Callable[[OnnxGraph, OnnxNode], list[float] | str | None]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow"), _arithmetic),
    "Neg": lambda graph, node: [-1.0, 0.0],
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "LRN": _response_norm,
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(_REDUCED, _reduced),
    "Slice": _slice,
    "Gather": _gather,
}
