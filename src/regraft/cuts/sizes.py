"""How the sizes in a recorded forward grow with the batch and with lengths, learnt from forwards of other sizes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regraft.cuts.outlining import Outline, Shapes
from regraft.cuts.record import Record, slots_of
from regraft.tensors.trees import NUMBERS, Placeholder, find_in, map_tree, numbers_of

ROWS = "rows"

Symbols = Mapping[str, int | None]  # what varies → how large it is now; None where that cannot be told


@dataclass(frozen=True)
class Size(Placeholder):
    """A size that is not always the same: constant + slope × symbol, summed over the symbols.

    only_at  symbols in which it grows in no straight line, with the one value for which it is known
    times    or: constant × each of these symbols (examples and places merged into one dimension)
    """

    constant: int
    slopes: tuple[tuple[str, int], ...]
    only_at: tuple[tuple[str, int], ...] = ()
    times: tuple[str, ...] = ()

    @property
    def symbols(self) -> set[str]:
        """What it depends on."""
        return {symbol for symbol, _ in (*self.slopes, *self.only_at)} | set(self.times)

    def at(self, symbols: Symbols) -> int | None:
        """The size for these symbols; None when it cannot be told."""
        total = self.constant
        if any(symbols.get(symbol) != size for symbol, size in self.only_at):
            return None
        for symbol, slope in self.slopes:
            size = symbols.get(symbol)
            if size is None:
                return None
            total += slope * size
        for symbol in self.times:
            size = symbols.get(symbol)
            if size is None:
                return None
            total *= size
        return total

    def solved(self, size: int, known: Symbols) -> tuple[str, int] | None:
        """The one symbol that this size tells beside the known ones, and its value; None where it tells none."""
        if self.only_at:
            return None
        unknown = [symbol for symbol in self.times if known.get(symbol) is None]
        if len(unknown) == 1:
            symbol, slope, constant = unknown[0], self.constant, 0
            for other in self.times:
                slope *= known.get(other) or 1
        elif len(self.slopes) == 1:
            (symbol, slope), constant = self.slopes[0], self.constant
        else:
            return None
        return (symbol, (size - constant) // slope) if (size - constant) % slope == 0 else None


@dataclass
class Sizes:
    """What is known of the sizes of a record's values.

    example   the symbols of the recorded example
    shapes    value → its shape, with a Size where it varies and None where how it varies is not known
    unstable  calls that give numbers that depend on more than sizes
    """

    example: dict[str, int]
    shapes: dict[int, tuple[int | Size | None, ...]] = field(default_factory=dict)
    unstable: set[int] = field(default_factory=set)

    def rows(self, value: int) -> tuple[int, int] | None:
        """(axis, k) where a value has k consecutive rows along `axis` for each example; None where it has not.

        k is 0 where a length decides it.
        """
        found = [
            (axis, 0 if size.times else size.slopes[0][1])
            for axis, size in enumerate(self.shapes.get(value, ()))
            if isinstance(size, Size) and ROWS in size.symbols and not (size.times and size.only_at)
            if size.times or (size.constant == 0 and len(size.slopes) == 1 and size.slopes[0][1] > 0)
        ]
        mixed = [
            size
            for size in self.shapes.get(value, ())
            if size is None or (isinstance(size, Size) and ROWS in size.symbols)
        ]
        return found[0] if len(found) == len(mixed) == 1 else None

    def shape(self, record: Record, value: int, symbols: Symbols) -> tuple[int, ...] | None:
        """The shape of a value for these symbols; None where it cannot be told."""
        if symbols == self.example:
            return record.values[value].shape
        shape = self.shapes.get(value)
        if shape is None:
            return None
        sizes = [size.at(symbols) if isinstance(size, Size) else size for size in shape]
        return None if any(size is None for size in sizes) else tuple(size for size in sizes if size is not None)


Runs = Mapping[str, Sequence[tuple[int, Outline]]]  # symbol → (its size, the outline) of forwards with another size


def learn_sizes(record: Record, example: dict[str, int], runs: Runs) -> Sizes:
    """How each value's shape grows, from the record and from forwards in which one symbol was another.

    With two or more forwards for a symbol, the growth has to be a straight line. Replaces, in the record's call
    outputs, the plain numbers that grow with a symbol by Sizes.
    """
    sizes = Sizes(example)
    seen = {symbol: [(size, _shapes_by_value(record, outline)) for size, outline in runs[symbol]] for symbol in runs}
    for value in record.values:
        if value.kind in ("parameter", "buffer"):
            sizes.shapes[value.index] = value.shape
        elif not runs.get(ROWS):
            sizes.shapes[value.index] = (None,) * len(value.shape)  # no other number of rows could be run
        else:
            sizes.shapes[value.index] = tuple(
                _line(size, example, {
                    symbol: [(n, _size_at(shapes.get(value.index), value.shape, axis)) for n, shapes in points]
                    for symbol, points in seen.items()
                })
                for axis, size in enumerate(value.shape)
            )  # fmt: skip
    for operation in record.operations:
        for before, after in operation.changes.items():
            sizes.shapes[after] = sizes.shapes[before]
    for index in range(len(record.calls)):
        _learn_numbers(record, index, sizes, runs)
    return sizes


def holds_numbers(output: Any) -> bool:
    """Whether a recorded output has plain numbers in it, or Sizes in their place."""
    return any(True for _ in find_in(output, (*NUMBERS, Size)))


def _size_at(other: tuple[int, ...] | None, shape: tuple[int, ...], axis: int) -> int | None:
    """The size that a value had in another forward; None when it was not there or had other dimensions."""
    return other[axis] if other is not None and len(other) == len(shape) else None


def _shapes_by_value(record: Record, outline: Outline) -> dict[int, tuple[int, ...]]:
    """Value → its shape in another forward, found by the calls and functions that gave it."""
    found: dict[int, tuple[int, ...]] = {}

    def pair(structure: Any, shapes: Shapes) -> None:
        slots = slots_of(structure)
        if len(slots) == len(shapes):
            found.update({slot.value: shape for slot, shape in zip(slots, shapes, strict=True)})

    for operation in record.operations:
        call = record.calls[operation.call]
        key = (call.name, call.ordinal, operation.name, operation.ordinal)
        pair(operation.outputs, outline.functions.get(key, []))
    for call in record.calls:
        pair(call.output, outline.calls.get((call.name, call.ordinal), ([], []))[0])
    pair(record.inputs, outline.inputs)
    return found


def _line(size: Any, example: Mapping[str, int], seen: Mapping[str, list[tuple[int, Any]]]) -> int | Size | None:
    """The straight line through the sizes seen; the size itself where nothing moves it, None where rows move it oddly.

    A size that is proportional to several symbols is their product. Where a length moves it in no straight line
    (convolutions, padding to blocks), it is known for that length alone.
    """
    constant, slopes, only_at = size, [], []
    for symbol, points in seen.items():
        slope = _slope(size, example[symbol], points)
        if slope is None and symbol == ROWS:
            return None
        if slope is None:
            only_at.append((symbol, example[symbol]))
        elif slope:
            slopes.append((symbol, slope))
            constant -= slope * example[symbol]
    if len(slopes) > 1 and all(slope * example[symbol] == size for symbol, slope in slopes):
        each = math.prod(example[symbol] for symbol, _ in slopes)
        if size % each == 0:
            return Size(size // each, (), tuple(only_at), tuple(symbol for symbol, _ in slopes))
    return Size(constant, tuple(slopes), tuple(only_at)) if slopes or only_at else size


def _slope(size: int, at: int, points: list[tuple[int, Any]]) -> int | None:
    """The rise per step through (at, size) and all points; None when they lie on no line with a whole slope."""
    rises = set()
    for n, other in points:
        if other is None or (other - size) % (n - at):
            return None
        rises.add((other - size) // (n - at))
    return rises.pop() if len(rises) == 1 else None


def _learn_numbers(record: Record, index: int, sizes: Sizes, runs: Runs) -> None:
    """Put Sizes in the place of a call's numbers that grow; note the call where they change in another way."""
    call = record.calls[index]
    numbers = numbers_of(call.output)
    seen: list[dict[str, list[tuple[int, Any]]]] = [{} for _ in numbers]
    for symbol, points in runs.items():
        for n, outline in points:
            given = outline.calls.get((call.name, call.ordinal), ([], []))[1]
            if len(given) != len(numbers):
                sizes.unstable.add(index)
                return
            for position, number in enumerate(given):
                seen[position].setdefault(symbol, []).append((n, number))
    learnt = list(numbers)
    for position, number in enumerate(numbers):
        if any(other != number for points in seen[position].values() for _, other in points):
            line = _line(number, sizes.example, seen[position]) if type(number) is int else None
            if line is None:
                sizes.unstable.add(index)
                return
            learnt[position] = line
    waiting = iter(learnt)
    call.output = map_tree(lambda _: next(waiting), call.output, kind=NUMBERS)
