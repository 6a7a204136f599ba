"""The points at which a model can be cut: tensors between its layers that alone carry all that follows."""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod

from regraft.cuts.beside import INPUT_OF, Mean, mean_of
from regraft.cuts.channels import channel_axis
from regraft.cuts.dataflow import dependents
from regraft.cuts.record import Call, Record, values_in
from regraft.cuts.sizes import ROWS, Sizes
from regraft.errors import SplitError

SAME_WORK = 0.001  # of the forward's: points that differ by less are one, the last of them
MOST = 40  # points; of more those are joined that differ by little work
WIDEST = 4096  # values of a point's mean; a wider one is taken only where there is no other


@dataclass(frozen=True)
class Point:
    """A place to cut.

    layer              the last layer before it, as `freeze(upto=…)` takes it
    place              its tensor, as `Wanted` names it: the output of a layer, or the input of the next
    rows               (axis, each): along which axis the examples lie, and how many positions of it each has
    mean               over its positions
    bytes_per_example  of the tensor as it is
    work_saved         the part of the forward's multiply-adds before it, 0 to 1
    width              values of its mean
    """

    layer: str
    place: str
    rows: tuple[int, int]
    mean: Mean
    bytes_per_example: int
    work_saved: float
    width: int


def cut_points(record: Record, sizes: Sizes, fresh: Collection[str] = ()) -> list[Point]:
    """The points of a recorded forward, from the input to the output.

    fresh  names of parameters that were not restored: what depends on them is no point

    A point is the input or the output of a layer, has a row for each example, and nothing else that depends on the
    first input and on a parameter passes it by. Between two costly operations the last such tensor counts: what a layer
    gives after its activation. What comes after a last layer without positions, a classifier, is no point.
    """
    main = _main_values(record)
    untaught = _depending_on(record, fresh)
    first, last = _lifetimes(record, main)
    passing = _passing(record, main, first, last)
    end = _classifier(record, sizes)
    points: list[tuple[int, Point]] = []
    for value, place in _places(record).items():
        if value not in main - untaught or first[value] >= end or passing[first[value]] > (last[value] > first[value]):
            continue
        point = _point(record, sizes, value, place, first[value])
        if point is not None:
            points.append((first[value], point))
    ordered, same = [point for _, point in sorted(points, key=lambda pair: pair[0])], SAME_WORK
    while len(found := _last_of_each(ordered, same)) > MOST:
        same *= 2
    return found


def points_of_places(record: Record, sizes: Sizes, places: Sequence[str]) -> list[Point]:
    """The first output of each of these layers as a point, or the first input of "input of layer", in their order in
    the forward.

    Raises SplitError that names every one of which no mean can be taken.
    """
    points, missing = [], []
    for place in places:
        value = _value_at(record, place)
        operation = -1 if value is None else record.values[value].operation
        point = None if value is None else _point(record, sizes, value, place, operation)
        if point is None:
            missing.append(place)
        else:
            points.append((operation, point))
    if missing:
        raise SplitError(
            f"No mean can be taken of {', '.join(missing)}: the layer does not run on the example, its output has no "
            "row for each example, or it is not known which axis holds the channels.\nLeave it out."
        )
    return [point for _, point in sorted(points, key=lambda pair: pair[0])]


def _classifier(record: Record, sizes: Sizes) -> int:
    """The index of the last costly operation where its output has no positions; one beyond all where it has."""
    costly = [operation for operation in record.operations if operation.flops]
    outputs = values_in(costly[-1].outputs) if costly else []
    if not outputs or sizes.rows(outputs[0]) is None:
        return len(record.operations)
    point = _point(record, sizes, outputs[0], "", costly[-1].index)
    values = prod(record.values[outputs[0]].shape) // max(1, sizes.example[ROWS])
    return len(record.operations) if point is None or values > point.width else costly[-1].index


