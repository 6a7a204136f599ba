"""ONNX tensors: where their values lie (in the message, packed as numbers, or in a file beside the model)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from regraft.containers.protobuf import Fields, ProtobufFile, Value
from regraft.containers.spans import Located, Span, checked_size, decoded_array
from regraft.errors import CheckpointError
from regraft.formats.quantised import unpacked_nibbles

# Numbers as in onnx.proto (onnx/onnx, IR version 11).
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8_e4m3fn", 18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4_e2m1fn", 24: "float8_e8m0fnu",
}  # fmt: skip
_LEFT_OUT = {8: "string", 25: "uint2", 26: "int2"}
_HALVED = ("int4", "uint4", "float4_e2m1fn")  # two in each byte
_PACKED = {"float32": 4, "complex64": 4, "float64": 10, "complex128": 10}  # dtype → field of plain numbers
_VARINTS = {"int64": 7, "uint64": 11, "uint32": 11}  # all other dtypes: field 5
EXTERNAL, _UINT8 = 1, 2
_PARTS = ("integers", "scale", "zero", "values", "places", "packed")
# A sparse tensor is worth its name when it stores a tenth; more than this for each byte of the file is a bomb.
_MOST_BYTES_PER_BYTE, _FREE_BYTES = 32, 1 << 16


@dataclass(frozen=True)
class VarintTensor:
    """A tensor whose values are written as variable-length integers: decoded when it is read.

    Float16 and bfloat16 are written as the integers that have their bits.
    """

    file: ProtobufFile
    shape: tuple[int, ...]
    dtype: str
    values: tuple[Value, ...]

    def read(self) -> np.ndarray:
        """The values. Raises CheckpointError when there are not as many as the shape says."""
        numbers = np.array(self.file.integers(list(self.values)), np.int64)
        if len(numbers) != prod(self.shape):
            raise self.file.damaged(f"a tensor of shape {self.shape} holds {len(numbers)} numbers")
        bits = np.uint16 if self.dtype.endswith("float16") else np.uint8 if "float8" in self.dtype else self.dtype
        return decoded_array(numbers.astype(bits).tobytes(), self.dtype, self.shape)


@dataclass(frozen=True)
class Halves:
    """A tensor of numbers of four bits, two in each byte, the lower half first; int4 comes as int8."""

    file: ProtobufFile
    shape: tuple[int, ...]
    dtype: str
    packed: Located | VarintTensor

    def read(self) -> np.ndarray:
        """The values. Raises CheckpointError when there are not as many as the shape says."""
        halves = unpacked_nibbles(self.packed.read().tobytes(), prod(self.shape))
        if len(halves) != prod(self.shape):
            raise self.file.damaged(f"a tensor of shape {self.shape} holds {len(halves)} numbers")
        halves = halves if self.dtype == "int4" else halves & 15
        return decoded_array(halves.tobytes(), self.dtype, self.shape)


@dataclass(frozen=True)
class Small:
    """Numbers that stand in a node itself."""

    numbers: np.ndarray
    is_list: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """() for a single number."""
        return self.numbers.shape if self.is_list else ()

    @property
    def dtype(self) -> str:
        """float32 or int64."""
        return str(self.numbers.dtype)

    def read(self) -> np.ndarray:
        """The values."""
        return self.numbers.copy().reshape(self.shape)


@dataclass(frozen=True)
class Sparse:
    """A tensor of which only some values are stored, the others being zero."""

    file: ProtobufFile
    shape: tuple[int, ...]
    values: Located | VarintTensor
    places: Located | VarintTensor

    @property
    def dtype(self) -> str:
        """That of the values."""
        return self.values.dtype

    def read(self) -> np.ndarray:
        """All values. Raises CheckpointError when a place lies outside."""
        values, places = self.values.read(), self.places.read().astype(np.int64)
        if places.ndim == 2 and len(self.shape) == places.shape[1]:
            is_inside = ((places >= 0) & (places < self.shape)).all()
            flat = np.ravel_multi_index(tuple(places.T), self.shape) if is_inside else np.array([-1])
        else:
            flat = places.reshape(-1)
        if len(flat) != values.size or (flat < 0).any() or (flat >= prod(self.shape)).any():
            raise self.file.damaged(f"the places of the values of a sparse tensor of shape {self.shape}")
        whole = np.zeros(prod(self.shape), values.dtype)
        whole[flat] = values.reshape(-1)
        return whole.reshape(self.shape)


Stored = Located | VarintTensor | Halves | Small | Sparse


def read_tensor(file: ProtobufFile, name: str, fields: Fields) -> Located | VarintTensor | Halves | None:
    """The tensor of a TensorProto; None for texts and for types that no layer's weights have.

    Raises CheckpointError when shape and values disagree, or when external data lies outside the model's folder.
    """
    number = file.integer(fields[2])
    if number not in DTYPES:
        if number in _LEFT_OUT:
            return None
        raise file.damaged(f"tensor {name!r} has the unknown type {number}")
    dtype, shape = DTYPES[number], tuple(file.integers(fields[1]))
    expected = checked_size(shape, dtype, path=file.path, name=name)
    if dtype in _HALVED:
        packed = read_tensor(file, name, defaultdict(list, {**fields, 1: [(expected + 1) // 2], 2: [_UINT8]}))
        return None if packed is None or isinstance(packed, Halves) else Halves(file, shape, dtype, packed)
    if file.integer(fields[14]) == EXTERNAL:
        return Located(shape, dtype, _external(file, name, fields, expected))
    if not fields[9] and dtype not in _PACKED:
        return _numbers(file, name, fields[_VARINTS.get(dtype, 5)], shape, dtype)
    return Located(shape, dtype, _run(file, name, fields[9] or fields[_PACKED.get(dtype, 9)], expected))


def _numbers(file: ProtobufFile, name: str, values: list[Value], shape: tuple[int, ...], dtype: str) -> VarintTensor:
    """The tensor of variable-length integers, which must be enough for the shape."""
    held = sum(1 if isinstance(value, int) else len(value) for value in values)
    if held < prod(shape):  # a number takes at least one byte
        raise file.damaged(f"tensor {name!r} of shape {shape} holds at most {held} numbers")
    return VarintTensor(file, shape, dtype, tuple(values))


def _run(file: ProtobufFile, name: str, values: list[Value], expected: int) -> Span:
    """Where the values lie, which must be one run of so many bytes."""
    runs = [file.span(value) for value in values if not isinstance(value, int)]
    held = sum(run.size for run in runs)
    if len(runs) > 1 or held != expected:
        raise file.damaged(f"tensor {name!r} needs {expected} bytes and holds {held}")
    return runs[0] if runs else Span(file.path, 0, 0)


def read_sparse(file: ProtobufFile, name: str, fields: Fields) -> Sparse | None:
    """The tensor of a SparseTensorProto. Raises CheckpointError when it claims far more than is stored."""
    shape = tuple(file.integers(fields[3]))
    if not fields[1] or not fields[2]:
        raise file.damaged(f"sparse tensor {name!r} has no values or no places")
    values = read_tensor(file, name, file.message(fields[1][-1]))
    places = read_tensor(file, name, file.message(fields[2][-1]))
    if values is None or places is None or isinstance(values, Halves) or isinstance(places, Halves):
        return None
    size = checked_size(shape, values.dtype, path=file.path, name=name)
    if size > _MOST_BYTES_PER_BYTE * len(file.whole) + _FREE_BYTES:
        raise CheckpointError(
            f"{file.path}: {name!r} claims {size} bytes from {prod(values.shape)} values in a file of "
            f"{len(file.whole)} bytes. Refused: export the model without sparse tensors."
        )
    return Sparse(file, shape, values, places)


def _external(file: ProtobufFile, name: str, fields: Fields, expected: int) -> Span:
    """Where the values lie in the file beside the model."""
    pairs = [file.message(entry) for entry in fields[13]]
    entry = {file.text(pair[1]): file.text(pair[2]) for pair in pairs}
    beside = _inside(file.path, entry.get("location", ""))
    try:
        offset, length = int(entry.get("offset") or 0), int(entry.get("length") or expected)
    except ValueError as error:
        raise file.damaged(f"tensor {name!r} has the offset {entry.get('offset')!r:.100}, no number") from error
    if not beside.is_file():
        raise CheckpointError(
            f"{file.path}: {beside.name}, which holds the values of {name!r}, is not in its folder. Download it too."
        )
    size = beside.stat().st_size
    if length != expected or not 0 <= offset <= size - length:
        raise CheckpointError(
            f"{file.path}: {name!r} is {expected} bytes; the model names {length} bytes from byte {offset} of "
            f"{beside.name}, which has {size}.\nThe two files do not belong together, or one is cut short."
        )
    return Span(beside, offset, length)


def _inside(model: Path, location: str) -> Path:
    """The file beside the model. Raises CheckpointError when the name leads anywhere else.

    A link is followed only when the model itself is one: download caches keep both as links into another folder.
    """
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    leads_out = not posix.parts or ".." in (*posix.parts, *windows.parts) or posix.is_absolute() or windows.anchor
    candidate = model if leads_out or "\x00" in location else model.parent / location
    is_inside = model.is_symlink() or candidate.resolve().is_relative_to(model.parent.resolve())
    if candidate == model or not is_inside:
        raise CheckpointError(
            f"{model}: refused to read values from {location!r}: external data must lie in the model's own folder."
        )
    return candidate


def files_of(tensors: Sequence[object]) -> tuple[Path, ...]:
    """The files beside the model that hold values, each once."""
    parts = [part for tensor in tensors for part in (tensor, *(getattr(tensor, name, None) for name in _PARTS))]
    return tuple(dict.fromkeys(part.span.path for part in parts if isinstance(part, Located)))
