"""How the sizes in a recorded forward grow with the batch and with lengths, learnt from forwards of other sizes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from regraft.cuts.record import Call, Record, RecordedOperation, Value, values_in
from regraft.cuts.shapes import ForwardShapes
from regraft.tensors.trees import NUMBERS, Placeholder, find_in, map_tree, numbers_of

ROWS = "rows"

Symbols = Mapping[str, int | None]  # what varies → how large it is now; None where that is not known


@dataclass(frozen=True)
class Size(Placeholder):
    """A size that is not always the same: constant + slope × symbol, summed over the symbols.

    only_at  symbols in which it grows in no straight line, with the one value for which it is known
    times    or: constant × each of these symbols (examples and positions merged into one dimension)
    """

    constant: int
    slopes: tuple[tuple[str, int], ...]
    only_at: tuple[tuple[str, int], ...] = ()
    times: tuple[str, ...] = ()

    @property
    def symbols(self) -> set[str]:
        """What it depends on."""
        return {symbol for symbol, _ in (*self.slopes, *self.only_at)} | set(self.times)

    @property
    def is_multiple(self) -> bool:
        """Whether it is a multiple of one symbol or a product of several."""
        return bool(self.times) or (self.constant == 0 and len(self.slopes) == 1 and self.slopes[0][1] > 0)

    def at(self, symbols: Symbols) -> int | None:
        """The size for these symbols; None when it is not known."""
        known = {symbol: size for symbol, size in symbols.items() if size is not None}
        if not (self.symbols <= known.keys() and dict(self.only_at).items() <= known.items()):
            return None
        total = self.constant + sum(slope * known[symbol] for symbol, slope in self.slopes)
        return total * math.prod(known[symbol] for symbol in self.times)

    def solved(self, size: int, known: Symbols) -> tuple[str, int] | None:
        """The one symbol that this size gives beside the known ones, and its value; None where it gives none."""
        unknown = [symbol for symbol in self.times if known.get(symbol) is None]
        symbol, slope, constant = "", 0, self.constant
        if len(unknown) == 1:
            symbol, constant = unknown[0], 0
            slope = self.constant * math.prod(known.get(other) or 1 for other in self.times)
        elif len(self.slopes) == 1:
            symbol, slope = self.slopes[0]
        if self.only_at or not slope or (size - constant) % slope:
            return None
        return symbol, (size - constant) // slope


@dataclass(frozen=True)
class Sizes:
    """What is known of the sizes of a record's values.

    example   the symbols of the recorded example
    shapes    value → its shape, with a Size where it varies and None where how it varies is not known
    outputs   call → its output, with a Size in the place of each plain number that grows
    numbers   operation → the whole numbers among its arguments that are the same for every size; None for others
    unstable  calls that give numbers that depend on more than sizes
    """

    example: Mapping[str, int]
    shapes: Mapping[int, tuple[int | Size | None, ...]] = field(default_factory=dict)
    outputs: Mapping[int, object] = field(default_factory=dict)
    numbers: Mapping[int, tuple[int | None, ...]] = field(default_factory=dict)
    unstable: frozenset[int] = frozenset()

    def rows(self, value: int) -> tuple[int, int] | None:
        """(axis, k) where a value has k consecutive rows along `axis` for each example; None where it has not.

        k is 0 where a length decides it.
        """
        varying = [(axis, size) for axis, size in enumerate(self.shapes.get(value, ())) if _may_vary_by_rows(size)]
        if len(varying) != 1:
            return None
        axis, size = varying[0]
        if not isinstance(size, Size) or not size.is_multiple or (size.times and size.only_at):
            return None
        return axis, 0 if size.times else size.slopes[0][1]

    def shape(self, record: Record, value: int, symbols: Symbols) -> tuple[int, ...] | None:
        """The shape of a value for these symbols; None where it is not known."""
        if symbols == self.example:
            return record.values[value].shape
        sizes = self.known_sizes(value, symbols)
        return None if sizes is None or None in sizes else tuple(size for size in sizes if size is not None)

    def known_sizes(self, value: int, symbols: Symbols) -> list[int | None] | None:
        """The sizes of a value's dimensions for these symbols, None for each that is not known."""
        shape = self.shapes.get(value)
        return None if shape is None else [size.at(symbols) if isinstance(size, Size) else size for size in shape]


Runs = Mapping[str, Sequence[tuple[int, ForwardShapes]]]  # symbol → (its size, the shapes) of forwards of other sizes
Points = Mapping[str, Sequence[tuple[int, object]]]  # symbol → (its size, the size of a dimension or a number)


def learn_sizes(record: Record, example: Mapping[str, int], runs: Runs) -> Sizes:
    """How each value's shape grows, from the record and from forwards in which one symbol was another.

    With two or more forwards for a symbol, the growth has to be a straight line.
    """
    shapes = _learn_shapes(record, example, runs)
    numbers = {call.index: _learn_numbers(call, example, runs) for call in record.calls}
    outputs = {call.index: _with_numbers(call.output, numbers[call.index]) for call in record.calls}
    unstable = frozenset(index for index, known in numbers.items() if known is None)
    others = [shapes for _, shapes in chain.from_iterable(runs.values())]
    constants = {operation.index: _constant_numbers(record, operation, others) for operation in record.operations}
    return Sizes(example, shapes, outputs, constants, unstable)


def _learn_shapes(record: Record, example: Mapping[str, int], runs: Runs) -> dict[int, tuple[int | Size | None, ...]]:
    """Value → its shape; a tensor that is written in place keeps its own."""
    seen = {
        symbol: [(size, _shapes_by_value(record, other)) for size, other in others] for symbol, others in runs.items()
    }
    shapes = {value.index: _learn_shape(value, example, seen) for value in record.values}
    for operation in record.operations:
        shapes |= {after: shapes[before] for before, after in operation.changes.items()}
    return shapes


