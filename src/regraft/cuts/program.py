"""The program of a split: the chosen cut of a recorded forward, as tables by which trunk and head run.

The user's own forward runs in both. A skipped call gives its leaf, or a stub: a tensor with shape and type and no data.
Nothing here changes after it is made: neither a run of the trunk nor one of the head is seen by the next.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from regraft.cuts.arguments import by_name
from regraft.cuts.batches import Batch, dense_strides
from regraft.cuts.choosing import Choice
from regraft.cuts.record import Record, RecordedOperation, Value, values_in
from regraft.cuts.sizes import ROWS, Size, Sizes, Symbols
from regraft.errors import SplitError
from regraft.tensors.trees import NUMBERS, find_in

Features = dict[str, Tensor]
Layout = tuple[tuple[int, ...], tuple[int, ...]]  # a tensor's shape and strides
MEMO = 128  # batches of different shapes whose sizes are remembered


@dataclass(frozen=True)
class RowLayout:
    """Where the examples lie in a leaf: turns it into rows, one for each example, and back.

    axis    the dimension along which they lie
    each    how many consecutive positions along it belong to one example (windows, heads); 0 where a length decides it
    layout  of the tensor that the forward handed on
    """

    axis: int
    each: int
    layout: Layout

    def to_rows(self, tensor: Tensor, rows: int | None) -> Tensor:
        """The leaf with one row per example, in front; `rows` is the number of examples."""
        if self.each != 1:
            parts = (-1, self.each) if self.each else (rows or 1, -1)
            tensor = torch.unflatten(tensor, self.axis, parts)
        return tensor.movedim(self.axis, 0)

    def from_rows(self, rows: Tensor) -> Tensor:
        """The tensor that the forward handed on, in the same memory order: kernels may round by it."""
        _, stride = self.layout
        if self.axis == 0 and self.each == 1 and rows.stride() == stride:
            return rows
        tensor = rows.movedim(0, self.axis)
        if self.each != 1:
            tensor = tensor.flatten(self.axis, self.axis + 1)
        wanted = _recorded_stride(tuple(tensor.shape), self.layout) or dense_strides(tuple(tensor.shape), stride)
        if tensor.stride() == wanted:
            return tensor
        return torch.empty_strided(tensor.shape, wanted, dtype=tensor.dtype, device=tensor.device).copy_(tensor)


LeafRows = RowLayout  # its name in trunks that were pickled by earlier versions


@dataclass(frozen=True)
class Guards:
    """What the proof of a program has shown: in what later batches may differ from the example.

    assumed      lengths that the head takes from the example, since no leaf gives them
    free         those of them that are proven to make no difference
    reads_plain  whether the head looks at arguments that are no tensors: they have to be the example's
    unfilled     classes of objects in the outputs to which skipped layers add what the head lacks
    """

    assumed: frozenset[str] = frozenset()
    free: frozenset[str] = frozenset()
    reads_plain: bool = True
    unfilled: tuple[type, ...] = ()

    def joined(self, other: "Guards") -> "Guards":
        """What two proofs of a program have shown."""
        unfilled = tuple(dict.fromkeys(self.unfilled + other.unfilled))
        return replace(self, assumed=self.assumed | other.assumed, unfilled=unfilled)


class BatchSizes:
    """The sizes of one batch that the head sees, from the shapes of its leaves.

    symbols  its rows and lengths; None for what the leaves do not give
    assumed  the same, with the example's in the place of None
    """

    def __init__(self, record: Record, sizes: Sizes, symbols: Symbols) -> None:
        self.record, self.sizes, self.symbols = record, sizes, symbols
        self.assumed = {**sizes.example, **{symbol: size for symbol, size in symbols.items() if size is not None}}
        self._forms: dict[int, tuple[Layout, bool]] = {}  # every step of a head asks for many

    def unknown(self, symbols: set[str]) -> set[str]:
        """Those of the symbols that the leaves do not give."""
        return {symbol for symbol in symbols if self.symbols.get(symbol) is None}

    def form_of(self, value: Value) -> tuple[Layout, bool]:
        """Shape and strides of a value in this batch, and whether they are certain; else they are the example's."""
        if value.index not in self._forms:
            certain = self.sizes.shape(self.record, value.index, self.symbols)
            shape = certain if certain is not None else self.sizes.shape(self.record, value.index, self.assumed)
            shape = value.shape if shape is None else shape
            self._forms[value.index] = (shape, _strides(shape, value)), certain is not None
        return self._forms[value.index]


