"""One run of the head: the model's own forward, in which skipped calls give leaves or stubs."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import cast

from torch import Tensor, nn

from regraft.cuts.batches import Arguments
from regraft.cuts.operators import function_name
from regraft.cuts.placeholders import MissingDataError, Stub, StubOwner, Unfilled, hollow
from regraft.cuts.program import Guards, Program, another_path
from regraft.cuts.record import RecordedOperation, Slot
from regraft.cuts.sizes import Size
from regraft.errors import SplitError
from regraft.tensors.keeping import Forward, shadowed_forwards
from regraft.tensors.trees import T, find_in, map_tree, tensors_of


def run_head(program: Program, guards: Guards, features: Mapping[str, Tensor]) -> object:
    """The model's output from the features."""
    output = HeadRun(program, features, assumable=guards.assumed).run()
    return map_tree(Unfilled, output, kind=guards.unfilled) if guards.unfilled else output


def _refuse_missing(leaves: Iterable[str], features: Mapping[str, Tensor]) -> None:
    missing = [name for name in leaves if name not in features]
    if missing:
        raise SplitError(
            f"The features lack {', '.join(missing)}; they hold {', '.join(features) or 'nothing'}.\n"
            "Compute them with the trunk of the same split."
        )


class HeadRun(StubOwner):
    """One run of the head of a program.

    assumable        lengths that may be taken from the example where the features do not give them; None for any
    assumed_lengths  those that were taken so far
    """

    def __init__(
        self, program: Program, features: Mapping[str, Tensor], *, assumable: Collection[str] | None = None
    ) -> None:
        _refuse_missing(program.leaves, features)
        self.program, self.assumable = program, assumable
        self.assumed_lengths: set[str] = set()
        places = program.leaf_rows
        self.leaves = {
            value: places[value].from_rows(features[name]) if value in places else features[name]
            for name, value in program.leaves.items()
        }
        rows = {features[name].shape[0] for name in program.leaves} if program.by_row else set()
        self.sizes = program.sizes_of(self.leaves, rows.pop() if len(rows) == 1 else None)
        self.counts: dict[tuple[str, tuple[int, ...]], int] = {}

    def run(self, given: Callable[[Arguments], Arguments] = lambda arguments: arguments) -> object:
        """Run the model's forward, on its arguments as `given` makes them, with the skipped modules shadowed."""
        program = self.program
        if 0 in program.choice.skipped:
            return self.fill(program.output_of(0))
        progress = dict.fromkeys(program.calls_in_head, 0)
        args, kwargs = given(self.fill(program.record.inputs))
        with shadowed_forwards(self.shadows(progress)):
            output: object = program.model(*args, **kwargs)
        for name, calls in program.calls_in_head.items():
            if progress[name] < len(calls):
                raise another_path(name)
        return output

    def shadows(self, progress: dict[str, int]) -> dict[nn.Module, Forward]:
        """For each module with skipped calls what it runs instead; `progress` counts its calls."""
        return {self.program.modules[name]: self.shadow(name, progress) for name in progress}

    def shadow(self, name: str, progress: dict[str, int]) -> Forward:
        """The forward of a module with skipped calls: gives what the call gave in the recording."""
        program = self.program
        calls, forward = program.calls_in_head[name], program.modules[name].forward

        def give(*args: object, **kwargs: object) -> object:
            position = progress[name]
            progress[name] = position + 1
            if position >= len(calls):
                raise another_path(name)
            if calls[position] not in program.choice.skipped:
                return forward(*args, **kwargs)
            return self.fill(program.output_of(calls[position]))

        return give

    def fill(self, structure: T) -> T:
        """The recorded structure with leaves and stubs in the place of Slots, and numbers in the place of Sizes."""
        if isinstance(structure, Slot):
            return cast(T, self.tensor(structure))
        return map_tree(self._filled, structure, kind=(Slot, Size))

    def _filled(self, placeholder: Slot | Size) -> Tensor | int:
        """What stands in the place of a Slot or a Size."""
        if isinstance(placeholder, Slot):
            return self.tensor(placeholder)
        size = placeholder.at(self.sizes.symbols)
        if size is None:
            self._assume(self.sizes.unknown(placeholder.symbols))
            size = placeholder.at(self.sizes.assumed)
        if size is None:
            raise SplitError(
                "A skipped layer gives a number that is not known for other lengths than the example's."
                "\nPad all batches to the same length."
            )
        return size

    def tensor(self, slot: Slot) -> Tensor:
        """The leaf, copied when the head writes into it; else a stub."""
        leaf = self.leaves.get(slot.value)
        if leaf is not None:
            return leaf.clone() if slot.value in self.program.overwritten else leaf
        value = self.program.record.values[slot.value]
        if value.kind == "parameter":
            return self.program.model.get_parameter(value.name)
        if value.kind == "buffer":
            return self.program.model.get_buffer(value.name)
        (shape, stride), is_certain = self.sizes.form_of(value)
        stub = Stub(shape, stride, value.dtype, value.device)
        stub.value, stub.run, stub.is_certain = slot.value, self, is_certain
        return stub

    def asked_for_size(self, stub: Stub) -> None:
        """A size is wanted that the features do not give: the example's is taken when the trunk can see to it."""
        shape = self.program.sizes.shapes.get(stub.value, (None,))
        symbols = {symbol for size in shape if isinstance(size, Size) for symbol in size.symbols}
        unknown = self.sizes.unknown(symbols)
        if None in shape or not unknown:
            raise SplitError(
                f"The head asks for the size of {self.program.name_of(stub.value)}, which for this batch is not known "
                "from the features: it does not grow in proportion to the batch.\nUse batches of the example's sizes, "
                "or train without cached features."
            )
        self._assume(unknown)
        # No shape was made up: all that is unknown has the example's size, and the trunk refuses others.
        stub.is_certain = True

    def _assume(self, symbols: set[str]) -> None:
        """Take these lengths from the example; refused where the proof did not see it, for the trunk lets them vary."""
        if self.assumable is not None and not symbols <= set(self.assumable):
            raise SplitError(
                f"The head asks for the {', '.join(sorted(symbols))} of this batch, which the features do not give and "
                "which it did not need on the example.\nUse batches of the example's sizes, or train without cached "
                "features."
            )
        self.assumed_lengths |= symbols

    def operate(
        self, func: Forward, stubs: list[Stub], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> object:
        """What an operation on stubs gives: what it gave in the recording, as leaves and stubs."""
        key = (function_name(func), tuple(dict.fromkeys(stub.value for stub in stubs)))
        recorded = self.program.stub_operations.get(key, [])
        position = self.counts.get(key, 0)
        self.counts[key] = position + 1
        if position >= len(recorded):
            raise self.missing_data(stubs, func)
        operation = recorded[position]
        if operation.index in self.program.choice.repeated:
            return func(*map_tree(hollow, args), **map_tree(hollow, dict(kwargs)))
        self._empty_filled_tensors(operation, tensors_of((args, kwargs)))
        held: dict[int, Tensor] = {}  # what an operation gives back is the same object, which it may have changed
        for stub in find_in((args, kwargs), Stub):
            stub.value = operation.changes.get(stub.value, stub.value)
            held[stub.value] = stub

        def given(slot: Slot) -> Tensor:
            return held[slot.value] if slot.value in held else self.tensor(slot)

        return map_tree(given, operation.outputs, kind=Slot)

    def _empty_filled_tensors(self, operation: RecordedOperation, given: list[Tensor]) -> None:
        """Turn real tensors into stubs that a skipped operation would have filled.

        A forward may make a buffer, `both = torch.empty(...)`, and write a frozen result into it, `both[:] = frozen`.
        The buffer is a real tensor by then, which the forward holds in variables that nobody else can reach, and from
        here on its data is not what the model would have. So the object itself has to become a stub: by its class,
        which takes all later operations to this run. Both classes are plain tensors in memory, so this is sound.
        """
        if len(given) != len(operation.arguments):
            return
        for tensor, value in zip(given, operation.arguments, strict=True):
            if value in operation.changes and not isinstance(tensor, Stub):
                tensor.__class__ = Stub
                stub = cast(Stub, tensor)
                stub.value, stub.run, stub.is_certain = value, self, True

    def missing_data(self, stubs: list[Stub], func: Forward) -> MissingDataError:
        """The error for an operation that needs what the features do not hold."""
        names = ", ".join(dict.fromkeys(self.program.name_of(stub.value) for stub in stubs))
        return MissingDataError(
            f"{function_name(func)} asks for the data of {names}, a frozen result that the features do not hold: the "
            "forward takes another path than on the example.\nSplit again on an example that takes the same path, or "
            "train without cached features.",
            tuple(stub.value for stub in stubs),
        )
