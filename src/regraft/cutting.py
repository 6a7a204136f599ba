"""Choose where to cut a recorded forward: the cheapest tensors that carry all that the head needs of the trunk."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

import torch

from regraft.errors import SplitError
from regraft.recording import Operation, Record, slots_of


@dataclass(frozen=True)
class Leaf:
    """One tensor that crosses from trunk to head.

    name    of the layer that gives it ("layer3"; "layer3#2" for its next call or output), or "input:x"
    shape   of one example, without the batch; None for a size that varies
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype
    bytes_per_example: int


@dataclass(frozen=True)
class Cut:
    """What crosses from trunk to head; prints as a table.

    work_saved  the part of the forward's multiply-adds that lies in the trunk, 0 to 1
    """

    leaves: tuple[Leaf, ...]
    work_saved: float
    note: str = ""

    @property
    def bytes_per_example(self) -> int:
        """Bytes of one example's features."""
        return sum(leaf.bytes_per_example for leaf in self.leaves)

    def __str__(self) -> str:
        width = max([len(leaf.name) for leaf in self.leaves] + [7])
        lines = [
            f"{leaf.name:<{width}}  {_shape_text(leaf.shape):<16} {str(leaf.dtype).removeprefix('torch.'):<9}"
            f" {leaf.bytes_per_example:>12,} bytes"
            for leaf in self.leaves
        ]
        total = f"{len(self.leaves)} tensor{'s' * (len(self.leaves) != 1)} cross: {self.bytes_per_example:,} bytes per"
        lines.append(f"{total} example, {self.work_saved:.1%} of the forward's work saved")
        return "\n".join([*lines, self.note] if self.note else lines)


def _shape_text(shape: tuple[int | None, ...]) -> str:
    """`256 × 14 × 14`, a varying size as `?`."""
    return " × ".join("?" if size is None else str(size) for size in shape) or "scalar"


@dataclass
class Choice:
    """The cut of a record in the recorder's terms, ready to be run.

    leaves   leaf name → value
    skipped  indices of the calls that the head does not run
    opened   indices of the calls whose own forward the head runs
    repeated indices of the operations that the head runs itself: the trainable ones and what is cheaper to repeat
    """

    leaves: dict[str, int]
    skipped: set[int]
    opened: set[int]
    repeated: set[int]
    live: list[bool] = field(repr=False)
    dependent: list[bool] = field(repr=False)


def choose_cut(record: Record, batch_size: int, *, needed: Iterable[int] = (), inside: bool = True) -> Choice:
    """The cheapest cut, in bytes per example, that leaves no costly frozen operation in the head.

    needed   values that the head needs beside those that the record shows
    inside   whether the cut may lie inside a frozen layer when that is cheaper

    Raises SplitError when nothing with one row per example can be cut.
    """
    live, dependent = _liveness(record)
    live_operations = {operation.index for operation in record.operations if is_live(operation, live)}
    opened = _opened(record, live_operations, live, set())
    wanted = set(needed)
    while True:
        sinks = _sinks(record, live, opened) | {value for value in wanted if not live[value]}
        cut = _cheapest(record, sinks, live, dependent, batch_size, _visible(record, opened, inside=inside))
        repeated = _repeated(record, sinks, cut, live, dependent)
        now_open = _opened(record, repeated, live, opened)
        skipped = _skipped(record, now_open)
        unseen = _out_of_sight(record, cut, skipped, now_open)
        if now_open | unseen == opened:
            return Choice(_named(record, cut, skipped), skipped, now_open, repeated, live, dependent)
        opened |= now_open | unseen


def _liveness(record: Record) -> tuple[list[bool], list[bool]]:
    """For each value: does it depend on a trainable operation; does it depend on the examples."""
    live = [value.is_trainable for value in record.values]
    dependent = [value.kind == "input" for value in record.values]

    def settle(index: int) -> None:
        for source in record.values[index].sources:
            settle(source)
            live[index] |= live[source]
            dependent[index] |= dependent[source]

    for operation in record.operations:
        for index in operation.arguments:
            settle(index)
        for reads, writes, only_metadata in operation.steps:
            for index in reads:
                settle(index)
            for index in writes:
                live[index] |= any(live[read] for read in reads) and not only_metadata
                dependent[index] |= any(dependent[read] for read in reads) and not only_metadata
        if operation.is_random or operation.is_stateful or any(live[index] for index in operation.writes):
            for index in operation.writes:
                live[index] = True
    for index in range(len(record.values)):
        settle(index)
    return live, dependent


