"""What a recorded forward is made of: values, operations and calls, in the order of time. Nothing in it changes.

A *value* is a tensor's content at a moment: views of one storage share it, an in-place operation starts a new one. An
*operation* is what the user's forward wrote (`torch.cat`, `F.interpolate`, `x + y`); its *steps* are what torch ran
for it: they show what was read and written. A *call* is one run of a module's forward.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from regraft.tensors.trees import Placeholder, find_in

_NOT_COUNTED = ("lstm", "gru", "rnn")
OPERATIONS_OF_AN_ELEMENT = 10  # of a norm or an activation; memory limits them


@dataclass(frozen=True)
class Value:
    """A tensor's content at a moment.

    kind         "input", "parameter", "buffer", "constant", "result" of an operation, or "view" of `base`
    storage      whose memory it lies in
    name         of an input, parameter or buffer
    operation    index of the operation that wrote it, -1 if none did
    base         for a view: the value whose storage it looks at, itself no view; else -1
    is_trainable for a parameter
    tensor       itself, of a constant: a tensor that was there and is neither parameter nor buffer
    """

    index: int
    kind: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    storage: int = 0
    name: str = ""
    operation: int = -1
    base: int = -1
    is_trainable: bool = False
    tensor: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def size_bytes(self) -> int:
        """Bytes of the content."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass(frozen=True)
class RecordedStep:
    """One of torch's own operators, run for an operation.

    reads, writes     values; each value is written by one step
    reads_only_shape  of what it reads, only the shape and type matter (zeros_like)
    is_random         draws random numbers
    is_stateful       changes a tensor that was there before the forward (running statistics), or mixes the batch
    needs_data        gives Python something that depends on the data (a number, a data-dependent shape)
    is_cheap          moves, compares or combines elements; no product, no convolution, no sort
    flops             multiply-adds × 2 of its products and convolutions
    """

    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    reads_only_shape: bool = False
    is_random: bool = False
    is_stateful: bool = False
    needs_data: bool = False
    is_cheap: bool = True
    flops: int = 0

    @property
    def needs(self) -> tuple[int, ...]:
        """The values whose content it needs."""
        return () if self.reads_only_shape else self.reads


@dataclass(frozen=True)
class RecordedOperation:
    """One operation as the forward wrote it.

    name            of the function: "cat", "relu", "add"
    call            index of the call whose forward ran it
    ordinal         how many functions of this name that call had run before; -1 when no function of torch's was called
    arguments       values of the tensors that it was given
    outputs         what it gave: the nested structure with Slots for tensors
    changes         for an argument changed in place: the value before → the value after
    steps           what torch ran for it; none where it gave back its argument as it was
    gives_python    the function itself gives Python a value made of the data (`item`, `tolist`)
    plain, numbers  its arguments that are no tensors, see `operators.plain_arguments`
    """

    index: int
    name: str
    call: int
    ordinal: int
    arguments: tuple[int, ...] = ()
    outputs: object = None
    changes: Mapping[int, int] = field(default_factory=dict)
    steps: tuple[RecordedStep, ...] = ()
    gives_python: bool = False
    plain: str = ""
    numbers: tuple[int, ...] = ()

    @cached_property
    def writes(self) -> list[int]:
        """Every value that it wrote."""
        return [value for step in self.steps for value in step.writes]

    @cached_property
    def inputs(self) -> list[int]:
        """Every value whose content it needs and that it did not write itself."""
        own = set(self.writes)
        read = [value for step in self.steps for value in step.needs if value not in own]
        return [*read, *self.arguments] if self.needs_data else read

    @cached_property
    def is_random(self) -> bool:
        """Whether it draws random numbers."""
        return any(step.is_random for step in self.steps)

    @cached_property
    def is_stateful(self) -> bool:
        """Whether it changes a tensor that was there before the forward, or mixes the batch."""
        return any(step.is_stateful for step in self.steps)

    @cached_property
    def needs_data(self) -> bool:
        """Whether it gives Python something that depends on the data."""
        return self.gives_python or any(step.needs_data for step in self.steps)

    @cached_property
    def is_cheap(self) -> bool:
        """Whether repeating it in every step costs next to nothing."""
        return all(step.is_cheap for step in self.steps)

    @cached_property
    def flops(self) -> int:
        """Multiply-adds × 2 of its products and convolutions."""
        return sum(step.flops for step in self.steps)


