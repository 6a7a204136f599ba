"""Choose where to cut a recorded forward: the cheapest tensors that carry all that the head needs of the trunk."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from regraft.cuts.cut import Cut, Leaf
from regraft.cuts.hindrances import hindrance_note
from regraft.cuts.min_cut import INFINITE, Flow
from regraft.cuts.record import Operation, Record, slots_of
from regraft.cuts.sizes import ROWS, Size, Sizes, holds_numbers
from regraft.errors import SplitError

# A leaf without a row for each example is taken only when no other cut is possible.
WHOLE_BATCH_COST = 10_000


@dataclass
class Choice:
    """The cut of a record in the recorder's terms, ready to be run.

    leaves   leaf name → value
    skipped  indices of the calls that the head does not run
    opened   indices of the calls whose own forward the head runs
    repeated indices of the operations that the head runs itself: the trainable ones and what is cheaper to repeat
    whole    whether a leaf may lack a row for each example, so that the features hold for a batch as a whole
    """

    leaves: dict[str, int]
    skipped: set[int]
    opened: set[int]
    repeated: set[int]
    live: list[bool] = field(repr=False)
    dependent: list[bool] = field(repr=False)
    whole: bool = False


def choose_cut(
    record: Record, sizes: Sizes, *, needed: Iterable[int] = (), inside: bool = True, whole: bool = False,
    at: Collection[str] | None = None, unfit: Collection[int] = (),
) -> Choice:  # fmt: skip
    """The cheapest cut, in bytes per example, that leaves no costly frozen operation in the head.

    needed   values that the head needs beside those that the record shows
    inside   whether the cut may lie inside a frozen layer when that is cheaper
    whole    whether a leaf may lack a row for each example
    at       the names of the layers whose outputs are to cross; inputs may cross beside them
    unfit    values that may not cross: their rows depend on the rest of the batch

    Raises SplitError when nothing with one row per example can be cut.
    """
    live, dependent = _liveness(record)
    trainable = {operation.index for operation in record.operations if is_live(operation, live)}
    opened = _opened(record, trainable, live, _impure(record, sizes, dependent))
    wanted = set(needed)
    while True:
        sinks = _sinks(record, live, opened) | {value for value in wanted if not live[value]}
        costs = _costs(record, sizes, _visible(record, opened, inside=inside, at=at), whole=whole, at=at)
        costs = {value: cost for value, cost in costs.items() if value not in unfit}
        costly = _costly(record) - set(unfit) if at is None else set()
        try:
            cut = _cheapest(record, sinks, live, dependent, costs, costly)
        except SplitError:  # something costly cannot cross (it is written in place): the head computes that again
            cut = _cheapest(record, sinks, live, dependent, costs, costly & costs.keys())
        repeated = _repeated(record, sinks, cut, live, dependent)
        now_open = _opened(record, repeated, live, opened)
        skipped = _skipped(record, now_open)
        unseen = _out_of_sight(record, cut, skipped, now_open) | _passing_on(record, cut, repeated, skipped)
        if now_open | unseen == opened:
            return Choice(_named(record, cut, skipped), skipped, now_open, repeated, live, dependent, whole)
        opened |= now_open | unseen


def _impure(record: Record, sizes: Sizes, dependent: list[bool]) -> set[int]:
    """Calls that the head has to run: they give Python numbers made of data, or leave more than their output."""
    reading = {op.call for op in record.operations if op.needs_data and any(dependent[index] for index in op.arguments)}
    for index in sorted(reading, reverse=True):
        while index >= 0:
            reading.add(index)
            index = record.calls[index].parent
    numbered = {call.index for call in record.calls if call.index in reading and holds_numbers(call.output)}
    return numbered | sizes.unstable | {call.index for call in record.calls if call.has_traces}


def _liveness(record: Record) -> tuple[list[bool], list[bool]]:
    """For each value: does it depend on a trainable operation; does it depend on the examples."""
    live = [value.is_trainable for value in record.values]
    dependent = [value.kind == "input" for value in record.values]

    def settle(index: int) -> None:
        for source in record.values[index].sources:
            settle(source)
            live[index] |= live[source]
            dependent[index] |= dependent[source]

    # A forward that asks Python to decide by trainable or random data is, from there on, as trainable as that data.
    decided = dict(reversed(record.draws))
    for operation in record.operations:
        for index in operation.arguments:
            settle(index)
        if operation.needs_data and any(live[index] for index in operation.inputs):
            decided.setdefault(operation.call, operation.index + 1)
        for reads, writes, only_metadata in operation.steps:
            for index in reads:
                settle(index)
            for index in writes:
                live[index] |= any(live[read] for read in reads) and not only_metadata
                dependent[index] |= any(dependent[read] for read in reads) and not only_metadata
        is_decided = _is_decided(record, operation, decided)
        operation.is_decided = is_decided
        if is_decided or operation.is_random or operation.is_stateful or any(live[w] for w in operation.writes):
            for index in operation.writes:
                live[index] = True
    for index in range(len(record.values)):
        settle(index)
    return live, dependent


def _is_decided(record: Record, operation: Operation, decided: dict[int, int]) -> bool:
    """Whether a forward above the operation had, before it, decided by trainable or random data."""
    call = operation.call
    while call >= 0 and decided:
        if operation.index >= decided.get(call, operation.index + 1):
            return True
        call = record.calls[call].parent
    return False


def is_live(operation: Operation, live: list[bool]) -> bool:
    """Whether the head has to run it: it is trainable, random, changes state, or reads what does."""
    return (
        operation.is_random
        or operation.is_stateful
        or operation.is_decided
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


def _costly(record: Record) -> set[int]:
    """What a product, a convolution and the like give: not to be computed again in the head."""
    return {index for operation in record.operations if not operation.is_cheap for index in operation.writes}


def _costs(
    record: Record, sizes: Sizes, visible: set[int], *, whole: bool, at: Collection[str] | None
) -> dict[int, int]:
    """What it costs that a value crosses: its bytes per example."""
    costs = {}
    for index in visible:
        value = record.values[index]
        if sizes.rows(index) is not None:
            costs[index] = max(1, value.size_bytes // max(1, sizes.example[ROWS]))
        elif whole:
            costs[index] = max(1, value.size_bytes) * WHOLE_BATCH_COST
        if at is not None and value.kind == "input" and index in costs:
            costs[index] *= WHOLE_BATCH_COST
    return costs


def _cheapest(
    record: Record, sinks: set[int], live: list[bool], dependent: list[bool], costs: dict[int, int], costly: set[int]
) -> set[int]:
    """Minimum vertex cut between the inputs and the sinks, nearest to the sinks.

    A vertex is a value. What a costly operation gives is as good as an input: the flow starts there. Constants need no
    crossing: the head computes what depends on no example.
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
            sources = record.operations[value.operation].inputs
            if index in costly:
                sources = list(value.sources)
                starts.add(index)
        elif not value.sources:
            starts.add(index)
        region[index] = sorted({source for source in sources if dependent[source] and not live[source]} - {index})
        todo += region[index]
    if not region:
        return set()
    flow = Flow()
    for index, sources in region.items():
        flow.edge((index, 0), (index, 1), costs.get(index, INFINITE))
        for source in sources:
            flow.edge((source, 1), (index, 0), INFINITE)
        if index in starts:
            flow.edge("source", (index, 0), INFINITE)
    for index in sinks & region.keys():
        flow.edge((index, 1), "sink", INFINITE)
    if flow.push("source", "sink") >= INFINITE:
        raise SplitError("No tensor with one row per example separates the frozen part from the rest.")
    beyond = flow.reaches("sink")
    return {index for index in region if (index, 1) in beyond and (index, 0) not in beyond}


