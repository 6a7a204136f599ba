"""How the sizes in a recorded forward grow with the batch and with lengths, learnt from forwards of other sizes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from regraft.cuts.record import Call, Record, Slot, slots_of
from regraft.cuts.shapes import ForwardShapes
from regraft.tensors.trees import NUMBERS, Placeholder, find_in, map_tree, numbers_of

ROWS = "rows"
_UNSTABLE = object()  # numbers that change in another way than sizes do

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
        if any(symbols.get(symbol) != size for symbol, size in self.only_at):
            return None
        terms = [(slope, symbols.get(symbol)) for symbol, slope in self.slopes]
        factors = [symbols.get(symbol) for symbol in self.times]
        if None in factors or any(size is None for _, size in terms):
            return None
        total = self.constant + sum(slope * size for slope, size in terms if size is not None)
        return total * math.prod(size for size in factors if size is not None)

    def solved(self, size: int, known: Symbols) -> tuple[str, int] | None:
        """The one symbol that this size gives beside the known ones, and its value; None where it gives none."""
        if self.only_at:
            return None
        unknown = [symbol for symbol in self.times if known.get(symbol) is None]
        if len(unknown) == 1:
            symbol, constant = unknown[0], 0
            slope = self.constant * math.prod(known.get(other) or 1 for other in self.times)
        elif len(self.slopes) == 1:
            (symbol, slope), constant = self.slopes[0], self.constant
        else:
            return None
        return (symbol, (size - constant) // slope) if (size - constant) % slope == 0 else None


@dataclass(frozen=True)
class Sizes:
    """What is known of the sizes of a record's values.

    example   the symbols of the recorded example
    shapes    value → its shape, with a Size where it varies and None where how it varies is not known
    outputs   call → its output, with a Size in the place of each plain number that grows
    unstable  calls that give numbers that depend on more than sizes
    """

    example: Mapping[str, int]
    shapes: Mapping[int, tuple[int | Size | None, ...]] = field(default_factory=dict)
    outputs: Mapping[int, object] = field(default_factory=dict)
    unstable: frozenset[int] = frozenset()

    def rows(self, value: int) -> tuple[int, int] | None:
        """(axis, k) where a value has k consecutive rows along `axis` for each example; None where it has not.

        k is 0 where a length decides it.
        """
        varying = {
            axis: size
            for axis, size in enumerate(self.shapes.get(value, ()))
            if size is None or (isinstance(size, Size) and ROWS in size.symbols)
        }
        if len(varying) != 1:
            return None
        ((axis, size),) = varying.items()
        if size is None or not size.is_multiple or (size.times and size.only_at):
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

    def symbols_in(self, value: int) -> Iterator[Size]:
        """The sizes of a value's shape that vary."""
        return (size for size in self.shapes[value] if isinstance(size, Size))


Runs = Mapping[str, Sequence[tuple[int, ForwardShapes]]]  # symbol → (its size, the shapes) of forwards of other sizes
Points = Mapping[str, Sequence[tuple[int, object]]]  # symbol → (its size, the size of a dimension or a number)


def learn_sizes(record: Record, example: Mapping[str, int], runs: Runs) -> Sizes:
    """How each value's shape grows, from the record and from forwards in which one symbol was another.

    With two or more forwards for a symbol, the growth has to be a straight line.
    """
    seen = {symbol: [(size, _shapes_by_value(record, other)) for size, other in runs[symbol]] for symbol in runs}
    shapes: dict[int, tuple[int | Size | None, ...]] = {}
    for value in record.values:
        if value.kind in ("parameter", "buffer"):
            shapes[value.index] = value.shape
        elif not runs.get(ROWS):
            shapes[value.index] = (None,) * len(value.shape)  # no other number of rows could be run
        else:
            others = {s: [(n, known.get(value.index)) for n, known in points] for s, points in seen.items()}
            shapes[value.index] = _growing_shape(value.shape, example, others)
    for operation in record.operations:
        for before, after in operation.changes.items():
            shapes[after] = shapes[before]
    outputs = {call.index: _learn_numbers(call, example, runs) for call in record.calls}
    known = {index: output for index, output in outputs.items() if output is not _UNSTABLE}
    return Sizes(example, shapes, known, frozenset(outputs.keys() - known.keys()))


def holds_numbers(output: object) -> bool:
    """Whether a recorded output has plain numbers in it."""
    return any(True for _ in find_in(output, NUMBERS))


