"""The header of NumPy's `.npy`: dtype, order and shape, read without evaluating anything.

Source: NumPy enhancement proposal 1, "A simple file format for NumPy arrays", versions 1.0 to 3.0.
"""

import ast
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from struct import unpack_from

import numpy as np

from regraft.arrays import ITEM_BYTES
from regraft.containers.spans import Order
from regraft.errors import CheckpointError
from regraft.foundation.wording import counted

MAGIC = b"\x93NUMPY"
MOST_HEADER_BYTES = 4096
# What NumPy itself writes; matched at once because literal_eval takes 0.3 s for 10,000 headers.
_USUAL = re.compile(
    r"\{'descr': '(?P<descr>[<>|=]?[a-zA-Z?]\d*)', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>[\d, ]*)\), \}\s*"
)
_NUMBERS = re.compile(r"[<>|=]?([?O]|[biufcO]\d{1,2}|bool|float\d\d|u?int\d{1,2}|complex\d{2,3})")


class NoNumbersError(CheckpointError):
    """An array of texts, dates, records or objects: left out where others are beside it, with a note."""


def left_out_note(names: Collection[str]) -> tuple[str, ...]:
    """What is said of the arrays that were left out."""
    count = counted(len(names), "array", "holds no numbers and is/hold no numbers and are")
    return (f"{count} left out: {', '.join(list(names)[:5])}.",) if names else ()


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What the header says.

    dtype   in NumPy's words; "object" for pickled objects
    order   "<" or ">"
    start   offset of the data after the array's beginning
    """

    dtype: str
    shape: tuple[int, ...]
    is_fortran: bool
    order: Order
    start: int


def parse_npy_header(begin: bytes, *, path: Path, name: str) -> NpyHeader:
    """The header of an array whose first bytes (up to MOST_HEADER_BYTES) are `begin`.

    Raises CheckpointError for a damaged header, and for structured, text and date dtypes.
    """
    if begin[:6] != MAGIC or len(begin) < 12 or begin[6] not in (1, 2, 3):
        raise CheckpointError(f"{path}: {name} does not begin as a NumPy array does. It is damaged.")
    (size,), start = (unpack_from("<H", begin, 8), 10) if begin[6] == 1 else (unpack_from("<I", begin, 8), 12)
    text = begin[start : start + size].decode("latin1")
    if len(text) != size:
        raise CheckpointError(f"{path}: {name} has a header of {size} bytes that is cut off or not one of an array.")
    match = _USUAL.fullmatch(text)
    if match:
        descr, is_fortran = match["descr"], match["fortran"] == "True"
        shape = tuple(int(axis) for axis in match["shape"].replace(" ", "").split(",") if axis)
    else:
        descr, is_fortran, shape = _unusual(text, path, name)
    dtype, order = numpy_dtype(descr, path=path, name=name)
    return NpyHeader(dtype, shape, is_fortran, order, start + size)


def _unusual(text: str, path: Path, name: str) -> tuple[str, bool, tuple[int, ...]]:
    """(descr, is_fortran, shape) of a header that another writer wrote."""
    # Python 2 wrote long integers as 3L.
    text = re.sub(r"(\d)L\b", r"\1", text)
    try:
        header = ast.literal_eval(text.strip())
        descr, is_fortran, shape = header["descr"], header["fortran_order"], header["shape"]
        is_sound = isinstance(shape, tuple) and all(type(axis) is int and axis >= 0 for axis in shape)
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        is_sound = False
    if not is_sound or not isinstance(is_fortran, bool):
        raise CheckpointError(f"{path}: {name} has a damaged header: {text[:200]!r}")
    if not isinstance(descr, str):
        raise NoNumbersError(
            f"{path}: {name} has the structured dtype {descr!r:.100}; expected an array of plain numbers."
        )
    return descr, is_fortran, shape


def numpy_dtype(descr: str, *, path: Path, name: str) -> tuple[str, Order]:
    """(dtype in NumPy's words, byte order "<" or ">") of a code such as "<f4". Raises CheckpointError for no number."""
    if descr in ("|V2", "<V2", "V2"):
        return "bfloat16", "<"  # what ml_dtypes' bfloat16, the only such type in use, becomes in NumPy's files
    if not _NUMBERS.fullmatch(descr):
        raise NoNumbersError(f"{path}: {name} has the dtype {descr[:100]!r}; expected an array of plain numbers.")
    try:
        dtype, order = _dtype(descr)
    except TypeError as error:
        raise CheckpointError(f"{path}: {name} has the unknown dtype {descr!r}.") from error
    if dtype not in ITEM_BYTES and dtype != "object":
        raise NoNumbersError(f"{path}: {name} has the dtype {dtype}; expected an array of plain numbers.")
    return dtype, order


@lru_cache(maxsize=256)  # NumPy takes 20 µs for a dtype's name, an archive may have 10,000 arrays
def _dtype(descr: str) -> tuple[str, Order]:
    dtype = np.dtype(descr)
    return dtype.name, ">" if dtype.str[0] == ">" else "<"
