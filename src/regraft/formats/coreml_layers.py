"""The layers of a Core ML neural network: their arrays, settings and connections."""

from collections.abc import Callable
from dataclasses import dataclass

from regraft.arrays import Facts
from regraft.containers.protobuf import Fields, ProtobufFile, Value
from regraft.formats.coreml_weights import Weights

_NAME, _INPUT, _OUTPUT = 1, 2, 3
_SMALL = 256  # bytes of a layer of an unknown kind that may hold no arrays


@dataclass(frozen=True)
class _Layer:
    """One layer: its own message, and the readers that it needs."""

    name: str
    params: Fields
    weights: Weights

    @property
    def file(self) -> ProtobufFile:
        return self.weights.file

    def number(self, field: int, default: int = 0) -> int:
        return self.file.integer(self.params[field], default)

    def numbers(self, field: int, default: list[int]) -> list[int]:
        return self.file.integers(self.params[field]) or default

    def real(self, field: int, default: float) -> float:
        numbers = self.file.floats(self.params[field])
        return numbers[-1] if numbers else default

    def message(self, field: int) -> Fields | None:
        return self.file.message(self.params[field][-1]) if self.params[field] else None

    def add(self, field: int, shape: tuple[int, ...], leaf: str, kind: str, *, axis: int = 0) -> None:
        """The array of this field, where the layer has it; `axis` is that of its outputs."""
        if self.params[field]:
            self.weights.add_params(self.params[field][-1], shape, self.name, leaf, kind, axis=axis)


def layers_of_network(weights: Weights, network: Fields) -> None:
    """Add the arrays, settings and connections of all layers, in order."""
    file = weights.file
    makers: dict[str, str] = {}
    for message in network[1]:
        fields = file.message(message)
        name = file.text(fields[_NAME])
        operation, facts = _added(weights, name, fields)
        weights.describe(name, operation, [makers.get(blob, "") for blob in file.texts(fields[_INPUT])], facts)
        makers.update(dict.fromkeys(file.texts(fields[_OUTPUT]), name))


def _added(weights: Weights, name: str, fields: Fields) -> tuple[str, Facts]:
    """(the word for the operation, its settings), of the layer whose arrays are added."""
    for number, contents in list(fields.items()):
        if number >= 100 and contents:
            maker = _MAKERS.get(number)
            if maker is not None:
                return maker(_Layer(name, weights.file.message(contents[-1]), weights))
            return _without_arrays(weights, name, number, contents[-1])
    return "Identity", {}


def _without_arrays(weights: Weights, name: str, number: int, content: Value) -> tuple[str, Facts]:
    if isinstance(content, memoryview) and len(content) > _SMALL:
        weights.notes.append(f"The layer {name} is of the kind {number}, whose arrays are not read.")
    return _PLAIN.get(number, f"layer {number}"), {}