@dataclass(frozen=True, eq=False)
class Program:
    """A recorded forward with a choice of where to cut it.

    is_training  the mode in which it was recorded and runs
    batch        the example
    layouts      leaf value → how the trunk's run on the example laid it out in memory. Not as recorded: a forward that
                 is watched takes other kernels (nn.MultiheadAttention does)
    """

    model: nn.Module
    is_training: bool
    record: Record
    sizes: Sizes
    choice: Choice
    batch: Batch
    layouts: Mapping[int, Layout] = field(default_factory=dict)
    _batch_sizes: dict[object, BatchSizes] = field(default_factory=dict, init=False, repr=False)

    @property
    def leaves(self) -> Mapping[str, int]:
        """Leaf name → value."""
        return self.choice.leaves

    @cached_property
    def leaf_names(self) -> dict[int, list[str]]:
        """Value → the names of its leaves: one that crosses as it is may cross averaged, too."""
        names: dict[int, list[str]] = {}
        for name, value in self.leaves.items():
            names.setdefault(value, []).append(name)
        return names

    @cached_property
    def by_row(self) -> bool:
        """Whether each leaf has one row per example."""
        return not self.choice.whole and all(self.sizes.rows(value) is not None for value in self.leaves.values())

    @cached_property
    def leaf_rows(self) -> dict[int, RowLayout]:
        """Leaf value → where its rows are; empty where the features hold for a batch as a whole."""
        row_axes = {value: self.sizes.rows(value) for value in self.leaves.values()} if self.by_row else {}
        recorded = {value: (self.record.values[value].shape, self.record.values[value].stride) for value in row_axes}
        layouts = {**recorded, **self.layouts}
        return {value: RowLayout(*axes, layouts[value]) for value, axes in row_axes.items() if axes is not None}

    @cached_property
    def overwritten(self) -> set[int]:
        """The leaves into whose memory the forward writes later."""
        values = self.record.values
        writes = [value for operation in self.record.operations for value in operation.changes.values()]
        return {
            leaf
            for leaf in self.leaves.values()
            if any(write > leaf and values[write].storage == values[leaf].storage for write in writes)
        }

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """The model's modules by name."""
        return dict(self.model.named_modules())

    @cached_property
    def recorded_arguments(self) -> dict[str, object]:
        """The example's arguments by name, with Slots for tensors."""
        return by_name(self.model, *self.record.inputs)

    # What the trunk runs by.

    @cached_property
    def called(self) -> list[str]:
        """The names of the modules that were called."""
        return list(dict.fromkeys(call.name for call in self.record.calls))

    @cached_property
    def given_by_calls(self) -> dict[int, list[tuple[int, str]]]:
        """Skipped call → (position among the tensors of its output, leaf name) of each leaf that it gives."""
        given = {}
        for index in self.choice.skipped:
            values = enumerate(values_in(self.output_of(index)))
            leaves = [(position, name) for position, value in values for name in self.leaf_names.get(value, ())]
            if leaves:
                given[index] = leaves
        return given

    @cached_property
    def given_by_operations(self) -> dict[tuple[int, str, int], list[tuple[int, str]]]:
        """(call, function, ordinal) → (position in its result, leaf name), for leaves that no skipped call gives."""
        by_calls = {name for leaves in self.given_by_calls.values() for _, name in leaves}
        given: dict[tuple[int, str, int], list[tuple[int, str]]] = {}
        for name, index in self.leaves.items():
            value = self.record.values[index]
            if name not in by_calls and value.kind != "input":
                operation = self.record.operations[value.operation]
                position = values_in(operation.outputs).index(index)
                key = (operation.call, operation.name, operation.ordinal)
                given.setdefault(key, []).append((position, name))
        return given

    @cached_property
    def numbers(self) -> dict[int, list[object]]:
        """Skipped call → the plain numbers of its output, and Sizes for those that grow."""
        kinds: tuple[type, ...] = (*NUMBERS, Size)
        return {index: list(find_in(self.output_of(index), kinds)) for index in self.choice.skipped}

    # What the head runs by.

    @cached_property
    def calls_in_head(self) -> dict[str, list[int]]:
        """Module → its calls that the head reaches, in order; only modules of which one call is skipped."""
        calls: dict[str, list[int]] = {}
        for call in self.record.calls:
            if call.parent < 0 or call.parent in self.choice.opened:
                calls.setdefault(call.name, []).append(call.index)
        return {name: indices for name, indices in calls.items() if not self.choice.skipped.isdisjoint(indices)}

    @cached_property
    def stub_operations(self) -> dict[tuple[str, tuple[int, ...]], list[RecordedOperation]]:
        """(function, values of its stubs) → the operations of opened calls that have a stub among their arguments."""
        operations: dict[tuple[str, tuple[int, ...]], list[RecordedOperation]] = {}
        for operation in self.record.operations:
            stubs = tuple(value for value in operation.arguments if value not in self._held)
            if operation.call in self.choice.opened and stubs:
                operations.setdefault((operation.name, stubs), []).append(operation)
        return operations

    @cached_property
    def _held(self) -> set[int]:
        """The values that the head holds with data."""
        record, kinds = self.record, ("parameter", "buffer", "constant")
        held = {value.index for value in record.values if value.kind in kinds} | set(self.leaves.values())
        held |= {value for index in self.choice.repeated for value in record.operations[index].writes}
        held |= {value.index for value in record.values if value.base in held}
        for operation in record.operations:
            # An operation of an opened call on nothing but real tensors runs as it is, needed or not.
            if operation.call in self.choice.opened and held.issuperset(operation.arguments):
                held.update(operation.writes)
        return held

    def output_of(self, call: int) -> object:
        """What a call gave, with Slots for tensors and Sizes for numbers that grow."""
        return self.sizes.outputs[call]

    def sizes_of(self, leaves: Mapping[int, Tensor], rows: int | None) -> BatchSizes:
        """The sizes of a batch of so many rows with these leaves."""
        key = (rows, *(leaf.shape for leaf in leaves.values()))
        if key not in self._batch_sizes:  # a head runs thousands of steps on batches of one shape
            if len(self._batch_sizes) >= MEMO:
                self._batch_sizes.clear()
            self._batch_sizes[key] = BatchSizes(self.record, self.sizes, self._symbols_of(leaves, rows))
        return self._batch_sizes[key]

    def _symbols_of(self, leaves: Mapping[int, Tensor], rows: int | None) -> Symbols:
        """The lengths that these leaves of so many rows give; None for what they do not give."""
        example = self.sizes.example
        if rows in (None, example[ROWS]) and self._give_the_example(leaves):
            return example
        symbols: dict[str, int | None] = {**dict.fromkeys(example), ROWS: rows}
        for size, length in self._varying_sizes(leaves):
            solved = size.solved(length, symbols)
            if solved is not None and symbols[solved[0]] is None:
                symbols[solved[0]] = solved[1]
        if self.by_row:
            self._refuse_other_shapes(leaves, symbols)
        return symbols

    def _give_the_example(self, leaves: Mapping[int, Tensor]) -> bool:
        """Whether these are the example's shapes, and all lengths can be read from them."""
        values = self.record.values
        return self._gives_all(leaves) and all(leaf.shape == values[index].shape for index, leaf in leaves.items())

    def _refuse_other_shapes(self, leaves: Mapping[int, Tensor], symbols: Symbols) -> None:
        for index, leaf in leaves.items():
            expected = self.sizes.shape(self.record, index, symbols)
            if expected not in (None, tuple(leaf.shape)):
                raise SplitError(
                    f"{self.leaf_names[index][0]} has the shape {tuple(leaf.shape)}; with the other features it would "
                    f"be {expected}.\nCompute the features with the trunk of the same split."
                )

    def _varying_sizes(self, leaves: Mapping[int, Tensor]) -> Iterator[tuple[Size, int]]:
        """The sizes of the leaves' dimensions that vary, and what they are now."""
        for index, leaf in leaves.items():
            for size, length in zip(self.sizes.shapes[index], leaf.shape, strict=True):
                if isinstance(size, Size):
                    yield size, length

    def _gives_all(self, leaves: Mapping[int, Tensor]) -> bool:
        """Whether each length can be read from a leaf; what none depends on stays open even in the example's sizes."""
        sizes = [size for size, _ in self._varying_sizes(leaves)]
        given = {symbol for size in sizes for symbol in (*dict(size.slopes), *size.times)}
        return not leaves or given | {ROWS} >= self.sizes.example.keys()

    def row_shapes(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, tuple[int | None, ...]]:
        """The shape of a row of each leaf for these arguments; None for a size that grows in no straight line."""
        symbols = self.batch.measured(args, kwargs)
        shapes = {}
        for name, value in self.leaves.items() if self.by_row else ():
            rows, sizes = self.leaf_rows[value], self.sizes.known_sizes(value, symbols) or []
            sizes[rows.axis : rows.axis + 1] = [rows.each] if rows.each > 1 else []
            mean = self.choice.means.get(name)
            shapes[name] = tuple(sizes if mean is None else mean.kept(sizes))
        return shapes

    def renamed(self, leaf: str, name: str) -> "Program":
        """The same program with another name for a leaf."""
        leaves = {name if old == leaf else old: value for old, value in self.leaves.items()}
        means = {name if old == leaf else old: mean for old, mean in self.choice.means.items()}
        return replace(self, choice=replace(self.choice, leaves=leaves, means=means))

    def name_of(self, value: int) -> str:
        """Which layer or function gave a value."""
        recorded = self.record.values[value]
        if recorded.kind == "input":
            return f"the input {recorded.name}"
        if recorded.operation < 0:
            return recorded.name or "a tensor made in the forward"
        operation = self.record.operations[recorded.operation]
        return self.record.layer_of(operation) or operation.name


def another_path(name: str) -> SplitError:
    """The error for a forward that does not call its layers as it did on the example."""
    return SplitError(
        f"{name or 'The model'} is not called as it was on the example: the forward takes another path for this batch."
        "\nSplit again on such a batch, or train without cached features."
    )


def _recorded_stride(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """The strides of the recorded tensor where they fit this one: rows of the same shape, in front; else empty."""
    recorded, stride = layout
    fits = shape[1:] == recorded[1:] and stride and stride[0] == max(stride) and 0 not in stride
    return stride if fits else ()


def _strides(shape: tuple[int, ...], value: Value) -> tuple[int, ...]:
    """Strides for a stub: the recorded ones, or, for other sizes, those of the same order of dimensions."""
    if shape == value.shape and len(value.stride) == len(shape):
        return value.stride
    if not value.stride:  # a sparse tensor has none
        return torch.empty(shape, device="meta").stride()
    return dense_strides(shape, value.stride, keep_zeros=True)
