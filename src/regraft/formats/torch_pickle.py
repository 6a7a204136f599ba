"""What torch's pickles say of tensors, read without importing torch: storage, shape, strides, and the names of all."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ITEM_BYTES
from regraft.containers.pickle_objects import Name, PickledRecord, checked_sizes
from regraft.containers.small_floats import SMALL_FLOATS
from regraft.containers.spans import Order, checked_size, decoded_array
from regraft.errors import CheckpointError
from regraft.formats.pickled_numpy import KNOWN as NUMPY_KNOWN
from regraft.formats.pickled_numpy import PickledArray

_STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128", "QInt8": "int8", "QUInt8": "uint8", "QInt32": "int32", "Untyped": "uint8",
}  # fmt: skip
DTYPES = {
    "float64": "float64", "double": "float64", "float32": "float32", "float": "float32", "float16": "float16",
    "half": "float16", "bfloat16": "bfloat16", "int64": "int64", "long": "int64", "int32": "int32", "int": "int32",
    "int16": "int16", "short": "int16", "int8": "int8", "uint8": "uint8", "uint16": "uint16", "uint32": "uint32",
    "uint64": "uint64", "bool": "bool", "complex64": "complex64", "complex128": "complex128",
    **{name: name for name in SMALL_FLOATS},
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
        if {*map(type, numbers)} != {int} or min(numbers) < 0 or not self._fits(path):
            raise CheckpointError(
                f"{path}: the tensor {name} (shape {self.shape}, strides {self.strides}, from {self.offset}) does not "
                f"fit its storage of {self.storage.count} numbers. The file is damaged, or the tensor was expanded: "
                "save it as `tensor.contiguous()`."
            )

    def _fits(self, path: Path) -> bool:
        if len(self.shape) != len(self.strides):
            return False
        size = checked_size(self.shape, self.dtype, path=path, name="a tensor")
        first, count = self.reach()
        if first + count > self.storage.count * ITEM_BYTES[self.storage.dtype] // ITEM_BYTES[self.dtype]:
            return False
        if prod(self.shape) <= count:
            return True
        return size <= (path.stat().st_size if path.is_file() else 0)  # expanded: to no more than the whole file

    def values(self, content: bytearray, *, order: Order) -> np.ndarray:
        """The array.  content  the bytes of its reach"""
        flat = decoded_array(content, self.dtype, (len(content) // ITEM_BYTES[self.dtype],), order=order)
        steps = tuple(step * flat.itemsize for step in self.strides)
        view = np.lib.stride_tricks.as_strided(flat, self.shape, steps)
        return np.ascontiguousarray(view).reshape(self.shape)


@final
@dataclass(frozen=True, slots=True)
class QuantisedTensor:
    """Integers that stand for numbers: (integer - zero point) × scale, one for all or one for each place on an axis."""

    integers: PickledTensor
    scale: float | PickledTensor
    zero: int | PickledTensor
    axis: int = 0

    @property
    def note(self) -> str:
        """What is said of the array in the plan."""
        per = "one scale" if isinstance(self.scale, float) else f"{self.scale.shape[0]} scales along axis {self.axis}"
        return f"dequantised from {self.integers.dtype}, {per}"

    def check(self, *, path: Path, name: str) -> None:
        """Raise CheckpointError when a part lies outside its storage, or the scales do not fit."""
        self.integers.check(path=path, name=name)
        for part in (self.scale, self.zero):
            if isinstance(part, PickledTensor):
                part.check(path=path, name=name)
                shape = self.integers.shape
                if not 0 <= self.axis < len(shape) or part.shape != (shape[self.axis],):
                    raise CheckpointError(f"{path}: {name} of shape {shape} has scales of shape {part.shape}.")

    def values(self, read: Callable[[PickledTensor], np.ndarray]) -> np.ndarray:
        """The numbers as float32; difference and product are those of torch's dequantize."""
        along = [1] * len(self.integers.shape)
        along[self.axis : self.axis + 1] = [-1]
        scale, zero = (
            read(part).astype(np.float32).reshape(along) if isinstance(part, PickledTensor) else np.float32(part)
            for part in (self.scale, self.zero)
        )
        with np.errstate(over="ignore", invalid="ignore"):  # a damaged scale: the plan refuses what is not finite
            return (read(self.integers).astype(np.float32) - zero) * scale


