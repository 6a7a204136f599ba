"""NumPy arrays inside pickles, of Python 2 and 3, NumPy 1 and 2: shape and dtype, and the bytes when they are read."""

import codecs
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ITEM_BYTES
from regraft.containers.npy_header import NoNumbersError, numpy_dtype
from regraft.containers.pickle_machine import hashable
from regraft.containers.pickle_objects import LongString, PickledRecord, Stateful, checked_sizes
from regraft.containers.spans import Order, checked_size, decoded_array
from regraft.errors import CheckpointError


@final
@dataclass(slots=True, eq=False)
class PickledDtype(Stateful):
    """A NumPy dtype: its code without byte order, and the order, which the pickle gives later."""

    code: str
    order: Order = "<"

    def set_state(self, state: Any) -> None:
        """The state is (version, byte order, subarray, names, …)."""
        if state[1] in ("<", ">"):
            self.order = state[1]
        if state[2] is not None or state[3]:
            self.code = "V"  # a structured dtype: refused when an array has it


@final
@dataclass(slots=True, eq=False)
class PickledArray(Stateful):
    """A NumPy array that has not been read.

    content   its bytes, or where they are; a list for an array of objects
    """

    shape: tuple[int, ...] = ()
    dtype: PickledDtype | None = None
    is_fortran: bool = False
    content: Any = None

    def set_state(self, state: Any) -> None:
        """The state is (version, shape, dtype, is_fortran, content), in NumPy's oldest form without the version."""
        shape, self.dtype, self.is_fortran, self.content = state[-4:]
        self.shape = checked_sizes(shape, "an array's shape")
        if not isinstance(self.dtype, PickledDtype):
            raise TypeError("an array's state is damaged")

    def checked_type(self, *, path: Path, name: str) -> tuple[str, Order, tuple[int, ...]]:
        """(dtype, byte order, shape), checked against the bytes that are there. Raises CheckpointError."""
        if self.dtype is None:
            raise CheckpointError(f"{path}: the pickle does not record the type of the array {name}. It is damaged.")
        dtype, _ = numpy_dtype(self.dtype.code, path=path, name=name)
        if dtype == "object":
            raise NoNumbersError(f"{path}: {name} is an array of objects; expected an array of plain numbers.")
        expected = checked_size(self.shape, dtype, path=path, name=name)
        got, is_exact = _size(self.content)
        # Bytes that were written as text take one byte or two each.
        if not (got == expected if is_exact else expected <= got <= 4 * expected):
            raise CheckpointError(
                f"{path}: {name} is {dtype} of shape {self.shape}, {expected} bytes, but {got} "
                "are stored. It is damaged."
            )
        return dtype, self.dtype.order, self.shape

    def read(self, source: Callable[[int, int], bytes | bytearray], *, path: Path, name: str) -> np.ndarray:
        """The values.  source  gives the bytes of the pickle from (start, size)."""
        dtype, order, shape = self.checked_type(path=path, name=name)
        content = _bytes_of(self.content, source, path, name)
        if len(content) != prod(shape) * ITEM_BYTES[dtype]:
            raise CheckpointError(f"{path}: the bytes of {name} are damaged: {len(content)} for the shape {shape}.")
        if self.is_fortran:
            return decoded_array(content, dtype, shape[::-1], order=order).transpose()
        return decoded_array(content, dtype, shape, order=order)


def _size(content: object) -> tuple[int, bool]:
    """(bytes stored, whether these are exactly the array's)."""
    if isinstance(content, LongString):
        return content.size, content.coding == ""
    return (len(content), True) if isinstance(content, (bytes, str)) else (0, True)


