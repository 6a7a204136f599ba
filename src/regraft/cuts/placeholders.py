"""Tensors without data: what a skipped layer gives to the head."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

import torch
from torch import Tensor

from regraft.cuts.operators import function_name
from regraft.errors import SplitError
from regraft.tensors.trees import Placeholder, find_in

# What may be asked of a tensor without looking at its data.
_METADATA = """
shape size dim ndim ndimension stride numel nelement element_size dtype device layout itemsize nbytes names
is_floating_point is_complex is_signed is_contiguous is_cuda is_cpu is_mps is_meta is_sparse is_quantized
is_nested is_leaf is_xpu is_mkldnn requires_grad grad_fn grad __len__ __hash__ get_device storage_offset
is_inference is_conj is_neg _backward_hooks output_nr retains_grad is_xla is_hpu is_mtia is_ipu is_vulkan
is_maia is_shared _is_view _version __torch_function__
"""
METADATA = frozenset(_METADATA.split())
_SIZES = frozenset(["shape", "size", "stride", "numel", "nelement", "nbytes", "__len__", "is_contiguous"])


class StubOwner(ABC):
    """The run of a head to which stubs belong: it answers for what they lack."""

    @abstractmethod
    def asked_for_size(self, stub: "Stub") -> None:
        """A size of a stub is wanted that is not certain: makes it certain, or raises SplitError."""

    @abstractmethod
    def operate(
        self, func: Callable[..., object], stubs: list["Stub"], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> object:
        """What an operation on stubs gives."""

    @abstractmethod
    def missing_data(self, stubs: list["Stub"], func: Callable[..., object]) -> "MissingDataError":
        """The error for an operator that needs the data of stubs."""


class Stub(Tensor):
    """A tensor that knows its type and device, mostly its shape, and has no data.

    value       its value in the recording
    run         the run of the head that it belongs to
    is_certain  whether the shape is known; otherwise it is that of the example
    """

    value: int
    run: StubOwner
    is_certain: bool

    @staticmethod
    def __new__(
        cls, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> "Stub":
        """A stub; its creator sets `value`, `run` and `is_certain`."""
        return Tensor._make_wrapper_subclass(cls, shape, stride, dtype=dtype, device=device)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        name = function_name(func)
        if name in METADATA:
            if name in _SIZES and isinstance(args[0], Stub) and not args[0].is_certain:
                args[0].run.asked_for_size(args[0])
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        stubs = list(find_in((args, kwargs), Stub))
        return stubs[0].run.operate(func, stubs, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> NoReturn:
        stubs = list(find_in((args, kwargs), Stub))
        raise stubs[0].run.missing_data(stubs, func)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Stub(shape={tuple(self.shape)}, dtype={self.dtype}, value={self.value})"


class MissingDataError(SplitError):
    """The head needs the data of a tensor that is no leaf; `values` says which."""

    def __init__(self, message: str, values: tuple[int, ...]) -> None:
        super().__init__(message)
        self.values = values


def hollow(tensor: Tensor) -> Tensor:
    """A real tensor of a stub's shape, for an operation that looks at nothing but shape and type."""
    if not isinstance(tensor, Stub):
        return tensor
    if not tensor.is_certain:
        tensor.run.asked_for_size(tensor)
    return torch.zeros((), dtype=tensor.dtype, device=tensor.device).expand(tensor.shape)


class Unfilled(Placeholder):
    """Stands for an object of the outputs to which frozen layers, which do not run in the head, add their part."""

    def __init__(self, value: object) -> None:
        self._kind = type(value).__name__

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # copying and pickling ask for some that are not there
            raise AttributeError(name)
        raise self._refusal()

    def __getitem__(self, key: object) -> NoReturn:
        raise self._refusal()

    def __iter__(self) -> Iterator[NoReturn]:
        raise self._refusal()

    def __len__(self) -> int:
        raise self._refusal()

    def __repr__(self) -> str:
        return f"<{self._kind} without the part of the frozen layers>"

    def _refusal(self) -> SplitError:
        return SplitError(
            f"The {self._kind} of the outputs lacks what the frozen layers put into it (keys and values for generating "
            "text, for example): they do not run in the head.\nCall the model itself for it: the head has trained it."
        )
