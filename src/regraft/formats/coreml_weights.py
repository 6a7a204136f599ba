"""The arrays of a Core ML model: in the model's own message, or in the weight file beside it; floats and codes."""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np

from regraft.arrays import ArrayInfo, Facts, Requirement, Role, requirements_for
from regraft.containers.protobuf import ProtobufFile, Value
from regraft.containers.spans import Located, Span, checked_size, located
from regraft.errors import CheckpointError

_SENTINEL = 0xDEADBEEF
_BLOB_BYTES = 64  # of the description before an array in a weight file
# The types of arrays in a weight file; those of fewer than eight bits are packed and not among them.
_BLOB_TYPES = {1: "float16", 2: "float32", 3: "uint8", 4: "int8", 5: "bfloat16", 6: "int16", 7: "uint16"}
Read = Callable[[], np.ndarray]


class Weights:
    """The arrays so far, and what is known of their layers.

    file    the model's message
    folder  where the weight files lie
    """

    def __init__(self, file: ProtobufFile, *, folder: Path) -> None:
        self.file, self.folder = file, folder
        self.infos: dict[str, ArrayInfo] = {}
        self.requirements: list[Requirement] = []
        self.notes: list[str] = []
        self.files: list[Path] = []
        self._readers: dict[str, Read] = {}

    def read(self, name: str) -> np.ndarray:
        """The array's values."""
        return self._readers[name]()

    def add(self, info: ArrayInfo, read: Read) -> None:
        """One more array, named by its layer and leaf. Raises CheckpointError for a name that there is already."""
        name = f"{info.layer}/{info.leaf}"
        if name in self.infos:
            raise self.file.damaged(f"two arrays are named {name}")
        self.infos[name], self._readers[name] = info, read

    def add_located(self, stored: Located, layer: str, leaf: str, kind: str, role: Role = "weight") -> None:
        """One more array that lies in one run of bytes."""
        self.add(ArrayInfo(stored.shape, stored.dtype, role, kind, layer=layer, leaf=leaf), stored.read)

    def describe(self, layer: str, operation: str, inputs: list[str], facts: Facts) -> None:
        """The layer's connections and settings."""
        self.requirements += [
            Requirement(layer, "inputs", inputs),
            Requirement(layer, "operation", operation),
            *requirements_for(layer, facts),
        ]

    # --- arrays of a neural network: WeightParams ---------------------------------------------------------------------

    def add_params(
        self, params: Value, shape: tuple[int, ...], layer: str, leaf: str, kind: str, *, axis: int = 0
    ) -> None:
        """float32, float16, or codes of up to eight bits. Raises CheckpointError where the sizes differ."""
        fields, name = self.file.message(params), f"{layer}/{leaf}"
        if fields[1]:
            self._add_floats(fields[1], shape, layer, leaf, kind)
        elif fields[2]:
            self.add_located(self._checked(self.file.span(fields[2][-1]), "float16", shape, name), layer, leaf, kind)
        elif fields[30]:
            read = self._codes(fields[30][-1], fields[40], shape, axis, name)
            self.add(ArrayInfo(shape, "float32", "weight", kind, "from codes", layer, leaf), read)
        else:
            raise self.file.damaged(f"{name} has no values, or codes for products of integers, which are not read")

    def _add_floats(self, values: list[Value], shape: tuple[int, ...], layer: str, leaf: str, kind: str) -> None:
        if len(values) == 1 and isinstance(values[0], memoryview):
            stored = self._checked(self.file.span(values[0]), "float32", shape, f"{layer}/{leaf}")
            self.add_located(stored, layer, leaf, kind)
            return
        numbers = np.array(self.file.floats(values), np.float32)
        if numbers.size != prod(shape):
            raise self.file.damaged(f"{layer}/{leaf} has {numbers.size} values, expected {prod(shape)}")
        info = ArrayInfo(shape, "float32", "weight", kind, layer=layer, leaf=leaf)
        self.add(info, lambda: numbers.reshape(shape).copy())

    def _codes(self, content: Value, quantization: list[Value], shape: tuple[int, ...], axis: int, name: str) -> Read:
        """Codes, packed from the highest bit, times a scale plus a bias for each output, or from a table."""
        known = self.file.message(quantization[-1]) if quantization else {}
        bits = self.file.integer(known.get(1, []))
        span = self.file.span(content)
        if not 1 <= bits <= 8 or span.size != -(-prod(shape) * bits // 8):
            raise self.file.damaged(f"{name} has {span.size} bytes of {bits}-bit codes for the shape {shape}")
        linear, table = (self.file.message(part[-1]) if part else {} for part in (known.get(101), known.get(102)))
        scale, bias = (np.array(self.file.floats(linear.get(key, [])), np.float32) for key in (1, 2))
        values = np.array(self.file.floats(table.get(1, [])), np.float32)
        if not (values.size == 1 << bits or (scale.size in (1, shape[axis]) and bias.size in (0, 1, shape[axis]))):
            raise self.file.damaged(f"{name} has codes without their scales or table")

        def read() -> np.ndarray:
            codes = unpacked(bytes(span.read()), bits, prod(shape)).reshape(shape)
            if values.size:
                return np.take(values, codes)
            column = [-1 if place == axis else 1 for place in range(len(shape))]
            shift = bias.reshape(column) if bias.size else np.float32(0)
            return (codes * scale.reshape(column) + shift).astype(np.float32)

        return read

    def _checked(self, span: Span, dtype: str, shape: tuple[int, ...], name: str) -> Located:
        expected = checked_size(shape, dtype, path=self.file.path, name=name)
        if span.size != expected:
            raise self.file.damaged(f"{name} has {span.size} bytes, expected {expected} for the shape {shape}")
        return Located(shape, dtype, span)

    # --- arrays of a weight file --------------------------------------------------------------------------------------

    def in_weight_file(self, file_name: str, offset: int, shape: tuple[int, ...], name: str) -> Located:
        """The array whose description stands at `offset`. Raises CheckpointError for a file that is not beside it."""
        path = self._weight_file(file_name)
        head = Span(path, offset, _BLOB_BYTES).read()
        sentinel, kind = (int.from_bytes(head[start : start + 4], "little") for start in (0, 4))
        size, start = (int.from_bytes(head[place : place + 8], "little") for place in (8, 16))
        dtype = _BLOB_TYPES.get(kind)
        if sentinel != _SENTINEL or dtype is None:
            raise CheckpointError(f"{path}: no array of a known type is described at {offset}, where {name} should be.")
        stored = located(path, name, start, shape, dtype)
        if stored.span.size != size or start + size > path.stat().st_size:
            raise CheckpointError(
                f"{path}: {name} has {size} bytes, expected {stored.span.size} for the shape {shape}."
            )
        return stored

    def _weight_file(self, name: str) -> Path:
        relative = Path(name.removeprefix("@model_path/"))
        path = (self.folder / relative).resolve()
        if not name.startswith("@model_path/") or not path.is_relative_to(self.folder.resolve()):
            raise CheckpointError(f"{self.file.path}: the weight file {name!r:.200} does not lie beside the model.")
        if not path.is_file():
            raise CheckpointError(f"{self.file.path}: the weight file {relative} is missing. Copy the whole package.")
        if path not in self.files:
            self.files.append(path)
        return path


def unpacked(content: bytes, bits: int, count: int, *, order: Literal["big", "little"] = "big") -> np.ndarray:
    """Whole numbers of so many bits, each from its highest bit on, or from its lowest.

    >>> unpacked(bytes([0b10_01_11_00]), 2, 3).tolist()
    [2, 1, 3]
    """
    each = np.unpackbits(np.frombuffer(content, np.uint8), bitorder=order)[: count * bits].reshape(count, bits)
    places = np.arange(bits) if order == "little" else np.arange(bits - 1, -1, -1)
    whole: np.ndarray = each @ (1 << places)
    return whole


def shifted(codes: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, axis: int) -> np.ndarray:
    """(codes - zero point) · scale, each for one index of the axis or one for all."""
    column = [1] * codes.ndim
    column[axis] = -1
    wide, zero = codes.astype(np.float32), zero_point.astype(np.float32)
    scaled: np.ndarray = (wide - (zero.reshape(column) if zero.ndim else zero)) * (
        scale.reshape(column) if scale.ndim else scale
    ).astype(np.float32)
    return scaled
