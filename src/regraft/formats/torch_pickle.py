"""What torch's pickles say of tensors, read without importing torch: storage, shape, strides, and the names of all."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ITEM_BYTES
from regraft.errors import CheckpointError
from regraft.formats.pickle_machine import Name, Record
from regraft.formats.pickled_numpy import KNOWN as NUMPY_KNOWN
from regraft.formats.pickled_numpy import PickledArray
from regraft.formats.stored import Order, decode

_STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128", "QInt8": "int8", "QUInt8": "uint8", "QInt32": "int32", "Untyped": "uint8",
}  # fmt: skip
_DTYPES = {
    "float64": "float64", "double": "float64", "float32": "float32", "float": "float32", "float16": "float16",
    "half": "float16", "bfloat16": "bfloat16", "int64": "int64", "long": "int64", "int32": "int32", "int": "int32",
    "int16": "int16", "short": "int16", "int8": "int8", "uint8": "uint8", "uint16": "uint16", "uint32": "uint32",
    "uint64": "uint64", "bool": "bool", "complex64": "complex64", "complex128": "complex128",
    "float8_e4m3fn": "float8_e4m3fn", "float8_e5m2": "float8_e5m2",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers somewhere in the file.  count  numbers of this dtype"""

    key: str
    dtype: str
    count: int


@final
@dataclass(frozen=True, slots=True)
class PickledTensor:
    """A tensor that has not been read: a view of a storage. offset and strides count elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def reach(self) -> tuple[int, int]:
        """(first element, elements) of the storage that the tensor spans."""
        if not prod(self.shape):
            return self.offset, 0
        return self.offset, 1 + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))

    def check(self, *, path: Path, name: str) -> None:
        """Raise CheckpointError when the tensor lies outside its storage or claims more numbers than that holds."""
        numbers = [self.offset, *self.shape, *self.strides]
        is_sound = len(self.shape) == len(self.strides) and {*map(type, numbers)} == {int} and min(numbers) >= 0
        if is_sound:
            first, count = self.reach()
            is_sound = (
                first + count <= self.storage.count * ITEM_BYTES[self.storage.dtype] // ITEM_BYTES[self.dtype]
                and prod(self.shape) <= count
            )
        if not is_sound:
            raise CheckpointError(
                f"{path}: the tensor {name} (shape {self.shape}, strides {self.strides}, from {self.offset}) does not "
                f"fit its storage of {self.storage.count} numbers. The file is damaged, or the tensor was expanded: "
                "save it as `tensor.contiguous()`."
            )

    def values(self, content: bytearray, *, order: Order) -> np.ndarray:
        """The array.  content  the bytes of its reach"""
        flat = decode(content, self.dtype, (len(content) // ITEM_BYTES[self.dtype],), order=order)
        steps = tuple(step * flat.itemsize for step in self.strides)
        view = np.lib.stride_tricks.as_strided(flat, self.shape, steps)
        return np.ascontiguousarray(view).reshape(self.shape)


def storage_of(identity: Any) -> Storage:
    """The storage that a persistent id names: ("storage", class, key, device, count)."""
    kind, name, key, _, count, *_ = identity
    if kind != "storage" or not isinstance(key, str) or type(count) is not int or count < 0:
        raise TypeError("a persistent id names no storage")
    dtype = _STORAGES.get(name.text.rsplit(".", 1)[-1].removesuffix("Storage"))
    if dtype is None:
        raise TypeError(f"the storage class {name.text} is unknown")
    return Storage(key, dtype, count)


def _tensor(storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> PickledTensor:
    return PickledTensor(storage, storage.dtype, offset, tuple(shape), tuple(strides))


def _tensor_v3(
    storage: Storage, offset: int, shape: Any, strides: Any, _: Any, __: Any, dtype: Name, *___: Any
) -> PickledTensor:
    """The form of dtypes that have no storage class of their own (uint16, float8 …)."""
    return PickledTensor(storage, _DTYPES[dtype.text.removeprefix("torch.")], offset, tuple(shape), tuple(strides))


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _from_type(*arguments: Any) -> Any:
    """`torch._tensor._rebuild_from_type_v2(function, class, arguments, state)`: tensors that carry attributes."""
    function, _, inner = arguments[:3]
    return KNOWN[function.text](*inner)


def _inert(name: str) -> Callable[..., Record]:
    return lambda *arguments: Record(name, arguments)


KNOWN: dict[str, Callable[..., Any]] = NUMPY_KNOWN | {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    **{
        name: _inert(name)
        for name in (
            "torch.Size", "torch.device", "torch.nn.parameter.Parameter", "torch.Tensor", "collections.Counter",
            "torch._utils._rebuild_device_tensor_from_numpy", "argparse.Namespace", "pathlib.PosixPath",
            "pathlib.WindowsPath", "torch.serialization._get_layout",
        )
    },
    **{f"torch.{name}Storage": _inert(name) for name in _STORAGES},
    **{f"torch.storage.{name}Storage": _inert(name) for name in ("Untyped", "Typed", "_Untyped", "_Typed")},
    **{f"torch.{name}": _inert(name) for name in _DTYPES},
}  # fmt: skip
"""Harmless globals: what state dicts are made of. None of them is imported, let alone called."""


def is_leaf(value: Any) -> bool:
    """Whether the value is an array or a tensor."""
    return isinstance(value, (PickledTensor, PickledArray))