def _visible(record: Record, opened: set[int], *, inside: bool, at: Collection[str] | None) -> set[int]:
    """The values that can be caught: inputs, outputs of calls that are not opened, and outputs of operations."""
    values = {value.index for value in record.values if value.kind == "input"}
    for call in record.calls:
        if call.index not in opened and (at is None or call.name in at):
            values.update(slot.value for slot in slots_of(call.output))
    for operation in record.operations:
        # What is written in place cannot be handed out: the forward goes on with the tensor that it had.
        if inside and at is None and not operation.changes and operation.ordinal >= 0:
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


def _passing_on(record: Record, cut: set[int], repeated: set[int], skipped: set[int]) -> set[int]:
    """Skipped calls that hand on what the head holds with data (an unused dropout does): they run."""
    held = {value for index in repeated for value in record.operations[index].writes} - cut
    return {i for i in skipped if any(slot.value in held for slot in slots_of(record.calls[i].output))}


def _named(record: Record, cut: set[int], skipped: set[int]) -> dict[str, int]:
    """A name for each leaf, in the order in which the forward makes them.

    The name says which module or function gave it, and counts what that gave before, leaf or not: so the same name
    means the same thing in training and in evaluation.
    """
    given: dict[int, str] = {}
    counts: dict[str, int] = {}

    def name(value: int, base: str) -> None:
        if value not in given:
            counts[base] = counts.get(base, 0) + 1
            given[value] = base if counts[base] == 1 else f"{base}#{counts[base]}"

    for value in record.values:
        if value.kind == "input":
            name(value.index, f"input:{value.name}")
    for index in sorted(skipped):
        for slot in slots_of(record.calls[index].output):
            if _made_inside(record, slot.value, index):  # dropout hands its input on in evaluation: not its own
                name(slot.value, record.calls[index].name or "output")
    for operation in record.operations:
        parent = record.calls[operation.call].name
        for slot in slots_of(operation.outputs):
            name(slot.value, f"{parent}.{operation.name}" if parent else operation.name)
    return {given[index]: index for index in sorted(cut)}