def _main_values(record: Record) -> frozenset[int]:
    """The values that depend on the first input and on a parameter: a mask made of the input alone is none."""
    inputs = sorted(record.input_values)
    from_input = dependents(record, inputs[:1])
    parameters = {value.index for value in record.values if value.kind == "parameter"}
    seeds = {
        value
        for operation in record.operations
        if not from_input.isdisjoint(operation.inputs) and not parameters.isdisjoint(operation.inputs)
        for value in operation.writes
    }
    return dependents(record, seeds)


def _lifetimes(record: Record, main: frozenset[int]) -> tuple[dict[int, int], dict[int, int]]:
    """For each main value the operation that made it, and the last one that reads it or a view of it."""
    first = {value: max(record.values[value].operation, record.values[record.values[value].base].operation)
             if record.values[value].base >= 0 else record.values[value].operation for value in main}  # fmt: skip
    last = dict(first)
    for operation in record.operations:
        for value in operation.inputs:
            for read in (value, record.values[value].base):
                if read in last:
                    last[read] = max(last[read], operation.index)
    return first, last


def _passing(record: Record, main: frozenset[int], first: dict[int, int], last: dict[int, int]) -> list[int]:
    """For each operation how many main values are there after it that are still to be read."""
    changes = [0] * (len(record.operations) + 1)
    for value in main:
        changes[first[value]] += 1
        changes[last[value]] -= 1
    return list(accumulate(changes))


def _places(record: Record) -> dict[int, str]:
    """Value → the layer that gives it, else "input of" the one that takes it; outermost layers, first calls."""
    places: dict[int, str] = {}
    calls = [call for call in record.calls[1:] if not call.ordinal]
    for call in calls:
        values = values_in(call.output)
        places |= {value: call.name for value in values if value not in places and len(values) == 1}
    for call in calls:
        places |= {value: f"{INPUT_OF}{call.name}" for value in call.arguments[:1] if value not in places}
    return places


def _point(record: Record, sizes: Sizes, value: int, place: str, made: int) -> Point | None:
    """The point of a value; None where it has no rows, or it is not known which axis holds its channels."""
    rows = sizes.rows(value)
    mean = None if rows is None else mean_of(record, sizes, value)
    if rows is None or mean is None:
        return None
    work = list(accumulate((operation.flops for operation in record.operations), initial=0))
    tensor, channels = record.values[value], channel_axis(record, value)
    count = max(1, sizes.example[ROWS])
    width = tensor.shape[channels] if mean.axes and channels is not None else prod(tensor.shape) // count
    layer = place if not place.startswith(INPUT_OF) else _layer_before(record, made)
    return Point(layer, place, rows, mean, tensor.size_bytes // count, work[made + 1] / max(1, work[-1]), width)


def _layer_before(record: Record, made: int) -> str:
    """The outermost layer that was the last to give its output before the value was made."""
    ends: dict[int, Call] = {}
    for call in record.calls[1:]:
        at = max((record.values[output].operation for output in values_in(call.output)), default=-1)
        ends.setdefault(at, call)
    times = sorted(ends)
    position = bisect_right(times, made)
    return ends[times[position - 1]].name if position else record.calls[1].name


def _depending_on(record: Record, parameters: Collection[str]) -> frozenset[int]:
    names = set(parameters)
    return dependents(record, [v.index for v in record.values if v.kind == "parameter" and v.name in names])


def _value_at(record: Record, place: str) -> int | None:
    """The first output of the layer, or the first input of "input of layer", at its first call."""
    name = place.removeprefix(INPUT_OF)
    call = next((call for call in record.calls if call.name == name), None)
    values = () if call is None else values_in(call.output) if name == place else call.arguments
    return next(iter(values), None)


def _last_of_each(points: Sequence[Point], same: float) -> list[Point]:
    """Of points between which nothing costly is done the last, unless it is very wide and an earlier one is not."""
    groups: list[list[Point]] = []
    for point in reversed(points):
        if groups and groups[-1][0].work_saved - point.work_saved <= same:
            groups[-1].append(point)
        else:
            groups.append([point])
    return [next((point for point in group if point.width <= WIDEST), group[0]) for group in reversed(groups)]
