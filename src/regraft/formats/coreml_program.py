"""The operations of a Core ML ML program: their arrays, settings and connections."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from regraft.arrays import ITEM_BYTES, ArrayInfo, Facts, Role
from regraft.containers.protobuf import Fields, Value
from regraft.containers.spans import decoded_array
from regraft.formats.coreml_weights import Read, Weights, shifted, unpacked

_TYPES = {
    1: "bool", 10: "float16", 11: "float32", 12: "float64", 13: "bfloat16", 21: "int8", 22: "int16", 23: "int32",
    24: "int64", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64",
}  # fmt: skip
_TEXT = 2
_PLAIN = {1: "float32", 2: "int32", 3: "bool", 5: "int64", 6: "float64"}  # lists of numbers in the message itself
_NARROW = {25: 4, 35: 4, 36: 2, 37: 1, 38: 6, 39: 3}  # types of fewer than eight bits → their bits
_DEEPEST = 16
# What coremltools adds to the names of the arrays and operations that it rewrites.
_ADDED = re.compile(r"(?:_to_(?:fp16|fp32|bf16|int8|uint8)|_cast_(?:fp16|fp32|\w?int\d+)|_quantized|_palettized)+$")
_OPERATIONS = {
    "conv": "Conv", "conv_transpose": "ConvTranspose", "linear": "InnerProduct", "batch_norm": "BatchNorm",
    "layer_norm": "LayerNormalization", "instance_norm": "InstanceNormalization", "gather": "Gather", "lstm": "LSTM",
    "gru": "GRU", "rnn": "RNN", "prelu": "PRelu", "add": "Add", "mul": "Mul", "concat": "Concat", "cast": "Cast",
    "reshape": "Reshape", "transpose": "Transpose", "squeeze": "Squeeze", "expand_dims": "Unsqueeze", "split": "Split",
    "slice_by_index": "Slice", "slice_by_size": "Slice", "identity": "Identity", "reduce_mean": "ReduceMean",
    "flatten2d": "Flatten", "matmul": "MatMul",
}  # fmt: skip
_ACTIVATIONS = {
    "relu": "relu", "relu6": "relu6", "sigmoid": "sigmoid", "tanh": "tanh", "silu": "silu", "softmax": "softmax",
    "softplus": "softplus", "sigmoid_hard": "hard_sigmoid",
}  # fmt: skip
_WEIGHTS = {
    "conv": ("weight", "bias"), "conv_transpose": ("weight", "bias"), "linear": ("weight", "bias"),
    "batch_norm": ("gamma", "beta", "mean", "variance"), "layer_norm": ("gamma", "beta"),
    "instance_norm": ("gamma", "beta"), "prelu": ("alpha",), "gather": ("x",),
    "lstm": ("weight_ih", "weight_hh", "bias", "weight_ih_back", "weight_hh_back", "bias_back", "peephole"),
    "gru": ("weight_ih", "weight_hh", "bias"), "rnn": ("weight_ih", "weight_hh", "bias"),
}  # fmt: skip
_LEAVES = {"x": "weight"}  # of a gather, which is an embedding


@dataclass(frozen=True)
class _Constant:
    """A value of the program: what is known of it, and how it is read."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Read
    note: str = ""

    @property
    def is_number(self) -> bool:
        """Whether it has fractions: others are settings, shapes and texts."""
        return self.dtype.startswith(("float", "bfloat"))


def layers_of_program(weights: Weights, program: Fields) -> None:
    """Add the arrays, settings and connections of all operations, in order."""
    reader = _Program(weights)
    for entry in program[2]:
        function = weights.file.message(weights.file.message(entry)[2][-1])
        for block in function[3]:
            reader.block(weights.file.message(block)[2][-1], 0)
    reader.add_rest()