def _made_inside(record: Record, value: int, call: int) -> bool:
    """Whether an operation of this call, or of one that it made, gave the value."""
    operation = record.values[value].operation
    if operation < 0:
        return True
    at = record.operations[operation].call
    while at > call:  # a call is numbered before those that it makes
        at = record.calls[at].parent
    return at == call


def describe_cut(record: Record, sizes: Sizes, choice: Choice, *, by_row: bool) -> Cut:
    """The choice as the user sees it."""
    leaves = []
    for name, index in choice.leaves.items():
        value, place = record.values[index], sizes.rows(index)
        shape: list[int | Size | None] = [*sizes.shapes[index]]
        now: list[int] = [*value.shape]
        rows = 1
        if by_row and place is not None:
            axis, each = place
            rows = max(1, sizes.example[ROWS])
            merged = sizes.shapes[index][axis]
            if each != 1 and isinstance(merged, Size):
                others = tuple(symbol for symbol in merged.times if symbol != ROWS)
                shape[axis], now[axis] = (replace(merged, times=others), now[axis] // rows) if others else (each, each)
            else:
                del shape[axis], now[axis]
        varying = tuple(axis for axis, size in enumerate(shape) if isinstance(size, Size))
        leaves.append(Leaf(name, tuple(now), value.dtype, value.size_bytes // rows, varying))
    total = sum(operation.flops for operation in record.operations)
    kept = sum(record.operations[index].flops for index in choice.repeated)
    return Cut(tuple(leaves), 1 - kept / total if total else 0.0, by_row, _note(record, choice, by_row=by_row))


def _note(record: Record, choice: Choice, *, by_row: bool) -> str:
    """What the user should know of this cut."""
    if record.calls[0].index in choice.skipped:
        return "Everything is frozen: the cut is the output, and the head has nothing to train."
    hindrance = hindrance_note(record, choice.repeated)
    notes = [hindrance] if hindrance else []
    if not by_row:
        notes.append(
            "These features hold for their batch as a whole: they have no row for each example, or mix the examples."
        )
    elif all(name.startswith("input:") for name in choice.leaves) and not hindrance:
        notes.append("Nothing costly is frozen below the first trainable layer: the cut is the inputs themselves.")
    return "\n".join(notes)