def _convolution(layer: _Layer) -> tuple[str, Facts]:
    outputs, inputs, groups = layer.number(1), layer.number(2), max(layer.number(10, 1), 1)
    size = tuple(layer.numbers(20, [3, 3]))
    is_transposed = bool(layer.number(60))
    kind = "ConvTranspose" if is_transposed else "Conv"
    shape = (inputs, outputs // groups, *size) if is_transposed else (outputs, inputs, *size)
    layer.add(90, shape, "weight", kind, axis=int(is_transposed))
    layer.add(91, (outputs,), "bias", kind)
    return kind, {
        "strides": layer.numbers(30, [1, 1]), "dilation": layer.numbers(40, [1, 1]), "groups": groups,
        "padding": _padding(layer), "use_bias": bool(layer.number(70)),
    }  # fmt: skip


def _padding(layer: _Layer) -> object:
    """The amounts, or TensorFlow's "same", whose odd element is at the bottom unless the file says the top."""
    same = layer.message(51)
    if same is not None:
        return "same_lower" if layer.file.integer(same[1]) else "same"
    return _amounts(layer.file, layer.message(50))


def _amounts(file: ProtobufFile, valid: Fields | None) -> list[list[int]]:
    borders = file.message(valid[1][-1])[10] if valid and valid[1] else []
    sides = [file.message(border) for border in borders]
    return [[file.integer(side[1]), file.integer(side[2])] for side in sides] or [[0, 0], [0, 0]]


def _pooling(layer: _Layer) -> tuple[str, Facts]:
    word = {0: "max", 1: "average"}.get(layer.number(1), "l2")
    if layer.number(60):
        return ("GlobalMaxPooling2D" if word == "max" else "GlobalAveragePooling2D" if word == "average" else word), {}
    same, caffe = layer.message(31), layer.message(32)
    padding: object = "same" if same is not None else _amounts(layer.file, layer.message(30))
    facts: Facts = {"pool": word, "pool_size": layer.numbers(10, [3, 3]), "strides": layer.numbers(20, [1, 1])}
    if caffe is not None:
        padding = [[side, side] for side in layer.file.integers(caffe[10]) or [0, 0]]
        facts["ceil_mode"] = True
    if word == "average":
        facts["count_include_pad"] = not layer.number(50)
    return "Pooling", {**facts, "padding": padding}


def _dense(layer: _Layer) -> tuple[str, Facts]:
    inputs, outputs = layer.number(1), layer.number(2)
    layer.add(20, (outputs, inputs), "weight", "InnerProduct")
    layer.add(21, (outputs,), "bias", "InnerProduct")
    return "InnerProduct", {"use_bias": bool(layer.number(10))}


def _embedding(layer: _Layer) -> tuple[str, Facts]:
    """Stored as (outputs, tokens), the transpose of a table: the reader's leaf says so, and no rule takes it."""
    tokens, outputs = layer.number(1), layer.number(2)
    layer.add(20, (outputs, tokens), "weight_transposed", "Embedding")
    layer.add(21, (outputs,), "bias", "Embedding")
    return "Embedding", {}


def _batch_norm(layer: _Layer) -> tuple[str, Facts]:
    for field, leaf in ((15, "gamma"), (16, "beta"), (17, "mean"), (18, "variance")):
        layer.add(field, (layer.number(1),), leaf, "BatchNorm")
    word = "InstanceNormalization" if layer.number(6) else "BatchNorm"
    return word, {"eps": layer.real(10, 1e-5)}


def _scale(layer: _Layer) -> tuple[str, Facts]:
    layer.add(2, tuple(layer.numbers(1, [1])), "weight", "Scale")
    layer.add(5, tuple(layer.numbers(4, [1])), "bias", "Scale")
    return "Scale", {}


def _bias(layer: _Layer) -> tuple[str, Facts]:
    layer.add(2, tuple(layer.numbers(1, [1])), "bias", "Bias")
    return "Bias", {}


def _constant(layer: _Layer) -> tuple[str, Facts]:
    layer.add(2, tuple(layer.numbers(1, [1])), "data", "Constant")
    return "Constant", {}


def _product(layer: _Layer) -> tuple[str, Facts]:
    """A product with a matrix of its own, stored as (in, out)."""
    inputs, outputs = layer.number(5), layer.number(6)
    layer.add(8, (inputs, outputs), "weight", "MatMul")
    layer.add(9, (outputs,), "bias", "MatMul")
    return "MatMul", {"kernel_axes": ["in", "out"], "use_bias": bool(layer.number(7))}


def _layer_norm(layer: _Layer) -> tuple[str, Facts]:
    shape = tuple(layer.numbers(1, [1]))
    layer.add(3, shape, "gamma", "LayerNormalization")
    layer.add(4, shape, "beta", "LayerNormalization")
    return "LayerNormalization", {"eps": layer.real(2, 1e-5)}


_GATES = ("inputGate", "forgetGate", "blockInput", "outputGate")


def _cell(layer: _Layer) -> tuple[str, Facts]:
    """A matrix for each gate; of both directions those of the second one end in _back."""
    inputs, hidden = layer.number(1), layer.number(2)
    for direction, message in enumerate(layer.params[20]):
        cell = _Layer(layer.name, layer.file.message(message), layer.weights)
        end = "_back" * direction
        for index, gate in enumerate(_GATES):
            cell.add(1 + index, (hidden, inputs), f"{gate}WeightMatrix{end}", "LSTM")
            cell.add(20 + index, (hidden, hidden), f"{gate}RecursionMatrix{end}", "LSTM")
            cell.add(40 + index, (hidden,), f"{gate}BiasVector{end}", "LSTM")
        for index, gate in enumerate(("input", "forget", "output")):
            cell.add(60 + index, (hidden,), f"{gate}GatePeepholeVector{end}", "LSTM")
    return "LSTM", {"direction": "bidirectional" if len(layer.params[20]) > 1 else "forward"}


def _activation(layer: _Layer) -> tuple[str, Facts]:
    """One message for each function; linear ones scale and shift, as a cast does by 1 and 0."""
    for number, word in _ACTIVATIONS.items():
        inner = layer.message(number)
        if inner is not None:
            return "Activation", {"activation": word.format(*layer.file.floats(inner[1]) or [0.0])}
    inner = layer.message(5)
    numbers = [layer.file.floats(inner[key]) for key in (1, 2)] if inner is not None else []
    if numbers in ([[1.0], []], [[1.0], [0.0]]):
        return "Identity", {}
    prelu = layer.message(25)
    if prelu is not None and prelu[1]:
        known = layer.file.message(prelu[1][-1])
        count = sum(len(part) // 4 for part in known[1] if isinstance(part, memoryview)) or 1
        layer.weights.add_params(prelu[1][-1], (count,), layer.name, "alpha", "PReLU")
        return "PReLU", {}
    return "Activation", {"activation": "of another kind"}


_ACTIVATIONS = {
    10: "relu", 15: "leaky_relu({:g})", 30: "tanh", 40: "sigmoid", 41: "hard_sigmoid", 50: "elu({:g})", 60: "softsign",
    70: "softplus",
}  # fmt: skip
_MAKERS: dict[int, Callable[[_Layer], tuple[str, Facts]]] = {
    100: _convolution, 120: _pooling, 130: _activation, 140: _dense, 150: _embedding, 160: _batch_norm, 245: _scale,
    250: _bias, 290: _constant, 420: _cell, 430: _cell, 1045: _product,
    1070: _constant, 1350: _layer_norm,
}  # fmt: skip
_PLAIN = {
    175: "Softmax", 200: "Padding", 230: "Add", 231: "Mul", 300: "Reshape", 301: "Flatten", 310: "Permute",
    320: "Concat", 330: "Split", 350: "Slice", 880: "Add", 900: "Mul", 950: "Softmax", 980: "Concat", 985: "Transpose",
    1120: "Squeeze", 1125: "Unsqueeze", 1130: "Flatten", 1140: "Reshape", 1150: "Reshape",
}  # fmt: skip
