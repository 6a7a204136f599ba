"""Choose where to cut a recorded forward: the cheapest tensors that carry all that the head needs of the trunk."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from regraft.cuts.beside import Beside, Mean
from regraft.cuts.dataflow import Dataflow, dataflow_of, sources
from regraft.cuts.min_cut import INFINITE, Flow
from regraft.cuts.record import Call, Record, RecordedOperation, values_in
from regraft.cuts.sizes import ROWS, Sizes, holds_numbers
from regraft.errors import SplitError

# A leaf without a row for each example is taken only when no other cut is possible.
WHOLE_BATCH_COST = 10_000


@dataclass(frozen=True)
class Rules:
    """What a cut has to respect.

    inside   whether the cut may lie inside a frozen layer when that is cheaper
    whole    whether a leaf may lack a row for each example, so that the features hold for a batch as a whole
    at       the names of the layers whose outputs the head may take, if the user has chosen; inputs may cross beside
    needed   values that the head needs beside those that the record shows
    unfit    values that may not cross: their rows depend on the rest of the batch
    """

    inside: bool = True
    whole: bool = False
    at: tuple[str, ...] | None = None
    needed: frozenset[int] = frozenset()
    unfit: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Choice:
    """The cut of a record in the recorder's terms.

    leaves   leaf name → value
    skipped  indices of the calls that the head does not run
    opened   indices of the calls whose own forward the head runs
    repeated indices of the operations that the head runs itself: the trainable ones and what is cheaper to repeat
    whole    whether a leaf may lack a row for each example, so that the features hold for a batch as a whole
    means    leaf name → the mean over its positions that crosses in its place
    """

    leaves: dict[str, int]
    skipped: frozenset[int]
    opened: frozenset[int]
    repeated: frozenset[int]
    flow: Dataflow = field(repr=False)
    whole: bool = False
    means: Mapping[str, Mean] = field(default_factory=dict)


def choose_cut(record: Record, sizes: Sizes, rules: Rules = Rules()) -> Choice:
    """The cheapest cut, in bytes per example, that leaves no costly frozen operation in the head.

    Raises SplitError when nothing with one row per example can be cut.
    """
    flow = dataflow_of(record)
    opened = _opened(record, flow, flow.live_operations, _impure(record, sizes, flow))
    while True:
        sinks = _sinks(record, flow, opened) | (rules.needed - flow.live)
        cut = _cheapest_cut(record, sizes, rules, flow, sinks, opened)
        repeated = flow.live_operations | sources(record, sinks, until=cut | flow.live).operations
        now_open = _opened(record, flow, repeated, opened)
        skipped = _skipped(record, now_open)
        now_open |= _out_of_sight(record, cut, skipped, now_open) | _passing_on(record, cut, repeated, skipped)
        if now_open == opened:
            return Choice(_named(record, cut, skipped), skipped, now_open, repeated, flow, rules.whole)
        opened |= now_open


def named_like(choice: Choice, beside: Beside) -> Choice:
    """The choice with the names of `beside` for the same tensors, and no such name for another."""
    names = {value: name for name, value in reversed([*beside.leaves.items()]) if name not in beside.means}
    taken = {value: f"{name} (head)" for name, value in choice.leaves.items() if name in beside.leaves}
    return replace(choice, leaves={names.get(v, taken.get(v, name)): v for name, v in choice.leaves.items()})


def with_beside(record: Record, choice: Choice, beside: Beside) -> Choice:
    """The choice of a trunk that gives these outputs too; its head keeps the choice without them."""
    leaves = dict(sorted((choice.leaves | dict(beside.leaves)).items(), key=lambda pair: pair[1]))
    opened = choice.opened
    while more := _out_of_sight(record, leaves.values(), _skipped(record, opened), opened):
        opened |= more
    return replace(choice, leaves=leaves, skipped=_skipped(record, opened), opened=opened, means=beside.means)


def _impure(record: Record, sizes: Sizes, flow: Dataflow) -> frozenset[int]:
    """Calls that the head has to run: they give Python numbers made of data, or leave more than their output."""
    giving_numbers = {call.index for call in record.calls if holds_numbers(call.output)}
    impure = {call.index for call in record.calls if call.has_side_effects}
    for operation in filter(flow.reads_examples, record.operations):
        impure |= giving_numbers.intersection(record.with_parents(operation.call))
    return sizes.unstable | impure


def _sinks(record: Record, flow: Dataflow, opened: Collection[int]) -> frozenset[int]:
    """The values of the trunk that the head needs: for trainable operations, for the output, for Python."""
    sinks = set(values_in(record.calls[0].output))
    for operation in record.operations:
        if operation.index in flow.live_operations or (operation.needs_data and operation.call in opened):
            sinks.update(operation.inputs)
    return frozenset(sinks - flow.live)


def _cheapest_cut(
    record: Record, sizes: Sizes, rules: Rules, flow: Dataflow, sinks: Collection[int], opened: Collection[int]
) -> frozenset[int]:
    """The values that cross."""
    costs = _costs(record, sizes, rules, _visible(record, rules, opened))
    costly: set[int] = set()
    if rules.at is None:  # what a product, a convolution and the like give is not to be computed again in the head
        costly = {value for op in record.operations if not op.is_cheap for value in op.writes} - rules.unfit
    try:
        return _minimum_cut(_region(record, flow, sinks, costly), sinks, costs, costly)
    except SplitError:  # something costly cannot cross (it is written in place): the head computes that again
        costly &= costs.keys()
        return _minimum_cut(_region(record, flow, sinks, costly), sinks, costs, costly)


def _visible(record: Record, rules: Rules, opened: Collection[int]) -> frozenset[int]:
    """The values that can be caught: inputs, outputs of calls that are not opened, and outputs of operations."""
    calls = [call for call in record.calls if call.index not in opened]
    if rules.at is not None:
        structures = [call.output for call in calls if call.name in rules.at]
    else:
        structures = [call.output for call in calls]
        structures += [op.outputs for op in filter(_can_be_caught, record.computing_operations) if rules.inside]
    return record.input_values.union(values_in(structures)) - rules.unfit


def _can_be_caught(operation: RecordedOperation) -> bool:
    """What is written in place cannot be handed out: the forward goes on with the tensor that it had."""
    return not operation.changes and operation.ordinal >= 0


def _costs(record: Record, sizes: Sizes, rules: Rules, visible: Collection[int]) -> dict[int, int]:
    """What it costs that a value crosses: its bytes per example."""
    costs = {}
    for index in visible:
        value = record.values[index]
        if sizes.rows(index) is not None:
            costs[index] = max(1, value.size_bytes // max(1, sizes.example[ROWS]))
        elif rules.whole:
            costs[index] = max(1, value.size_bytes) * WHOLE_BATCH_COST
        if rules.at is not None and value.kind == "input" and index in costs:
            costs[index] *= WHOLE_BATCH_COST
    return costs


def _region(record: Record, flow: Dataflow, sinks: Collection[int], costly: Collection[int]) -> dict[int, list[int]]:
    """The graph in which to cut: each value that the sinks depend on → what it is computed from, "inputs" left out.

    It ends at what costly operations give, which is as good as an input. Constants are no part of it: the head
    computes what depends on no example.
    """
    region: dict[int, list[int]] = {}
    todo = [index for index in sinks if index in flow.dependent]
    while todo:
        index = todo.pop()
        if index in region:
            continue
        before = [record.values[index].base] if index in costly else record.computed_from(index)
        region[index] = sorted((flow.dependent - flow.live).intersection(before) - {index})
        todo += region[index]
    return region


def _minimum_cut(
    region: dict[int, list[int]], sinks: Collection[int], costs: dict[int, int], costly: Collection[int]
) -> frozenset[int]:
    """Minimum vertex cut of the region between its inputs and the sinks, nearest to the sinks.

    A vertex is a value: an edge as wide as its cost leads from (value, 0) to (value, 1).
    """
    if not region:
        return frozenset()
    flow = _network(region, sinks, costs, costly)
    if flow.push("source", "sink") >= INFINITE:
        raise SplitError("No tensor with one row per example separates the frozen part from the rest.")
    beyond = flow.reaches("sink")
    return frozenset(index for index in region if (index, 1) in beyond and (index, 0) not in beyond)


def _network(
    region: dict[int, list[int]], sinks: Collection[int], costs: dict[int, int], costly: Collection[int]
) -> Flow:
    """The region as a network: from a source to the inputs and to what is costly, from the sinks to one sink."""
    flow = Flow()
    for index, before in region.items():
        flow.edge((index, 0), (index, 1), costs.get(index, INFINITE))
        for other in before:
            flow.edge((other, 1), (index, 0), INFINITE)
        if index in costly or not before:
            flow.edge("source", (index, 0), INFINITE)
        if index in sinks:
            flow.edge((index, 1), "sink", INFINITE)
    return flow


def _opened(record: Record, flow: Dataflow, repeated: Collection[int], forced: Collection[int]) -> frozenset[int]:
    """The calls whose forward the head runs: those with an operation that it runs, or through which live values go."""
    opened = {*forced, *(record.operations[index].call for index in repeated)}
    for call in record.calls:
        if not flow.live.isdisjoint([*call.arguments, *values_in(call.output)]):
            opened.add(call.index)
    return frozenset(above for call in opened for above in record.with_parents(call))


def _skipped(record: Record, opened: Collection[int]) -> frozenset[int]:
    """The outermost calls that are not opened."""
    closed = [call for call in record.calls if call.index not in opened]
    return frozenset(call.index for call in closed if call.parent < 0 or call.parent in opened)


def _out_of_sight(
    record: Record, cut: Collection[int], skipped: Collection[int], opened: Collection[int]
) -> frozenset[int]:
    """Calls to open because a leaf is made inside them and does not reach the head by their output."""
    given = values_in([record.calls[index].output for index in skipped])
    makers = {record.values[index].operation for index in set(cut).difference(given)} - {-1}
    calls = [record.operations[operation].call for operation in makers]
    return frozenset(above for call in calls for above in record.with_parents(call)).difference(opened)


def _passing_on(
    record: Record, cut: Collection[int], repeated: Collection[int], skipped: Collection[int]
) -> frozenset[int]:
    """Skipped calls that hand on what the head holds with data (an unused dropout does): they run."""
    held = {value for index in repeated for value in record.operations[index].writes}.difference(cut)
    return frozenset(index for index in skipped if not held.isdisjoint(values_in(record.calls[index].output)))


def _named(record: Record, cut: Collection[int], skipped: Collection[int]) -> dict[str, int]:
    """A name for each leaf, in the order in which the forward makes them.

    The name says which module or function gave it, and counts what that gave before, leaf or not: so the same name
    means the same thing in training and in evaluation.
    """
    names: dict[int, str] = {}
    counts: Counter[str] = Counter()
    for value, name in _made(record, skipped):
        if value not in names:
            counts[name] += 1
            names[value] = name if counts[name] == 1 else f"{name}#{counts[name]}"
    return {names[index]: index for index in sorted(cut)}


def _made(record: Record, skipped: Collection[int]) -> Iterator[tuple[int, str]]:
    """Each value, and the input, the module or the function that gave it; a value may have several."""
    yield from ((index, f"input:{record.values[index].name}") for index in sorted(record.input_values))
    for call in map(record.calls.__getitem__, sorted(skipped)):
        for made in filter(partial(_is_made_inside, record, call), values_in(call.output)):
            yield made, call.name or "output"
    for operation in record.computing_operations:
        name = f"{record.layer_of(operation)}.{operation.name}".lstrip(".")
        yield from ((made, name) for made in values_in(operation.outputs))


def _is_made_inside(record: Record, call: Call, value: int) -> bool:
    """Whether the call made the value. A dropout does not in evaluation: it hands its input on."""
    operation = record.values[value].operation
    return operation < 0 or call.index in record.with_parents(record.operations[operation].call)
