"""Datatypes and dataspaces of HDF5, as NumPy's dtypes and shapes.

Source: HDF5 File Format Specification Version 3.0, sections IV.A.2.b and IV.A.2.d.
"""

from dataclasses import dataclass
from typing import Literal

from regraft.containers.hdf5.file import Hdf5Cursor

_CLASSES = (
    "integer", "float", "time", "string", "bit field", "opaque", "compound", "reference", "enumeration",
    "variable length", "array",
)  # fmt: skip
_FLOATS = {
    (8, 11, 52): "float64", (4, 8, 23): "float32", (2, 5, 10): "float16", (2, 8, 7): "bfloat16",
    (1, 5, 2): "float8_e5m2",
}  # fmt: skip
_DEEPEST = 8


@dataclass(frozen=True)
class ElementType:
    """What one element of an array is.

    dtype  in NumPy's words ("float32"), "text" for texts, else the file's word for what is no number
    size   bytes in the file
    order  "<" or ">"
    is_variable  whether the bytes lie in a heap: texts of any length
    """

    dtype: str
    size: int
    order: Literal["<", ">"] = "<"
    is_variable: bool = False


def read_type(cursor: Hdf5Cursor, depth: int = 0) -> ElementType:
    """The type that a datatype message describes."""
    if depth > _DEEPEST:
        cursor.file.damaged("a datatype that holds itself")
    first, bits, size = cursor.number(1), cursor.number(3), cursor.number(4)
    kind, version = first & 15, first >> 4
    match kind:
        case 0:
            return _integer(cursor, bits, size)
        case 1:
            return _float(cursor, bits, size)
        case 3:
            return ElementType("text", size)
        case 6:
            return _complex(cursor, bits & 0xFFFF, size, version, depth)
        case 8:
            return _enumeration(cursor, bits & 0xFFFF, version, depth)
        case 9:
            return ElementType("text" if bits & 15 == 1 else "variable length", size, is_variable=True)
    return ElementType(_CLASSES[kind] if kind < len(_CLASSES) else f"type {kind}", size)


def _order(bits: int) -> Literal["<", ">"]:
    return ">" if bits & 1 else "<"


def _integer(cursor: Hdf5Cursor, bits: int, size: int) -> ElementType:
    """Whole numbers that fill their bytes."""
    offset, precision = cursor.number(2), cursor.number(2)
    is_plain = (size, offset, precision) in {(width, 0, 8 * width) for width in (1, 2, 4, 8)}
    return ElementType(f"{'' if bits & 8 else 'u'}int{8 * size}" if is_plain else "odd integer", size, _order(bits))


def _float(cursor: Hdf5Cursor, bits: int, size: int) -> ElementType:
    """IEEE floats and bfloat16, recognised by the sizes of exponent and mantissa."""
    offset, precision, _, exponent, _, mantissa = (cursor.number(width) for width in (2, 2, 1, 1, 1, 1))
    bias = cursor.number(4)
    dtype = _FLOATS.get((size, exponent, mantissa), "")
    is_plain = (offset, precision, bias, bits & 0x40) == (0, 8 * size, (1 << exponent >> 1) - 1, 0)
    return ElementType(dtype if dtype and is_plain else "odd float", size, _order(bits))


def _enumeration(cursor: Hdf5Cursor, count: int, version: int, depth: int) -> ElementType:
    """h5py writes booleans as {FALSE: 0, TRUE: 1}; other enumerations are their numbers."""
    base = read_type(cursor, depth + 1)
    names = [_member_name(cursor, version) for _ in range(count)]
    is_bool = base.size == 1 and set(names) == {"FALSE", "TRUE"}
    return ElementType("bool", 1) if is_bool else base


def _complex(cursor: Hdf5Cursor, count: int, size: int, version: int, depth: int) -> ElementType:
    """h5py writes complex numbers as {r, i}."""
    members = [_member(cursor, size, version, depth) for _ in range(min(count, 3))]
    layout = [(name, offset) for name, offset, _ in members]
    parts = {part for _, _, part in members}
    if layout != [("r", 0), ("i", size // 2)] or len(parts) != 1:
        return ElementType("compound", size)
    part = parts.pop()
    dtype = {"float32": "complex64", "float64": "complex128"}.get(part.dtype) if part.size * 2 == size else None
    return ElementType(dtype, size, part.order) if dtype else ElementType("compound", size)


def _member(cursor: Hdf5Cursor, size: int, version: int, depth: int) -> tuple[str, int, ElementType]:
    """(name, offset, type) of one member of a record."""
    name = _member_name(cursor, version)
    offset = cursor.number(4 if version < 3 else max(1, (size.bit_length() + 7) // 8))
    cursor.skip(28 if version == 1 else 0)
    return name, offset, read_type(cursor, depth + 1)


def _member_name(cursor: Hdf5Cursor, version: int) -> str:
    """Before version 3 names are padded to a multiple of 8."""
    start = cursor.position
    name = cursor.text()
    if version < 3:
        cursor.skip(-(cursor.position - start) % 8)
    return name


def read_shape(cursor: Hdf5Cursor) -> tuple[int, ...] | None:
    """The shape that a dataspace message describes; None where there is no element, not even a scalar."""
    version, rank, _ = cursor.number(1), cursor.number(1), cursor.number(1)  # flags: whether the largest sizes follow
    if version not in (1, 2) or rank > 32:
        cursor.file.damaged(f"a dataspace of version {version} with {rank} dimensions")
    is_null = cursor.number(1) == 2 and version == 2
    cursor.skip(4 if version == 1 else 0)
    shape = tuple(cursor.length() for _ in range(rank))
    return None if is_null else shape
