"""A writer of FlatBuffers and of small TensorFlow Lite models, so that tests can build any of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from struct import pack

import numpy as np

TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "int8": 9, "int4": 17, "bfloat16": 18}
Fields = dict[int, object]


def flat(root: Fields, identifier: bytes) -> bytes:
    """A FlatBuffer. A field is (struct code, number), bytes, text, an array, a dict (a table) or a list of dicts."""
    out = bytearray(pack("<I4s", 0, identifier))
    _link(out, 0, _add_table(out, root))
    return bytes(out)


def _link(out: bytearray, place: int, target: int) -> None:
    out[place : place + 4] = pack("<I", target - place)


def _add_table(out: bytearray, fields: Fields) -> int:
    """Append list of fields, table and what hangs below; return the table's place."""
    count = max(fields, default=-1) + 1
    offsets, body, later = [0] * count, bytearray(4), []
    for number, value in sorted(fields.items()):
        if isinstance(value, tuple):
            body += bytes(-len(body) % 8)
            offsets[number] = len(body)
            body += pack(f"<{value[0]}", value[1])
        else:
            body += bytes(-len(body) % 4)
            offsets[number] = len(body)
            later.append((len(body), value))
            body += bytes(4)
    out += bytes(-len(out) % 8)
    listed = len(out)
    out += pack(f"<HH{count}H", 4 + 2 * count, len(body), *offsets)
    out += bytes(-len(out) % 8)
    table = len(out)
    out += body
    out[table : table + 4] = pack("<i", table - listed)
    for place, value in later:
        out += bytes(-len(out) % 8)
        _link(out, table + place, _add(out, value))
    return table


def _add(out: bytearray, value: object) -> int:
    if isinstance(value, dict):
        return _add_table(out, value)
    at = len(out)
    if isinstance(value, list):
        out += pack("<I", len(value)) + bytes(4 * len(value))
        for index, item in enumerate(value):
            _link(out, at + 4 + 4 * index, _add_table(out, item))
        return at
    content = value.encode() if isinstance(value, str) else value
    count = len(content)
    raw = content.tobytes() if isinstance(content, np.ndarray) else bytes(content)
    out += pack("<I", count) + raw + b"\0"
    return at


def tensor(name: str, array: np.ndarray, buffer: int, *, dtype: str = "", quantised: Fields | None = None) -> Fields:
    """A tensor's table.  quantised  the quantisation's table"""
    told: Fields = {
        0: np.array(array.shape, "<i4"),
        1: ("b", TYPES[dtype or array.dtype.name]),
        2: ("I", buffer),
        3: name,
    }
    return told | ({4: quantised} if quantised is not None else {})


def write_tflite(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    *,
    quantised: Mapping[str, Fields] | None = None,
    dtypes: Mapping[str, str] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    operators: Sequence[Fields] = (),
    codes: Sequence[int] = (),
    maps: Mapping[str, Sequence[int]] | None = None,
) -> Path:
    """A model of one subgraph with these constants; the tensor "input" comes after them, then the maps.

    maps  name → shape of what the operators give
    """
    tensors = [
        tensor(
            name,
            np.empty((shapes or {}).get(name, array.shape), np.int8) if shapes and name in shapes else array,
            number,
            dtype=(dtypes or {}).get(name, array.dtype.name),
            quantised=(quantised or {}).get(name),
        )
        for number, (name, array) in enumerate(arrays.items(), 1)
    ]
    tensors.append(tensor("input", np.empty((1, 4), np.float32), 0))
    tensors += [tensor(name, np.empty(shape, np.float32), 0) for name, shape in (maps or {}).items()]
    buffers: list[Fields] = [{}, *({0: np.frombuffer(array.tobytes(), np.uint8)} for array in arrays.values())]
    model: Fields = {
        0: ("I", 3),
        1: [{0: ("b", code), 3: ("i", code)} for code in codes],
        2: [{0: tensors, 1: np.array([len(arrays)], "<i4"), 3: list(operators)}],
        4: buffers,
    }
    path.write_bytes(flat(model, b"TFL3"))
    return path