Step, Operation = RecordedStep, RecordedOperation  # their names in trunks that were pickled by earlier versions


@dataclass(frozen=True)
class Call:
    """One run of a module's forward.

    name              the module's name in the model, "" for the model itself
    ordinal           how many runs of this module came before
    parent            index of the call in which it ran; -1 for the model's own
    arguments         values of the tensors that it was given
    output            what it gave: the nested structure with Slots for tensors
    has_side_effects  it left more behind than its output shows: attributes set, arguments filled, or a function given
    """

    index: int
    name: str
    ordinal: int
    parent: int
    arguments: tuple[int, ...] = ()
    output: object = None
    has_side_effects: bool = False


@dataclass(frozen=True)
class Slot(Placeholder):
    """Stands for a tensor in a recorded structure."""

    value: int


@dataclass(frozen=True)
class Record:
    """One forward: values, operations and calls in the order of time.

    inputs        the structure of (args, kwargs) with Slots for tensors
    python_draws  where a forward drew random numbers of Python or NumPy: (call, number of operations before)
    """

    values: tuple[Value, ...] = ()
    operations: tuple[RecordedOperation, ...] = ()
    calls: tuple[Call, ...] = ()
    inputs: tuple[tuple[object, ...], dict[str, object]] = ((), {})
    python_draws: tuple[tuple[int, int], ...] = ()

    @cached_property
    def children(self) -> dict[int, list[int]]:
        """Call → the calls that its own forward made, in order; -1 for none's."""
        children: dict[int, list[int]] = {}
        for call in self.calls:
            children.setdefault(call.parent, []).append(call.index)
        return children

    @cached_property
    def computing_operations(self) -> list[RecordedOperation]:
        """The operations that did more than give back an argument."""
        return [operation for operation in self.operations if operation.steps or operation.gives_python]

    @cached_property
    def trainable_values(self) -> frozenset[int]:
        """The values of the trainable parameters."""
        return frozenset(value.index for value in self.values if value.is_trainable)

    @cached_property
    def input_values(self) -> frozenset[int]:
        """The values of the inputs."""
        return frozenset(value.index for value in self.values if value.kind == "input")

    def work_of(self, operations: Iterable[RecordedOperation]) -> float:
        """Floating-point operations of these, roughly; infinite where torch's formulas miss the costly ones."""
        work = 0.0
        for operation in operations:
            elements = sum(math.prod(self.values[value].shape) for value in operation.writes)
            work += operation.flops + OPERATIONS_OF_AN_ELEMENT * elements
            if any(word in operation.name for word in _NOT_COUNTED):
                return math.inf
        return work

    def computed_from(self, value: int) -> list[int]:
        """The values from which a value was computed directly."""
        base, operation = self.values[value].base, self.values[value].operation
        return [*([base] if base >= 0 else []), *(self.operations[operation].inputs if operation >= 0 else [])]

    def with_parents(self, call: int) -> Iterator[int]:
        """The call and all calls in which it ran, from the inside out."""
        while call >= 0:
            yield call
            call = self.calls[call].parent

    def layer_of(self, operation: RecordedOperation) -> str:
        """The name of the module whose forward ran the operation; "" for the model itself."""
        return self.calls[operation.call].name


def values_in(structure: object) -> list[int]:
    """The values of all Slots of a recorded structure, in order."""
    return [slot.value for slot in find_in(structure, Slot)]
