"""ONNX operators on integers that stand for real numbers, as the operators on real numbers that they stand for.

Weights are dequantised when they are read. Activations stay real numbers: they are cut off where the integers would be,
and not rounded, so that outputs differ from the file's own by the rounding, and gradients exist.
Source: onnx/onnx, docs/Operators.md; ONNX Runtime, docs/ContribOperators.md.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from regraft.formats.onnx_nodes import OnnxGraph, OnnxNode
from regraft.formats.onnx_quantised import Dequantised
from regraft.networks.drafting import UnsupportedError
from regraft.networks.network import Input, Literal
from regraft.networks.onnx_layers import LAYERS
from regraft.networks.onnx_numbers import NUMBERS
from regraft.networks.onnx_recurrent import RECURRENT
from regraft.networks.onnx_translation import Translate, Translation

NOTE = (
    "The file is quantised: the network has the weights' numbers and computes activations without rounding them, "
    "so that its outputs are near those of the file's own runtime, and not equal."
)
_RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}
_UNIT_USERS = frozenset({"Mul", "Div", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Identity", "DynamicQuantizeLinear"})


def note_scales(translation: Translation) -> None:
    """Let the scales of weights that read as real numbers count as 1 where the graph multiplies by them itself."""
    graph = translation.graph
    for node in graph.nodes:
        for name in (node.input(1), *node.inputs[:1]):
            if isinstance(graph.tensors.get(name), Dequantised):
                _unit_scale(translation, f"{name.removesuffix('_quantized')}_scale")


def _unit_scale(translation: Translation, name: str) -> None:
    if name in translation.graph.tensors and _misuse(translation.graph, name) is None:
        _set_unit(translation, name)


def _misuse(graph: OnnxGraph, name: str) -> str | None:
    """The operator that uses a scale for more than to multiply or divide by it; None when there is none."""
    users = (node.operator for node, _ in graph.consumers.get(name, ()))
    return next((word for word in users if word not in _UNIT_USERS), None)


def _set_unit(translation: Translation, name: str) -> None:
    translation.values[name] = Literal(1.0)
    translation.units.add(name)


def _dynamic(translation: Translation, node: OnnxNode) -> None:
    """y, its scale and its zero point: y stays real, so that the scale is 1 and the zero point 0."""
    _note(translation)
    value = translation.value(node.input(0))
    translation.alias(node, value)
    misuse = _misuse(translation.graph, node.outputs[1])
    if misuse is not None:
        raise UnsupportedError(f"its scale is an input of {misuse}")
    translation.real.add(node.outputs[0])
    _set_unit(translation, node.outputs[1])
    translation.values[node.outputs[2]] = Literal(0)


def _note(translation: Translation) -> None:
    translation.draft.notes[NOTE] = None


def _quantise(translation: Translation, node: OnnxNode) -> None:
    _note(translation)
    _saturate(translation, translation.value(node.input(0)), (node.input(1), node.input(2)), node.outputs[0])


def _saturate(translation: Translation, value: Input, names: tuple[str, str], output: str) -> None:
    """The value, cut off where integers of this scale and zero point end; an activation may be no more than this."""
    scale, zero = (translation.constant(name) if name else None for name in names)
    if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
        raise UnsupportedError("its scale is computed as the network runs, or is one for each channel")
    bounds = _RANGES.get("uint8" if zero is None else zero.dtype.name)
    if bounds is None:
        raise UnsupportedError("its numbers are of less than 8 bits")
    offset = 0 if zero is None else int(zero.reshape(()))
    least, most = (float((bound - offset) * scale.reshape(())) for bound in bounds)
    translation.real.add(output)
    translation.dtypes[output] = "float32"
    translation.emit("clamp", [value], [output], min=float(np.float32(least)), max=float(np.float32(most)))


def _dequantise(translation: Translation, node: OnnxNode) -> None:
    """Of what was real all along nothing; of integers that are fed in (x - zero) · scale."""
    value = translation.value(node.input(0))
    if node.input(0) in translation.real:
        translation.alias(node, value)
        return
    if not isinstance(value, str):
        raise UnsupportedError("the scale of the constant is computed as the network runs")
    shifted: Input = translation.step("cast", [value], node.outputs[0], dtype="float32")
    if node.input(2):
        zero = translation.constant(node.input(2))
        if zero is None or zero.size != 1:
            raise UnsupportedError("its zero point is computed as the network runs, or is one for each channel")
        shifted = translation.step("sub", [shifted, Literal(float(zero.reshape(())))], node.outputs[0])
    scale = translation.number(node.input(1))
    if scale is None:
        raise UnsupportedError("its scale is computed as the network runs, or is one for each channel")
    translation.emit("mul", [shifted, Literal(float(str(np.float32(scale))))], node.outputs)
    translation.dtypes[node.outputs[0]] = "float32"


def _integer_product(operator: str, translation: Translation, node: OnnxNode) -> None:
    """A product of integers, without its scales: of real numbers, with the weights that they stand for."""
    _note(translation)
    if not isinstance(translation.graph.tensors.get(node.input(1)), Dequantised):
        raise UnsupportedError("the file does not record the scale of its weights as a constant beside them")
    if node.input(0) not in translation.real:
        raise UnsupportedError("its input is no quantised value of the graph")
    LAYERS[operator](translation, replace(node, operator=operator, inputs=node.inputs[:2]))
    translation.real.add(node.outputs[0])
    translation.dtypes[node.outputs[0]] = "float32"


def _cell(translation: Translation, node: OnnxNode) -> None:
    """ONNX Runtime's LSTM of integers; it rounds inputs and states to integers as it runs."""
    _note(translation)
    if not all(isinstance(translation.graph.tensors.get(node.input(index)), Dequantised) for index in (1, 2)):
        raise UnsupportedError("the file does not record the scale of its weights as a constant beside them")
    RECURRENT["LSTM"](translation, replace(node, operator="LSTM", domain="", inputs=node.inputs[:8]))


