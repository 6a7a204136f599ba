"""One run of a function of tensors, recorded as the list of the operators that ran."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
# Methods that pass the values of a tensor to Python without an operator that could be recorded.
READS = {"tolist", "numpy", "__array__", "__dlpack__"}


class NotFlatError(Exception):
    """The function cannot be flattened; the text says why, to be put into a sentence."""


@final
@dataclass(frozen=True)
class OperatorCall:
    """One operator as it was called; tensors are held, so that no two values share memory by accident."""

    operator: torch._ops.OpOverload
    args: tuple[object, ...]
    kwargs: dict[str, object]
    outputs: Any

    def signature(self) -> tuple[torch._ops.OpOverload, str]:
        """The operator and all arguments but the values of tensors: equal in two recordings of one computation."""
        return self.operator, str(tree_map_only(Tensor, _shape, (self.args, self.kwargs)))

    def writes(self) -> bool:
        """Whether it changes one of its arguments, by its schema."""
        return self.operator._schema.is_mutable


@final
@dataclass(frozen=True)
class Recording:
    """The operators of one run, its inputs, and what the run returned."""

    inputs: tuple[Tensor, ...]
    calls: tuple[OperatorCall, ...]
    results: tuple[Tensor, ...]

    def made_bytes(self) -> int:
        """Bytes of all values that the operators made; they stay allocated with the recording or its function."""
        made = [tensor for call in self.work() for tensor in tensors_in(call.outputs)]
        blocks = {memory_of(tensor): tensor.untyped_storage() for tensor in made}
        return sum(block.nbytes() for block in blocks.values())

    def work(self) -> list[OperatorCall]:
        """The calls that compute or write: all but views."""
        known = {memory_of(tensor) for tensor in self.inputs}
        calls = []
        for call in self.calls:
            outputs = tensors_in(call.outputs)
            known.update(map(memory_of, tensors_in((call.args, call.kwargs))))
            if call.writes() or not all(memory_of(output) in known for output in outputs):
                calls.append(call)
            known.update(map(memory_of, outputs))
        return calls

    def same_as(self, other: "Recording") -> bool:
        """Whether the other run did the same with its own inputs: same operators, numbers and tensors from outside."""
        if [call.signature() for call in self.calls] != [call.signature() for call in other.calls]:
            return False
        written = self.written()
        # Memory of this run alone (a tensor made from Python numbers) stands for a constant: it has to be the same.
        return all(
            memory_of(mine) == memory_of(its) or (memory_of(mine) not in written and torch.equal(mine, its))
            for mine, its in zip(self.outside(), other.outside(), strict=True)
        )

    def written(self) -> set[int]:
        """The memory that some operator writes into."""
        return {memory_of(tensor) for call in self.calls if call.writes() for tensor in written_by(call)}

    def outside(self) -> list[Tensor]:
        """The arguments that are neither inputs nor made by an operator, in the order of their use."""
        known, tensors = {memory_of(tensor) for tensor in self.inputs}, list[Tensor]()
        for call in self.calls:
            tensors += [tensor for tensor in tensors_in((call.args, call.kwargs)) if memory_of(tensor) not in known]
            known.update(map(memory_of, tensors_in(call.outputs)))
        return tensors


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]  # torch gives no types here
    """Notes each operator below autograd: forward, backward and update alike."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.calls: list[OperatorCall] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the wrapping that torch would do imports its compiler, which takes seconds

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> object:
        outputs = func(*args, **(kwargs or {}))
        if torch.Tag.data_dependent_output in func.tags or _has_shape_by_values(func, args):
            raise NotFlatError(f"it looks at values ({func})")
        if func.namespace == "profiler":
            return outputs
        if func.namespace != "aten":
            raise NotFlatError(f"it runs an operator of {func.namespace}")
        self.calls.append(OperatorCall(func, *tree_map_only(Tensor, _held, (tuple(args), dict(kwargs or {}), outputs))))
        return outputs


class _Watcher(TorchFunctionMode):
    """Refuses what hands values to Python without an operator."""

    def __torch_function__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> object:
        if getattr(func, "__name__", "") in READS:
            raise NotFlatError(f"it looks at values ({func.__name__})")
        return func(*args, **(kwargs or {}))


def _has_shape_by_values(operator: torch._ops.OpOverload, args: tuple[Any, ...]) -> bool:
    """Whether the values of its arguments decide the shape of what it makes. Indexing has it only by masks."""
    if operator is aten.index.Tensor:
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return torch.Tag.dynamic_output_shape in operator.tags or operator is aten._pack_padded_sequence.default


def record(function: Callable[..., Sequence[Tensor]], *inputs: Tensor) -> Recording:
    """Run `function(*inputs)` and note every operator of it; it really runs, with all its effects.

    Raises NotFlatError when it looks at values, or works on tensors without memory of their own.
    """
    with _Watcher(), _Recorder() as recorder:
        results = function(*inputs)
    return Recording(tuple(map(_held, inputs)), tuple(recorder.calls), tuple(map(_held, results)))


def written_by(call: OperatorCall) -> list[Tensor]:
    """The arguments that the call changes."""
    values = dict(zip((argument.name for argument in call.operator._schema.arguments), call.args, strict=False))
    values |= call.kwargs
    changed = [a.name for a in call.operator._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return [tensor for name in changed for tensor in tensors_in(values.get(name))]


def _held(tensor: Tensor) -> Tensor:
    """The same memory without history."""
    if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout != torch.strided or tensor.is_meta:
        raise NotFlatError(f"it works on a {type(tensor).__name__} of layout {tensor.layout}")
    return tensor.detach()


def tensors_in(values: object) -> list[Tensor]:
    """All tensors among the arguments or results of an operator."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def memory_of(tensor: Tensor) -> int:
    """Which block of memory it looks at; recorded blocks are held, so the number is not used again."""
    return int(tensor.untyped_storage()._cdata)


def _shape(tensor: Tensor) -> str:
    return f"{tensor.dtype}{tuple(tensor.shape)}"
