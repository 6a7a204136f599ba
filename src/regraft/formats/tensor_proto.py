"""Values inside TensorFlow's TensorProto: raw bytes, or one list for each kind of number.

Source: tensorflow/core/framework/tensor.proto.
"""

from collections.abc import Sequence
from math import prod

import numpy as np

from regraft.containers.protobuf import field_bytes, fields
from regraft.containers.spans import checked_bytes, decoded_array
from regraft.errors import CheckpointError

# dtype → (field of its list, how a number of it is stored there; "varint" or a NumPy dtype)
_LISTS = {
    "float32": (5, "<f4"), "float64": (6, "<f8"), "int32": (7, "varint"), "uint8": (7, "varint"),
    "int16": (7, "varint"), "int8": (7, "varint"), "uint16": (7, "varint"), "complex64": (9, "<f4"),
    "int64": (10, "varint"), "bool": (11, "varint"), "complex128": (12, "<f8"), "float16": (13, "varint"),
    "bfloat16": (13, "varint"), "uint32": (16, "varint"), "uint64": (17, "varint"),
}  # fmt: skip
_CONTENT = 4


def proto_values(
    message: bytearray | memoryview, dtype: str, shape: Sequence[int], *, repeats: bool = False
) -> np.ndarray:
    """The array of a TensorProto whose dtype and shape are known.

    repeats  whether the last of the listed values stands for all that are missing, as in the constants of a graph

    Raises CheckpointError (without a file's name) when it holds another number of values.
    """
    field, kind = _LISTS.get(dtype, (0, ""))
    parts: list[np.ndarray] = []
    for number, value in fields(message):
        if number == _CONTENT:
            return decoded_array(checked_bytes(field_bytes(value), dtype, shape), dtype, shape)
        if number == field and field:
            parts.append(_numbers(value, kind))
    values = np.concatenate(parts) if parts else np.empty(0, np.uint64)
    is_complex = dtype.startswith("complex")
    expected = prod(shape) * (2 if is_complex else 1)
    if repeats and not is_complex:
        values = _repeated(values, expected)
    if len(values) != expected:
        raise CheckpointError(f"an array of shape {tuple(shape)} has {len(values)} values, expected {expected}")
    return _as_dtype(values, dtype).reshape(tuple(shape))


def _repeated(values: np.ndarray, count: int) -> np.ndarray:
    """So many values: the last stands for all that are missing; of none at all every value is 0."""
    if not len(values):
        return np.zeros(count, values.dtype)
    missing = count - len(values)
    return np.concatenate([values, np.full(missing, values[-1])]) if missing > 0 else values


def _numbers(value: int | memoryview, kind: str) -> np.ndarray:
    """One field of the list: a single number, or many packed."""
    if kind == "varint":
        return np.array([value], np.uint64) if isinstance(value, int) else unpacked(value)
    stored = np.dtype(kind)
    content = value.to_bytes(8, "little")[: stored.itemsize] if isinstance(value, int) else value
    if len(content) % stored.itemsize:
        raise CheckpointError("a list of numbers ends in the middle of one")
    return np.frombuffer(content, stored)


def unpacked(content: memoryview) -> np.ndarray:
    """The packed varints as uint64, all at once: a loop would take a second for a million.

    Bytes below 128 end a number; each byte's seven bits go to their place by its distance from the number's begin.
    """
    raw = np.frombuffer(content, np.uint8)
    if not raw.size:
        return np.empty(0, np.uint64)
    ends = np.flatnonzero(raw < 128)
    if not ends.size or ends[-1] != raw.size - 1:
        raise CheckpointError("a list of numbers ends in the middle of one")
    starts = np.concatenate(([0], ends[:-1] + 1))
    if (ends - starts).max() >= 10:
        raise CheckpointError("a list holds a number of more than 64 bits")
    places = np.arange(raw.size) - np.repeat(starts, ends - starts + 1)
    bits = (raw & 127).astype(np.uint64) << (7 * places).astype(np.uint64)
    return np.bitwise_or.reduceat(bits, starts)


def _as_dtype(values: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers as they lie in the list → the array's own dtype, writable."""
    if dtype in ("float16", "bfloat16"):
        return decoded_array(bytearray(values.astype("<u2").tobytes()), dtype, (len(values),))
    if dtype == "bool":
        return values.astype(bool)
    if dtype.startswith("complex"):
        return values.copy().view(dtype)
    # Negative integers are stored as 2⁶⁴ minus them; the lower bits are the number.
    return values.astype(dtype)


def varints(value: int | memoryview) -> list[int]:
    """One field of a repeated int64, packed or not."""
    numbers = np.array([value], np.uint64) if isinstance(value, int) else unpacked(value)
    return [int(number) for number in numbers.view(np.int64)]