def _bytes_of(content: Any, source: Callable[[int, int], bytes | bytearray], path: Path, name: str) -> bytearray:
    """The array's bytes, writable."""
    if isinstance(content, str):  # Python 2's short strings
        return bytearray(content.encode("latin1"))
    if isinstance(content, bytes):
        return bytearray(content)
    raw = source(content.start, content.size)
    try:
        if content.coding == "latin1":
            raw = bytes(raw).decode("utf-8").encode("latin1")
        elif content.coding == "escape":
            raw = codecs.escape_decode(raw)[0]
    except ValueError as error:
        raise CheckpointError(f"{path}: the bytes of {name} are damaged: {error}.") from error
    return bytearray(raw) if not isinstance(raw, bytearray) else raw


def _reconstruct(*_: object) -> PickledArray:
    return PickledArray()


def _scalar(dtype: PickledDtype, content: object = b"") -> PickledArray:
    return PickledArray((), dtype, False, content)


def _from_buffer(content: object, dtype: PickledDtype, shape: tuple[int, ...], order: str) -> PickledArray:
    return PickledArray(checked_sizes(shape, "an array's shape"), dtype, order == "F", content)


def _jax_array(function: Any, arguments: Any, state: object, *_: object) -> PickledArray:
    """`jax._src.array._reconstruct_array`: a NumPy array with what makes it JAX's, which is left out."""
    array: PickledArray = _CONSTRUCTORS[function.text](*arguments)
    array.set_state(state)
    return array


def _dtype(code: object, *_: object) -> PickledDtype:
    if not isinstance(code, str):
        raise TypeError("a dtype has no code")
    return PickledDtype(code)


def _encode(text: Any, encoding: object = "utf-8") -> Any:
    """Python 3's way of writing bytes in protocol 2: `_codecs.encode(text, "latin1")`."""
    if encoding != "latin1":
        raise ValueError(f"bytes are written in {encoding!r}")
    if isinstance(text, LongString):
        return LongString(text.start, text.size, "latin1")
    return text.encode("latin1")


def _ordered(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    return {hashable(key): value for key, value in pairs}


def _default(_: object = None, pairs: Iterable[object] = ()) -> dict[Any, Any]:
    return _ordered(pairs)


def _bytes(content: object = b"", _: object = None) -> Any:
    """`bytes()` and `bytearray(…)` as pickles of protocol 2 call them; never a number, which would allocate."""
    if not isinstance(content, (bytes, str, LongString)):
        raise TypeError("bytes are made of something else than bytes")
    return content.encode("latin1") if isinstance(content, str) else content


def _listed(items: Iterable[object] = (), *_: object) -> list[Any]:
    """Sets and the like: the list of their items."""
    if not isinstance(items, (list, tuple)):
        raise TypeError("a set is made of something else than a list")
    return list(items)


def _record(name: str) -> Callable[..., PickledRecord]:
    return lambda *arguments: PickledRecord(name, arguments)


_CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _default,
    "collections.deque": _listed,
    "_codecs.encode": _encode,
    "jax._src.array._reconstruct_array": _jax_array,
}
for _module in ("numpy.core", "numpy._core"):
    _CONSTRUCTORS[f"{_module}.multiarray._reconstruct"] = _reconstruct
    _CONSTRUCTORS[f"{_module}.multiarray.scalar"] = _scalar
    _CONSTRUCTORS[f"{_module}.numeric._frombuffer"] = _from_buffer
for _module in ("builtins", "__builtin__"):
    _CONSTRUCTORS |= {f"{_module}.{_name}": _record(_name) for _name in ("object", "list", "dict", "int", "float")}
    _CONSTRUCTORS |= {f"{_module}.{_name}": _record(_name) for _name in ("complex", "slice", "range", "tuple", "bool")}
    _CONSTRUCTORS |= {f"{_module}.bytes": _bytes, f"{_module}.bytearray": _bytes}
    _CONSTRUCTORS |= {f"{_module}.set": _listed, f"{_module}.frozenset": _listed}
KNOWN = _CONSTRUCTORS | {"numpy.ndarray": _record("numpy.ndarray"), "numpy.dtype": _dtype}
"""Harmless globals: what NumPy's pickles and plain containers need, and nothing that could execute."""