class _Program:
    """The constants so far, and which of them are an operation's."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.file = weights.file
        self.constants: dict[str, _Constant] = {}
        self.used: set[str] = set()
        self.layers: set[str] = set()
        self.makers: dict[str, str] = {}

    def block(self, content: Value, depth: int) -> None:
        """All operations of a block, those of blocks inside too."""
        if depth > _DEEPEST:
            raise self.file.damaged("blocks are nested too deeply")
        for message in self.file.message(content)[3]:
            operation = self.file.message(message)
            kind = self.file.text(operation[1])
            attributes = self._entries(operation[5])
            outputs = [self.file.text(self.file.message(output)[1]) for output in operation[3]]
            if kind == "const" or kind.startswith("constexpr_"):
                self._add_constant(kind, operation, attributes, outputs)
            else:
                self._add_operation(kind, operation, attributes, outputs)
            for inner in operation[4]:
                self.block(inner, depth + 1)

    def _entries(self, entries: list[Value]) -> dict[str, Value]:
        """A map of the message: key → value."""
        pairs = [self.file.message(entry) for entry in entries]
        return {self.file.text(pair[1]): pair[2][-1] for pair in pairs if pair[2]}

    # --- constants ----------------------------------------------------------------------------------------------------

    def _add_constant(self, kind: str, operation: Fields, attributes: Mapping[str, Value], outputs: list[str]) -> None:
        name = outputs[0] if outputs else ""
        if kind == "const":
            constant = self._value(attributes["val"], name) if "val" in attributes else None
        else:
            constant = self._expression(kind, operation, attributes, name)
        if constant is not None:
            self.constants[name] = constant

    def _expression(self, kind: str, operation: Fields, attributes: Mapping[str, Value], name: str) -> _Constant | None:
        """A compressed array, from its parts, which are attributes or, in later versions, inputs."""
        parts = {key: self._value(value, name) for key, value in attributes.items() if key != "name"}
        parts |= {key: self._argument(value, name) for key, value in self._entries(operation[2]).items()}
        known = {key: part for key, part in parts.items() if part is not None}
        maker = _EXPRESSIONS.get(kind)
        made = maker(name, known) if maker is not None else None
        if made is None:
            self.weights.notes.append(f"The array {name} is compressed ({kind}), which is not read.")
        self.used.update(part.name for part in known.values())
        return made

    def _argument(self, argument: Value, name: str) -> _Constant | None:
        """The constant that an input names or holds; None for what the program computes."""
        bindings = [self.file.message(binding) for binding in self.file.message(argument)[1]]
        if len(bindings) != 1:
            return None
        if bindings[0][2]:
            return self._value(bindings[0][2][-1], name)
        return self.constants.get(self.file.text(bindings[0][1]))

    def _value(self, content: Value, name: str) -> _Constant | None:
        """A tensor of numbers; None for texts, lists and types that are packed."""
        value = self.file.message(content)
        kind = self.file.message(value[2][-1]) if value[2] else {}
        if not kind.get(1):
            return None
        tensor = self.file.message(kind[1][-1])
        number = self.file.integer(tensor[1])
        shape = tuple(self._size(dimension) for dimension in tensor[3])
        if value[5]:
            blob = self.file.message(value[5][-1])
            place = self.file.text(blob[1]), self.file.integer(blob[2])
            if number in _NARROW:
                return None
            stored = self.weights.in_weight_file(*place, shape, name)
            return _Constant(name, shape, stored.dtype, stored.read)
        immediate = self.file.message(value[3][-1])[1] if value[3] else []
        if number == _TEXT and immediate:
            texts = self.file.message(self.file.message(immediate[-1])[4][-1])[1]
            return _Constant(name, (0,), "text", lambda: np.zeros(0), self.file.text(texts))
        dtype = _TYPES.get(number)
        return None if dtype is None or not immediate else self._immediate(immediate[-1], dtype, shape, name)

    def _size(self, dimension: Value) -> int:
        constant = self.file.message(dimension)[1]
        return self.file.integer(self.file.message(constant[-1])[1]) if constant else -1

    def _immediate(self, content: Value, dtype: str, shape: tuple[int, ...], name: str) -> _Constant:
        """Numbers in the message itself: float16 and narrow integers as bytes."""
        lists = self.file.message(content)
        for field, plain in _PLAIN.items():
            if lists[field]:
                inner = self.file.message(lists[field][-1])[1]
                if plain in ("float32", "float64"):
                    numbers = self._fractions(inner, plain)
                else:
                    numbers = np.array(self.file.integers(inner))
                return self._checked(numbers.astype(dtype if dtype != "bfloat16" else "float32"), dtype, shape, name)
        raw = (
            b"".join(bytes(part) for part in self.file.message(lists[7][-1])[1] if isinstance(part, memoryview))
            if (lists[7])
            else b""
        )
        if len(raw) != prod(shape) * ITEM_BYTES[dtype]:
            raise self.file.damaged(f"{name} has {len(raw)} bytes, expected the shape {shape} of {dtype}")
        return _Constant(name, shape, dtype, lambda: decoded_array(raw, dtype, shape).copy())

    def _fractions(self, inner: list[Value], dtype: str) -> np.ndarray:
        if dtype == "float32":
            return np.array(self.file.floats(inner), np.float32)
        raw = b"".join(part.to_bytes(8, "little") if isinstance(part, int) else bytes(part) for part in inner)
        return np.frombuffer(raw[: len(raw) // 8 * 8], "<f8")

    def _checked(self, numbers: np.ndarray, dtype: str, shape: tuple[int, ...], name: str) -> _Constant:
        if numbers.size != prod(shape) or min(shape, default=0) < 0:
            raise self.file.damaged(f"{name} has {numbers.size} values, expected the shape {shape}")
        return _Constant(name, shape, dtype, lambda: numbers.reshape(shape).copy())

    # --- operations ---------------------------------------------------------------------------------------------------

    def _add_operation(self, kind: str, operation: Fields, attributes: Mapping[str, Value], outputs: list[str]) -> None:
        inputs = self._entries(operation[2])
        known = self._constants_in(inputs)
        arrays = {key: known[key] for key in _WEIGHTS.get(kind, ()) if key in known}
        layer = self._layer_name(arrays, outputs)
        self.used |= {constant.name for constant in known.values() if not constant.is_number}
        for key, constant in arrays.items():
            self._add(constant, layer, _LEAVES.get(key, key), _OPERATIONS[kind])
        feeding = [name for key, value in inputs.items() if key not in known for name in self._names(value)]
        self.weights.describe(
            layer, _OPERATIONS.get(kind, "Activation" if kind in _ACTIVATIONS else kind),
            [self.makers.get(name, "") for name in feeding], _facts(kind, known),
        )  # fmt: skip
        self.makers.update(dict.fromkeys(outputs, layer))

    def _constants_in(self, inputs: Mapping[str, Value]) -> dict[str, _Constant]:
        """The inputs of an operation that are constants."""
        arguments = ((key, self._argument(argument, key)) for key, argument in inputs.items())
        return {key: constant for key, constant in arguments if constant is not None}

    def _names(self, argument: Value) -> list[str]:
        bindings = [self.file.message(binding) for binding in self.file.message(argument)[1]]
        names = [self.file.text(binding[1]) for binding in bindings if binding[1]]
        return [name for name in names if name not in self.constants]

    def _layer_name(self, arrays: Mapping[str, _Constant], outputs: list[str]) -> str:
        """The name that the arrays share, which is the source framework's own; else that of the result."""
        plain = {f"_{_LEAVES.get(key, key)}": _ADDED.sub("", constant.name) for key, constant in arrays.items()}
        shared = [name.removesuffix(end) for end, name in plain.items() if name.endswith(end)]
        result = outputs[0] if outputs else ""
        possible = [*shared, _ADDED.sub("", result), result]
        name = next((name for name in possible if name not in self.layers), f"{result} ({len(self.layers)})")
        self.layers.add(name)
        return name

    def _add(self, constant: _Constant, layer: str, leaf: str, kind: str, role: Role = "weight") -> None:
        self.used.add(constant.name)
        info = ArrayInfo(constant.shape, constant.dtype, role, kind, constant.note, layer, leaf)
        self.weights.add(info, constant.read)

    def add_rest(self) -> None:
        """The other constants with axes: numbers that the program adds, multiplies or looks up."""
        for name, constant in self.constants.items():
            if name not in self.used and prod(constant.shape) > 1:
                role: Role = "weight" if constant.is_number else "constant"
                self._add(constant, _ADDED.sub("", name), "value", "", role)


