"""One run of the head: the model's own forward, in which skipped calls give leaves or stubs."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from regraft.cuts.operators import function_name
from regraft.cuts.placeholders import MissingDataError, Stub, Unfilled, hollow
from regraft.cuts.record import Operation, Slot
from regraft.cuts.recording import shadowed_forwards
from regraft.cuts.replay_trunk import other_order
from regraft.cuts.sizes import Size
from regraft.errors import SplitError
from regraft.tensors.trees import map_tree, tensors_of

if TYPE_CHECKING:
    from regraft.cuts.replay import Replay


class HeadRun:
    """One run of the head of a `Replay`."""

    def __init__(self, replay: "Replay", features: Mapping[str, Tensor]) -> None:
        self.replay = replay
        self.leaves = {value: replay.leaf(value, features[name]) for name, value in replay.choice.leaves.items()}
        rows = {features[name].shape[0] for name in replay.choice.leaves} if replay.by_row else set()
        self.symbols = replay.symbols_of(self.leaves, rows.pop() if len(rows) == 1 else None)
        self.forms = replay.forms.setdefault(tuple(self.symbols.values()), {})
        self.counts: dict[tuple, int] = {}

    @property
    def assumed(self) -> dict[str, int]:
        """The lengths, the example's where the features do not tell them."""
        known = {symbol: size for symbol, size in self.symbols.items() if size is not None}
        return self.replay.sizes.example | known

    def run(self, given: Callable[[Any], Any]) -> Any:
        """Run the model's forward, on its arguments as `given` makes them, with the skipped modules shadowed."""
        replay = self.replay
        if 0 in replay.choice.skipped:
            return self.fill(replay.record.calls[0].output)
        progress = dict.fromkeys(replay.outputs, 0)
        args, kwargs = given(self.fill(replay.record.inputs))
        with shadowed_forwards(self.shadows(progress)):
            result = replay.model(*args, **kwargs)
        for name, waiting in replay.outputs.items():
            if progress[name] < len(waiting):
                raise other_order(name)
        return map_tree(Unfilled, result, kind=tuple(replay.unfilled)) if replay.unfilled else result

    def shadows(self, progress: dict[str, int]) -> dict[nn.Module, Callable]:
        """For each module with skipped calls what it runs instead; `progress` counts its calls."""
        return {self.replay.modules[name]: self.shadow(name, progress) for name in self.replay.outputs}

    def shadow(self, name: str, progress: dict[str, int]) -> Callable:
        """The forward of a module with skipped calls: gives what the call gave in the recording."""
        waiting, forward = self.replay.outputs[name], self.replay.modules[name].forward

        def give(*args: Any, **kwargs: Any) -> Any:
            position = progress[name]
            progress[name] = position + 1
            if position >= len(waiting):
                raise other_order(name)
            if waiting[position] is None:
                return forward(*args, **kwargs)
            return self.fill(waiting[position][0])

        return give

    def fill(self, structure: Any) -> Any:
        """The recorded structure with leaves and stubs in the place of Slots, and numbers in the place of Sizes."""
        if isinstance(structure, Slot):
            return self.tensor(structure)
        return map_tree(self.filled, structure, kind=(Slot, Size))

    def filled(self, place: Any) -> Any:
        """What stands in the place of a Slot or a Size."""
        if isinstance(place, Slot):
            return self.tensor(place)
        size = place.at(self.symbols)
        if size is None:
            self.replay.fixed |= {symbol for symbol in place.symbols if self.symbols.get(symbol) is None}
            size = place.at(self.assumed)
            if size is None:
                raise SplitError(
                    "A skipped layer gives a number that cannot be told for other lengths than the example's."
                    "\nPad all batches to the same length."
                )
        return size

    def tensor(self, slot: Slot) -> Tensor:
        """The leaf, copied when the head writes into it; else a stub."""
        leaf = self.leaves.get(slot.value)
        if leaf is not None:
            return leaf.clone() if slot.value in self.replay.overwritten else leaf
        value = self.replay.record.values[slot.value]
        if value.kind in ("parameter", "buffer"):
            getter = self.replay.model.get_parameter if value.kind == "parameter" else self.replay.model.get_buffer
            return getter(value.name)
        form, is_certain = self.form_of(slot.value)
        stub = Stub(*form)
        stub.value, stub.run, stub.is_certain = slot.value, self, is_certain
        return stub

    def form_of(self, value: int) -> tuple[tuple, bool]:
        """Shape, strides, type and device of a stub, and whether the shape is known; every step asks for many."""
        if value not in self.forms:
            recorded = self.replay.record.values[value]
            certain = self.replay.shape_of(value, self.symbols)
            shape = certain if certain is not None else self.replay.shape_of(value, self.assumed) or recorded.shape
            form = (shape, _strides(shape, recorded), recorded.dtype, recorded.device)
            self.forms[value] = form, certain is not None
        return self.forms[value]

    def asked_for_size(self, stub: Stub) -> None:
        """A size is wanted that the features do not tell: the example's is given when the trunk can see to it."""
        shape = self.replay.sizes.shapes.get(stub.value, (None,))
        unknown = {
            symbol for size in shape if isinstance(size, Size) for symbol in size.symbols
            if self.symbols.get(symbol) is None
        }  # fmt: skip
        if None in shape or not unknown:
            name = self.replay.name_of(stub.value)
            raise SplitError(
                f"The head asks for the size of {name}, which for this batch cannot be told from the features: it does "
                "not grow in proportion to the batch.\nUse batches of the example's sizes, or train without cached "
                "features."
            )
        self.replay.fixed |= unknown
        # No shape was made up: all that is unknown has the example's size, and the trunk refuses others from now on.
        stub.is_certain = True

    def operate(self, func: Any, stubs: list[Stub], args: tuple, kwargs: dict[str, Any]) -> Any:
        """What an operation on stubs gives: what it gave in the recording, as leaves and stubs."""
        name = function_name(func)
        key = (name, tuple(dict.fromkeys(stub.value for stub in stubs)))
        known = self.replay.operations.get(key)
        if known is None:
            raise self.no_data(stubs, func)
        position = self.counts.get(key, 0)
        self.counts[key] = position + 1
        if position >= len(known):
            raise self.no_data(stubs, func)
        operation = known[position]
        if operation.index in self.replay.choice.repeated:
            return func(*map_tree(hollow, args), **map_tree(hollow, kwargs))
        self.hollow_out(operation, tensors_of((args, kwargs)))
        stubs = [tensor for tensor in tensors_of((args, kwargs)) if isinstance(tensor, Stub)]
        before = {stub: stub.value for stub in stubs}
        for stub in stubs:
            stub.value = operation.changes.get(stub.value, stub.value)
        changed = {stub.value: stub for stub, value in before.items() if stub.value != value}

        def give(slot: Slot) -> Tensor:
            return changed[slot.value] if slot.value in changed else self.tensor(slot)

        return map_tree(give, operation.outputs, kind=Slot)

    def hollow_out(self, operation: Operation, given: list[Tensor]) -> None:
        """Make stubs of the tensors with data (buffers made in the forward) that this operation would have filled."""
        if len(given) != len(operation.arguments):
            return
        for tensor, value in zip(given, operation.arguments, strict=True):
            if value in operation.changes and not isinstance(tensor, Stub):
                tensor.__class__ = Stub
                tensor.value, tensor.run, tensor.is_certain = value, self, True  # type: ignore[attr-defined]

    def no_data(self, stubs: list[Stub], func: Any) -> MissingDataError:
        """The error for an operation that needs what the features do not hold."""
        names = ", ".join(dict.fromkeys(self.replay.name_of(stub.value) for stub in stubs))
        return MissingDataError(
            f"{function_name(func)} asks for the data of {names}, a frozen result that the features do not hold: the "
            "forward takes another way than on the example.\nSplit with an example that takes the same way, or train "
            "without cached features.",
            tuple(stub.value for stub in stubs),
        )


def _strides(shape: tuple[int, ...], value: Any) -> tuple[int, ...]:
    """Strides for a stub: the recorded ones, or, for other sizes, those of the same order of dimensions."""
    if shape == value.shape and len(value.stride) == len(shape):
        return value.stride
    if not value.stride:  # a sparse tensor has none
        return torch.empty(shape, device="meta").stride()
    order = sorted(range(len(shape)), key=lambda axis: (-value.stride[axis], axis))
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = step if value.stride[axis] else 0
        step *= max(1, shape[axis]) if value.stride[axis] else 1
    return tuple(strides)