def _cut_off(
    translation: Translation, node: OnnxNode, operator: str, inputs: list[str], names: tuple[str, str]
) -> None:
    """An operator of real numbers, whose result is then cut off."""
    _note(translation)
    inner = f"{node.outputs[0]}#real"
    plain = replace(node, operator=operator, inputs=inputs, outputs=[inner], domain="")
    if node.outputs[0] in translation.layers:
        translation.layers[inner] = translation.layers[node.outputs[0]]
    translation.table[operator](translation, plain)
    _saturate(translation, translation.value(inner), names, node.outputs[0])


def _conv(translation: Translation, node: OnnxNode) -> None:
    inputs = [node.input(0), node.input(3), *([node.input(8)] if node.input(8) else [])]
    _cut_off(translation, node, "Conv", inputs, (node.input(6), node.input(7)))


def _matmul(translation: Translation, node: OnnxNode) -> None:
    _cut_off(translation, node, "MatMul", [node.input(0), node.input(3)], (node.input(6), node.input(7)))


def _gemm(translation: Translation, node: OnnxNode) -> None:
    inputs = [node.input(0), node.input(3), *([node.input(6)] if node.input(6) else [])]
    _cut_off(translation, node, "Gemm", inputs, (node.input(7), node.input(8)))


def _binary(operator: str, translation: Translation, node: OnnxNode) -> None:
    _cut_off(translation, node, operator, [node.input(0), node.input(3)], (node.input(6), node.input(7)))


def _unary(operator: str, translation: Translation, node: OnnxNode) -> None:
    _cut_off(translation, node, operator, [node.input(0)], (node.input(3), node.input(4)))


def _joined(translation: Translation, node: OnnxNode) -> None:
    """QLinearConcat: scale and zero point of the result, then three inputs for each part."""
    _cut_off(translation, node, "Concat", node.inputs[2::3], (node.input(0), node.input(1)))


def _scaled(operator: str, translation: Translation, node: OnnxNode) -> None:
    """A product or quotient: one that applies a scale to what is real already changes nothing."""
    name = node.outputs[0]
    whole = translation.graph.producers.get(name)
    if node.operator == "Mul" and whole is not None and whole.operator == "Identity":  # Cast(integers) · scale
        translation.alias(node, translation.value(whole.input(0)))
        return
    units = [index for index in (0, 1) if node.input(index) in translation.units]
    if len(units) == 2:
        _set_unit(translation, name)
    elif 1 in units or (0 in units and node.operator == "Mul"):
        other = node.input(0 if 1 in units else 1)
        translation.alias(node, translation.value(other))
        translation.dtypes[name] = translation.dtype(other)
        translation.real.add(name)
    else:
        (LAYERS if operator == "Div" else NUMBERS)[operator](translation, node)


def _rounded(operator: str, translation: Translation, node: OnnxNode) -> None:
    """Rounding and casting to integers changes nothing of what stays real."""
    if node.input(0) in translation.real:
        translation.alias(node, translation.value(node.input(0)))
        translation.real.add(node.outputs[0])
        translation.dtypes[node.outputs[0]] = "float32"
    else:
        NUMBERS[operator](translation, node)


QUANTISED: Mapping[str, Translate] = {
    "DynamicQuantizeLinear": _dynamic, "QuantizeLinear": _quantise, "DequantizeLinear": _dequantise,
    "MatMulInteger": partial(_integer_product, "MatMul"), "ConvInteger": partial(_integer_product, "Conv"),
    "QLinearConv": _conv, "QLinearMatMul": _matmul, "QGemm": _gemm, "QLinearAdd": partial(_binary, "Add"),
    "QLinearMul": partial(_binary, "Mul"), "QLinearSigmoid": partial(_unary, "Sigmoid"),
    "QLinearLeakyRelu": partial(_unary, "LeakyRelu"), "QLinearAveragePool": partial(_unary, "AveragePool"),
    "QLinearGlobalAveragePool": partial(_unary, "GlobalAveragePool"), "QLinearConcat": _joined,
    "QLinearSoftmax": partial(_unary, "Softmax"),
    "DynamicQuantizeLSTM": _cell, "Mul": partial(_scaled, "Mul"), "Div": partial(_scaled, "Div"),
    "Floor": partial(_rounded, "Floor"), "Round": partial(_rounded, "Round"), "Cast": partial(_rounded, "Cast"),
}  # fmt: skip