def _facts(kind: str, known: Mapping[str, _Constant]) -> Facts:
    """The settings of an operation, from its constants."""

    def numbers(key: str, default: list[int]) -> list[int]:
        return [int(number) for number in known[key].read().reshape(-1)] if key in known else default

    if kind in ("conv", "conv_transpose"):
        axes = len(known["weight"].shape) - 2 if "weight" in known else 2
        return {
            "strides": numbers("strides", [1] * axes), "dilation": numbers("dilations", [1] * axes),
            "groups": numbers("groups", [1])[0], "use_bias": "bias" in known, **_padding(numbers, known, axes),
        }  # fmt: skip
    if kind in ("max_pool", "avg_pool"):
        size = numbers("kernel_sizes", [1, 1])
        facts: Facts = {"pool": kind[:3].replace("avg", "average"), "pool_size": size}
        facts |= {"strides": numbers("strides", [1] * len(size)), **_padding(numbers, known, len(size))}
        return facts | {"ceil_mode": bool(numbers("ceil_mode", [0])[0])}
    if kind in _ACTIVATIONS:
        return {"activation": _ACTIVATIONS[kind]}
    if kind in ("leaky_relu", "elu") and "alpha" in known:
        return {"activation": f"{kind}({float(known['alpha'].read()):g})"}
    if "epsilon" in known:
        return {"eps": float(str(np.float32(known["epsilon"].read())))}
    return {"gate_order": "ifoc"} if kind == "lstm" else {}