def _growing_shape(
    shape: tuple[int, ...], example: Mapping[str, int], others: Mapping[str, list[tuple[int, tuple[int, ...] | None]]]
) -> tuple[int | Size | None, ...]:
    """The shape of a value whose shapes in other forwards are known; no shape where the value was not there."""

    def points(axis: int) -> Points:
        return {symbol: [(n, _size_at(other, shape, axis)) for n, other in seen] for symbol, seen in others.items()}

    return tuple(_line(size, example, points(axis)) for axis, size in enumerate(shape))


def _size_at(other: tuple[int, ...] | None, shape: tuple[int, ...], axis: int) -> int | None:
    """The size that a value had in another forward; None when it was not there or had other dimensions."""
    return other[axis] if other is not None and len(other) == len(shape) else None


def _shapes_by_value(record: Record, shapes: ForwardShapes) -> dict[int, tuple[int, ...]]:
    """Value → its shape in another forward, found by the calls and functions that gave it."""
    pairs: list[tuple[list[Slot], list[tuple[int, ...]]]] = []
    for operation in record.operations:
        call = record.calls[operation.call]
        key = (call.name, call.ordinal, operation.name, operation.ordinal)
        pairs.append((slots_of(operation.outputs), shapes.functions.get(key, [])))
    for call in record.calls:
        pairs.append((slots_of(call.output), shapes.calls.get((call.name, call.ordinal), ([], []))[0]))
    pairs.append((slots_of(record.inputs), shapes.inputs))
    return {
        slot.value: shape
        for slots, known in pairs
        if len(slots) == len(known)
        for slot, shape in zip(slots, known, strict=True)
    }


def _line(size: int, example: Mapping[str, int], seen: Points) -> int | Size | None:
    """The straight line through the sizes seen; the size itself where nothing moves it, None where rows move it oddly.

    A size that is proportional to several symbols is their product. Where a length moves it in no straight line
    (convolutions, padding to blocks), it is known for that length alone.
    """
    found = {symbol: _slope(size, example[symbol], points) for symbol, points in seen.items()}
    if ROWS in found and found[ROWS] is None:
        return None
    slopes = tuple((symbol, slope) for symbol, slope in found.items() if slope)
    only_at = tuple((symbol, example[symbol]) for symbol, slope in found.items() if slope is None)
    if len(slopes) > 1 and all(slope * example[symbol] == size for symbol, slope in slopes):
        each = math.prod(example[symbol] for symbol, _ in slopes)
        if size % each == 0:
            return Size(size // each, (), only_at, tuple(symbol for symbol, _ in slopes))
    constant = size - sum(slope * example[symbol] for symbol, slope in slopes)
    return Size(constant, slopes, only_at) if slopes or only_at else size


def _slope(size: int, example: int, points: Sequence[tuple[int, object]]) -> int | None:
    """The rise per step through (example, size) and all points; None when they lie on no line with a whole slope."""
    rises = set()
    for n, other in points:
        if not isinstance(other, int) or (other - size) % (n - example):
            return None
        rises.add((other - size) // (n - example))
    return rises.pop() if len(rises) == 1 else None


def _learn_numbers(call: Call, example: Mapping[str, int], runs: Runs) -> object:
    """A call's output with Sizes in the place of numbers that grow; `_UNSTABLE` where they change in another way."""
    numbers = numbers_of(call.output)
    seen: list[dict[str, list[tuple[int, object]]]] = [{} for _ in numbers]
    for symbol, points in runs.items():
        for n, shapes in points:
            given = shapes.calls.get((call.name, call.ordinal), ([], []))[1]
            if len(given) != len(numbers):
                return _UNSTABLE
            for position, number in enumerate(given):
                seen[position].setdefault(symbol, []).append((n, number))
    learnt = [_learn_number(number, example, points) for number, points in zip(numbers, seen, strict=True)]
    if None in learnt:
        return _UNSTABLE
    remaining = iter(learnt)
    return map_tree(lambda _: next(remaining), call.output, kind=NUMBERS)


def _learn_number(number: object, example: Mapping[str, int], points: Points) -> object:
    """The number itself where it is the same in every forward, its Size where it grows, None where neither."""
    if all(other == number for others in points.values() for _, other in others):
        return number
    return _line(number, example, points) if type(number) is int else None