def storage_of(identity: Any) -> Storage:
    """The storage that a persistent id names: ("storage", class, key, device, count)."""
    kind, name, key, _, count, *_ = identity
    if kind != "storage" or not isinstance(key, str) or type(count) is not int or count < 0:
        raise TypeError("a persistent id names no storage")
    dtype = _STORAGES.get(name.text.rsplit(".", 1)[-1].removesuffix("Storage"))
    if dtype is None:
        raise TypeError(f"the storage class {name.text} is unknown")
    return Storage(key, dtype, count)


def _tensor(
    storage: Storage,
    offset: int,
    shape: object,
    strides: object,
    _: object = None,
    __: object = None,
    bits: object = None,
) -> PickledTensor:
    """bits   of a view that torch negates or conjugates only when it is read, as `x.conj().imag`"""
    if isinstance(bits, dict) and any(bits.values()):
        raise TypeError("a tensor is a negated or conjugated view; save it as `tensor.resolve_conj().resolve_neg()`")
    return _view(storage, storage.dtype, offset, shape, strides)


def _view(storage: Storage, dtype: str, offset: int, shape: object, strides: object) -> PickledTensor:
    """The tensor, whose numbers are checked before anything is done with them: a forged tuple may hold itself."""
    (start,) = checked_sizes((offset,), "a tensor's offset")
    return PickledTensor(
        storage, dtype, start, checked_sizes(shape, "a tensor's shape"), checked_sizes(strides, "its strides")
    )


def _tensor_v3(
    storage: Storage, offset: int, shape: object, strides: object, _: object, __: object, dtype: Name, *___: object
) -> PickledTensor:
    """The form of dtypes that have no storage class of their own (uint16, float8 …)."""
    return _view(storage, DTYPES[dtype.text.removeprefix("torch.")], offset, shape, strides)


def _quantised(
    storage: Storage, offset: int, shape: object, strides: object, how: tuple[Any, ...], *_: object
) -> QuantisedTensor:
    """`torch._utils._rebuild_qtensor`; the numbers of the storage are the integers."""
    integers = _tensor(storage, offset, shape, strides)
    kind, scale, zero = how[0].text, how[1], how[2]
    if kind == "torch.per_tensor_affine" and isinstance(scale, float) and isinstance(zero, int):
        return QuantisedTensor(integers, scale, zero)
    is_per_channel = kind == "torch.per_channel_affine" and isinstance(how[3], int)
    if not is_per_channel or not (isinstance(scale, PickledTensor) and isinstance(zero, PickledTensor)):
        raise TypeError(f"a tensor is quantised as {kind}, which is not read")
    return QuantisedTensor(integers, scale, zero, how[3])


def _first(data: object, *_: object) -> Any:
    return data


def _from_type(*arguments: Any) -> Any:
    """`torch._tensor._rebuild_from_type_v2(function, class, arguments, state)`: tensors that carry attributes."""
    function, _, inner = arguments[:3]
    return KNOWN[function.text](*inner)


def inert(name: str) -> Callable[..., PickledRecord]:
    """What makes a PickledRecord of that name from any arguments."""
    return lambda *arguments: PickledRecord(name, arguments)


KNOWN: dict[str, Callable[..., Any]] = NUMPY_KNOWN | {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    **{
        name: inert(name)
        for name in (
            "torch.Size", "torch.device", "torch.nn.parameter.Parameter", "torch.Tensor", "collections.Counter",
            "torch.per_tensor_affine", "torch.per_channel_affine",
            "torch._utils._rebuild_device_tensor_from_numpy", "argparse.Namespace", "pathlib.PosixPath",
            "pathlib.WindowsPath", "torch.serialization._get_layout", "pathlib.PurePosixPath", "pathlib.Path",
            "pathlib._local.PosixPath", "pathlib._local.WindowsPath", "datetime.datetime", "datetime.timedelta",
            "datetime.date", "datetime.timezone", "uuid.UUID", "functools.partial", "types.SimpleNamespace",
        )
    },
    **{f"torch.jit._pickle.build_{name}list": _first for name in ("int", "double", "bool", "tensor")},
    "torch.jit._pickle.restore_type_tag": _first,
    **{f"torch.{name}Storage": inert(name) for name in _STORAGES},
    **{f"torch.storage.{name}Storage": inert(name) for name in ("Untyped", "Typed", "_Untyped", "_Typed")},
    **{f"torch.{name}": inert(name) for name in DTYPES},
}  # fmt: skip
"""Harmless globals: what state dicts are made of. None of them is imported, let alone called."""


def is_leaf(value: object) -> bool:
    """Whether the value is an array or a tensor."""
    return isinstance(value, (PickledTensor, QuantisedTensor, PickledArray))