def _padding(numbers: Callable[[str, list[int]], list[int]], known: Mapping[str, _Constant], axes: int) -> Facts:
    word = known["pad_type"].note if "pad_type" in known else "valid"
    sides = numbers("pad", [0] * (2 * axes))
    return {"padding": word if word != "custom" else [sides[2 * axis : 2 * axis + 2] for axis in range(axes)]}


# --- compressed arrays ------------------------------------------------------------------------------------------------


def _dequantised(name: str, parts: Mapping[str, _Constant]) -> _Constant | None:
    """(codes - zero point) · scale, along one axis."""
    if not {"quantized_data", "scale", "zero_point", "axis"} <= parts.keys():
        return None
    codes, axis = parts["quantized_data"], int(parts["axis"].read())
    if not -len(codes.shape) <= axis < len(codes.shape):
        return None
    if any(prod(parts[key].shape) not in (1, codes.shape[axis]) for key in ("scale", "zero_point")):
        return None

    def read() -> np.ndarray:
        return shifted(codes.read(), parts["scale"].read(), parts["zero_point"].read(), axis)

    return _Constant(name, codes.shape, "float32", read, f"dequantised from {codes.dtype}")


def _looked_up(name: str, parts: Mapping[str, _Constant]) -> _Constant | None:
    """Values of a table, by packed codes."""
    if not {"indices", "lut", "shape"} <= parts.keys():
        return None
    table, packed = parts["lut"], parts["indices"]
    shape = tuple(int(size) for size in parts["shape"].read().reshape(-1))
    bits = prod(table.shape).bit_length() - 1
    if prod(table.shape) != 1 << bits or not 1 <= bits <= 8 or prod(packed.shape) != -(-prod(shape) * bits // 8):
        return None

    def read() -> np.ndarray:
        codes = unpacked(packed.read().tobytes(), bits, prod(shape), order="little")
        return np.take(table.read(), codes).reshape(shape)

    return _Constant(name, shape, table.dtype, read, f"from a table of {1 << bits} values")


_EXPRESSIONS: dict[str, Callable[[str, Mapping[str, _Constant]], _Constant | None]] = {
    "constexpr_affine_dequantize": _dequantised,
    "constexpr_lut_to_dense": _looked_up,
}