def is_live(operation: Operation, live: list[bool]) -> bool:
    """Whether the head has to run it: it is trainable, random, changes state, or reads what does."""
    return (
        operation.is_random
        or operation.is_stateful
        or any(live[index] for index in operation.writes)
        or any(live[index] for index in operation.inputs)
    )


def _sinks(record: Record, live: list[bool], opened: set[int]) -> set[int]:
    """The values of the trunk that the head needs: for trainable operations, for the output, for Python."""
    sinks = {slot.value for slot in slots_of(record.calls[0].output)}
    for operation in record.operations:
        if is_live(operation, live) or (operation.needs_data and operation.call in opened):
            sinks.update(operation.inputs)
    return {index for index in sinks if not live[index]}


def _cheapest(
    record: Record, sinks: set[int], live: list[bool], dependent: list[bool], batch_size: int, visible: set[int]
) -> set[int]:
    """Minimum vertex cut between the inputs and the sinks, nearest to the sinks.

    A vertex is a value and costs its bytes per example. What a costly operation gives is as good as an input: the
    flow starts there. Constants need no crossing: the head computes what depends on no example.
    """
    region: dict[int, list[int]] = {}
    starts = set()
    todo = [index for index in sinks if dependent[index]]
    while todo:
        index = todo.pop()
        if index in region:
            continue
        value = record.values[index]
        sources = list(value.sources)
        if value.operation >= 0:
            operation = record.operations[value.operation]
            if operation.is_cheap and not operation.needs_data:
                sources = operation.inputs
            else:
                starts.add(index)
        elif not value.sources:
            starts.add(index)
        region[index] = sorted({source for source in sources if dependent[source] and not live[source]} - {index})
        todo += region[index]
    if not region:
        return set()
    flow = _Flow()
    for index, sources in region.items():
        value = record.values[index]
        fits = value.shape[:1] == (batch_size,) and (index in visible)
        flow.edge((index, 0), (index, 1), max(1, value.size_bytes // batch_size) if fits else _INFINITE)
        for source in sources:
            flow.edge((source, 1), (index, 0), _INFINITE)
        if index in starts:
            flow.edge("source", (index, 0), _INFINITE)
    for index in sinks & region.keys():
        flow.edge((index, 1), "sink", _INFINITE)
    if flow.push("source", "sink") >= _INFINITE:
        raise SplitError("No tensor with one row per example separates the frozen part from the rest.")
    beyond = flow.reaches("sink")
    return {index for index in region if (index, 1) in beyond and (index, 0) not in beyond}


def _visible(record: Record, opened: set[int], *, inside: bool) -> set[int]:
    """The values that can be caught: inputs, outputs of calls that are not opened, and outputs of operations."""
    values = {value.index for value in record.values if value.kind == "input"}
    for call in record.calls:
        if call.index not in opened:
            values.update(slot.value for slot in slots_of(call.output))
    for operation in record.operations:
        # What is written in place cannot be handed out: the forward goes on with the tensor that it had.
        if inside and not operation.changes and operation.ordinal >= 0:
            values.update(slot.value for slot in slots_of(operation.outputs))
    return values


def _repeated(record: Record, sinks: set[int], cut: set[int], live: list[bool], dependent: list[bool]) -> set[int]:
    """The operations that the head runs: the live ones, and all between the cut (or constants) and what it needs."""
    repeated = {operation.index for operation in record.operations if is_live(operation, live)}
    todo, seen = list(sinks), set(cut)
    while todo:
        index = todo.pop()
        if index in seen:
            continue
        seen.add(index)
        value = record.values[index]
        todo += value.sources
        if value.operation >= 0:
            operation = record.operations[value.operation]
            repeated.add(operation.index)
            todo += [source for source in operation.inputs if not live[source]]
    return repeated


def _opened(record: Record, repeated: set[int], live: list[bool], forced: set[int]) -> set[int]:
    """The calls whose forward the head runs: those with an operation that it runs, or through which live values go."""
    opened = set(forced)
    for call in record.calls:
        touched = [*call.arguments, *(slot.value for slot in slots_of(call.output))]
        if any(index in repeated for index in call.operations) or any(live[index] for index in touched):
            opened.add(call.index)
    for index in sorted(opened, reverse=True):
        while index >= 0:
            opened.add(index)
            index = record.calls[index].parent
    return opened


def _skipped(record: Record, opened: set[int]) -> set[int]:
    """The outermost calls that are not opened."""
    return {
        call.index for call in record.calls if call.index not in opened and (call.parent < 0 or call.parent in opened)
    }


def _out_of_sight(record: Record, cut: set[int], skipped: set[int], opened: set[int]) -> set[int]:
    """Calls to open because a leaf is made inside them and reaches the head some other way than by their output."""
    given = {slot.value for index in skipped for slot in slots_of(record.calls[index].output)}
    unseen = set()
    for index in cut - given:
        operation = record.values[index].operation
        if operation < 0:
            continue
        call = record.operations[operation].call
        while call >= 0 and call not in opened:
            unseen.add(call)
            call = record.calls[call].parent
    return unseen


def _named(record: Record, cut: set[int], skipped: set[int]) -> dict[str, int]:
    """A name for each leaf, in the order in which the forward makes them."""
    owners: dict[int, str] = {}
    for index in sorted(skipped):
        call = record.calls[index]
        for slot in slots_of(call.output):
            owners.setdefault(slot.value, call.name or "output")
    names: dict[str, int] = {}
    for index in sorted(cut):
        value = record.values[index]
        if value.kind == "input":
            base = f"input:{value.name}"
        elif index in owners:
            base = owners[index]
        else:
            operation = record.operations[value.operation]
            parent = record.calls[operation.call].name
            base = f"{parent}.{operation.name}" if parent else operation.name
        count = sum(name.split("#")[0] == base for name in names)
        names[base if count == 0 else f"{base}#{count + 1}"] = index
    return names


def describe_cut(record: Record, choice: Choice, batch_size: int) -> Cut:
    """The choice as the user sees it."""
    leaves = []
    for name, index in choice.leaves.items():
        value = record.values[index]
        leaves.append(Leaf(name, value.shape[1:], value.dtype, prod(value.shape[1:]) * value.dtype.itemsize))
    total = sum(operation.flops for operation in record.operations)
    kept = sum(record.operations[index].flops for index in choice.repeated)
    note = ""
    if record.calls[0].index in choice.skipped:
        note = "Everything is frozen: the cut is the output, and the head has nothing to train."
    elif all(name.startswith("input:") for name in choice.leaves):
        note = "Nothing costly is frozen below the first trainable layer: the cut is the inputs themselves."
    return Cut(tuple(leaves), 1 - kept / total if total else 0.0, note)


_INFINITE = 1 << 60


class _Flow:
    """Maximum flow by shortest augmenting paths (Edmonds, Karp, 1972): the graphs have some hundred vertices."""

    def __init__(self) -> None:
        self.room: dict = {}

    def edge(self, start: object, end: object, capacity: int) -> None:
        """Add room from start to end."""
        self.room.setdefault(start, {}).setdefault(end, 0)
        self.room.setdefault(end, {}).setdefault(start, 0)
        self.room[start][end] = min(_INFINITE, self.room[start][end] + capacity)

    def push(self, source: object, sink: object) -> int:
        """Fill the graph; the size of the flow, _INFINITE when nothing bounds it."""
        total = 0
        while path := self._path(source, sink):
            amount = min(self.room[start][end] for start, end in path)
            if amount >= _INFINITE:
                return _INFINITE
            for start, end in path:
                if self.room[start][end] < _INFINITE:
                    self.room[start][end] -= amount
                if self.room[end][start] < _INFINITE:
                    self.room[end][start] += amount
            total += amount
        return total

    def _path(self, source: object, sink: object) -> list[tuple]:
        """A shortest way with room, as edges."""
        before: dict = {source: None}
        todo = deque([source])
        while todo and sink not in before:
            vertex = todo.popleft()
            for end, room in self.room.get(vertex, {}).items():
                if room > 0 and end not in before:
                    before[end] = vertex
                    todo.append(end)
        path = []
        vertex = sink if sink in before else source
        while before[vertex] is not None:
            path.append((before[vertex], vertex))
            vertex = before[vertex]
        return path

    def reaches(self, sink: object) -> set:
        """The vertices from which the sink can still be reached."""
        seen, todo = {sink}, [sink]
        while todo:
            end = todo.pop()
            for start in self.room.get(end, {}):
                if start not in seen and self.room[start][end] > 0:
                    seen.add(start)
                    todo.append(start)
        return seen