def _constant_numbers(
    record: Record, operation: RecordedOperation, others: Sequence[ForwardShapes]
) -> tuple[int | None, ...]:
    """The whole numbers that a function is given in every forward; None for one that is another somewhere."""
    call = record.calls[operation.call]
    key = (call.name, call.ordinal, operation.name, operation.ordinal)
    given = [other.numbers.get(key, ()) for other in others]
    return tuple(
        number if all(len(same) == len(operation.numbers) and same[index] == number for same in given) else None
        for index, number in enumerate(operation.numbers)
    )


def holds_numbers(output: object) -> bool:
    """Whether a recorded output has plain numbers in it."""
    return any(True for _ in find_in(output, NUMBERS))


def _may_vary_by_rows(size: int | Size | None) -> bool:
    return size is None or (isinstance(size, Size) and ROWS in size.symbols)


def _learn_shape(
    value: Value, example: Mapping[str, int], seen: Mapping[str, list[tuple[int, dict[int, tuple[int, ...]]]]]
) -> tuple[int | Size | None, ...]:
    """The shape of a value; `seen` has its shapes in other forwards."""
    if value.kind in ("parameter", "buffer"):
        return value.shape
    if not seen.get(ROWS):
        return (None,) * len(value.shape)  # no other number of rows could be run

    def size_at(axis: int, shape: tuple[int, ...]) -> int | None:
        return shape[axis] if len(shape) == len(value.shape) else None

    def points(axis: int) -> Points:
        return {s: [(n, size_at(axis, known.get(value.index, ()))) for n, known in seen[s]] for s in seen}

    return tuple(_line(size, example, points(axis)) for axis, size in enumerate(value.shape))


def _shapes_by_value(record: Record, shapes: ForwardShapes) -> dict[int, tuple[int, ...]]:
    """Value → its shape in another forward, found by the calls and functions that gave it."""
    pairs = [(values_in(record.inputs), shapes.inputs)]
    for call in record.calls:
        pairs.append((values_in(call.output), shapes.calls.get((call.name, call.ordinal), ([], []))[0]))
    for operation in record.operations:
        call = record.calls[operation.call]
        key = (call.name, call.ordinal, operation.name, operation.ordinal)
        pairs.append((values_in(operation.outputs), shapes.functions.get(key, [])))
    by_value: dict[int, tuple[int, ...]] = {}
    for values, known in reversed(pairs):  # of several that give a value, the calls count, and most of all the inputs
        by_value |= zip(values, known, strict=True) if len(values) == len(known) else ()
    return by_value


def _line(size: int, example: Mapping[str, int], seen: Points) -> int | Size | None:
    """The straight line through the sizes seen; the size itself where nothing moves it, None where rows move it oddly.

    A size that is proportional to several symbols is their product. Where a length moves it in no straight line
    (convolutions, padding to blocks), it is known for that length alone.
    """
    rises = {symbol: _slope(size, example[symbol], points) for symbol, points in seen.items()}
    if rises.get(ROWS, 0) is None:
        return None
    return _size_on(size, example, rises) if set(rises.values()) - {0} else size


def _size_on(size: int, example: Mapping[str, int], rises: Mapping[str, int | None]) -> Size:
    """The size of the example on the line with these rises; None as a rise is of no straight line."""
    slopes = tuple((symbol, slope) for symbol, slope in rises.items() if slope)
    only_at = tuple((symbol, example[symbol]) for symbol, slope in rises.items() if slope is None)
    each = math.prod(example[symbol] for symbol, _ in slopes)
    parts = [slope * example[symbol] for symbol, slope in slopes]
    if len(slopes) > 1 and size % each == 0 and set(parts) == {size}:
        return Size(size // each, (), only_at, tuple(dict(slopes)))
    return Size(size - sum(parts), slopes, only_at)


def _slope(size: int, example: int, points: Sequence[tuple[int, object]]) -> int | None:
    """The rise per step through (example, size) and all points; None when they lie on no line with a whole slope."""
    rises = set()
    for n, other in points:
        if not isinstance(other, int) or (other - size) % (n - example):
            return None
        rises.add((other - size) // (n - example))
    return rises.pop() if len(rises) == 1 else None


def _learn_numbers(call: Call, example: Mapping[str, int], runs: Runs) -> list[object] | None:
    """The plain numbers of a call's output, Sizes for those that grow; None where one changes in another way."""
    numbers = numbers_of(call.output)
    points: dict[str, list[tuple[int, list[object]]]] = {
        symbol: [(n, shapes.calls.get((call.name, call.ordinal), ([], []))[1]) for n, shapes in others]
        for symbol, others in runs.items()
    }
    if any(len(given) != len(numbers) for others in points.values() for _, given in others):
        return None
    learnt = [
        _learn_number(number, example, {s: [(n, given[i]) for n, given in others] for s, others in points.items()})
        for i, number in enumerate(numbers)
    ]
    return None if None in learnt else learnt


def _with_numbers(output: object, numbers: list[object] | None) -> object:
    """A recorded output with other numbers in their places."""
    remaining = iter(numbers or ())
    return map_tree(lambda _: next(remaining), output, kind=NUMBERS) if numbers else output


def _learn_number(number: object, example: Mapping[str, int], points: Points) -> object:
    """The number itself where it is the same in every forward, its Size where it grows, None where neither."""
    if all(other == number for others in points.values() for _, other in others):
        return number
    return _line(number, example, points) if type(number) is int else None
