"""What a recorded forward is made of: values, operations and calls, in the order of time.

A *value* is a tensor's content at a moment: views of one storage share it, an in-place operation starts a new one. An
*operation* is what the user's forward wrote (`torch.cat`, `F.interpolate`, `x + y`); what torch ran for it tells what
was truly read and written. A *call* is one run of a module's forward.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from regraft.tensors.trees import Placeholder, find_in


@dataclass
class Value:
    """A tensor's content at a moment.

    kind         "input", "parameter", "buffer", "constant", "result" of an operation, or "view" of `sources`
    name         of an input, parameter or buffer
    operation    index of the operation that wrote it, -1 if none did
    sources      for a view: the values whose storage it looks at
    is_trainable for a parameter
    storage      whose memory it lies in
    tensor       itself, of a constant: a tensor that was there and is neither parameter nor buffer
    """

    index: int
    kind: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    name: str = ""
    operation: int = -1
    sources: tuple[int, ...] = ()
    is_trainable: bool = False
    storage: int = 0
    tensor: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def size_bytes(self) -> int:
        """Bytes of the content."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass
class Operation:
    """One operation as the forward wrote it.

    name          of the function: "cat", "relu", "add"
    call          index of the call whose forward ran it
    ordinal       how many functions of this name that call had run before; -1 when no function of torch's was called
    arguments     values of the tensors that it was given
    outputs       what it gave: the nested structure with Slots for tensors
    changes       for an argument changed in place: the value before → the value after
    steps         for each of torch's own operators that it ran: what was read, what was written, whether of what was
                  read only the shape and type mattered (zeros_like)
    is_random     draws random numbers
    is_stateful   changes a tensor that was there before the forward (running statistics), or mixes the batch
    needs_data    gives Python something that depends on the data (a number, a data-dependent shape)
    is_cheap      moves, compares or combines elements; no product, no convolution, no sort
    is_decided    whether it runs at all was decided by trainable or random data
    flops         multiply-adds × 2 of its products and convolutions
    plain         its arguments that are no tensors, see `computation.plain_arguments`
    """

    index: int
    name: str
    call: int
    ordinal: int
    arguments: tuple[int, ...] = ()
    outputs: Any = None
    changes: dict[int, int] = field(default_factory=dict)
    steps: list[tuple[tuple[int, ...], tuple[int, ...], bool]] = field(default_factory=list)
    is_random: bool = False
    is_stateful: bool = False
    needs_data: bool = False
    is_cheap: bool = True
    is_decided: bool = False
    flops: int = 0
    plain: str = ""

    @property
    def writes(self) -> list[int]:
        """Every value that it wrote."""
        return [value for _, written, _ in self.steps for value in written]

    def as_given(self, reads: tuple[int, ...], values: list[Value]) -> tuple[int, ...]:
        """The reads, with the operation's own argument in the place of another view of the argument's storage."""
        given = {values[argument].storage: argument for argument in self.arguments}
        own = set(self.writes)
        return tuple(r if r in own or r in self.arguments else given.get(values[r].storage, r) for r in reads)

    @property
    def inputs(self) -> list[int]:
        """Every value whose content it needs and that it did not write itself."""
        own = set(self.writes)
        read = [value for reads, _, only_shape in self.steps for value in reads if not only_shape and value not in own]
        return [*read, *self.arguments] if self.needs_data else read


@dataclass
class Call:
    """One run of a module's forward.

    name        the module's name in the model, "" for the model itself
    ordinal     how many runs of this module came before
    parent      index of the call in which it ran; -1 for the model's own
    arguments   values of the tensors that it was given
    output      what it gave: the nested structure with Slots for tensors
    operations  indices of the operations that its own forward ran (not those of modules below)
    has_traces  it left more behind than its output shows: attributes set, arguments filled, or a function given
    """

    index: int
    name: str
    ordinal: int
    parent: int
    arguments: tuple[int, ...] = ()
    output: Any = None
    operations: list[int] = field(default_factory=list)
    has_traces: bool = False


@dataclass(frozen=True)
class Slot(Placeholder):
    """Stands for a tensor in a recorded structure."""

    value: int


@dataclass
class Record:
    """One forward: values, operations and calls in the order of time; the inputs with Slots for tensors.

    draws  where a forward drew random numbers that are not torch's (Python's, NumPy's): (call, operations before)
    """

    values: list[Value] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    inputs: Any = None
    draws: list[tuple[int, int]] = field(default_factory=list)

    def children(self) -> dict[int, list[int]]:
        """Call → the calls that its own forward made, in order; -1 for none's."""
        found: dict[int, list[int]] = {}
        for call in self.calls:
            found.setdefault(call.parent, []).append(call.index)
        return found


def slots_of(structure: Any) -> list[Slot]:
    """All Slots of a recorded structure, in order."""
    return list(find_in(structure, Slot))
