"""What depends on what in a recorded forward: on trainable layers, on the examples, on any values."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from regraft.cuts.record import Record, RecordedOperation

IsReached = Callable[[int], bool]


@dataclass(frozen=True)
class Dataflow:
    """Which part of a forward is the head's.

    live             values that depend on a trainable parameter, on random numbers or on a state that changes
    dependent        values that depend on the examples
    live_operations  operations that the head has to run: what is random, changes state, or reads or writes live values
    """

    live: frozenset[int] = field(repr=False)
    dependent: frozenset[int] = field(repr=False)
    live_operations: frozenset[int] = field(repr=False)

    def reads_examples(self, operation: RecordedOperation) -> bool:
        """Whether the operation needs the numbers of values that depend on the examples."""
        return operation.needs_data and not self.dependent.isdisjoint(operation.arguments)


@dataclass(frozen=True)
class Ancestors:
    """Values and operations that something is computed from."""

    values: frozenset[int]
    operations: frozenset[int]


def dependents(
    record: Record,
    seeds: Iterable[int],
    spreads: Callable[[RecordedOperation, IsReached], bool] = lambda operation, is_: False,
) -> frozenset[int]:
    """The values that are computed from the seeds, themselves included. Reading a shape alone does not count.

    spreads  asked for each operation, in the order of time: whether all that it writes counts, whatever it reads; its
             second argument says whether a value counts
    """
    reached = set(seeds)

    def is_reached(value: int) -> bool:
        return value in reached or record.values[value].base in reached

    for operation in record.operations:
        for step in operation.steps:
            if any(map(is_reached, step.needs)):
                reached.update(step.writes)
        if spreads(operation, is_reached):
            reached.update(operation.writes)
    return frozenset(filter(is_reached, range(len(record.values))))


def sources(record: Record, values: Iterable[int], *, until: Collection[int] = ()) -> Ancestors:
    """All that the values are computed from, themselves included, as far as the values in `until`."""
    todo, seen, operations = list(values), set[int](), set[int]()
    while todo:
        index = todo.pop()
        if index in seen or index in until:
            continue
        seen.add(index)
        operations.add(record.values[index].operation)
        todo += record.computed_from(index)
    return Ancestors(frozenset(seen), frozenset(operations) - {-1})


def trained_values(record: Record) -> frozenset[int]:
    """The values that depend on a trainable parameter."""
    return dependents(record, record.trainable_values)


def dataflow_of(record: Record) -> Dataflow:
    """What of a recorded forward is the head's, and what depends on the examples."""
    # A forward that asks Python to decide by trainable or random data is, from there on, as trainable as that data.
    decided = dict(reversed(record.python_draws))

    def is_decided(operation: RecordedOperation) -> bool:
        calls = record.with_parents(operation.call)
        return any(operation.index >= decided[call] for call in calls if call in decided)

    def makes_live(operation: RecordedOperation, is_live: IsReached) -> bool:
        if operation.needs_data and any(map(is_live, operation.inputs)):
            decided.setdefault(operation.call, operation.index + 1)
        is_own = operation.is_random or operation.is_stateful or is_decided(operation)
        return is_own or any(map(is_live, operation.writes))

    live = dependents(record, record.trainable_values, makes_live)
    operations = frozenset(
        operation.index
        for operation in record.computing_operations
        if makes_live(operation, live.__contains__) or not live.isdisjoint(operation.inputs)
    )
    dependent = dependents(record, record.input_values)
    return Dataflow(live, dependent, operations)
