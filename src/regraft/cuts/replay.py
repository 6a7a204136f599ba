"""A recorded forward with a choice of where to cut it: runs its trunk and its head.

The user's own forward runs. A skipped call gives its leaf, or a stub: a tensor with shape and type and no data.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from regraft.cuts.arguments import Pair, by_name, pairs
from regraft.cuts.batches import Batch
from regraft.cuts.choosing import Choice
from regraft.cuts.computation import computation_of
from regraft.cuts.leaf_rows import LeafRows, rows_of
from regraft.cuts.record import Operation, Record, slots_of
from regraft.cuts.recording import shadowed_forwards
from regraft.cuts.replay_head import HeadRun
from regraft.cuts.replay_trunk import TrunkRun, measured
from regraft.cuts.sizes import ROWS, Size, Sizes
from regraft.errors import SplitError
from regraft.tensors.trees import NUMBERS, find_in


class Replay:
    """A recorded forward with a choice of where to cut it: runs its trunk and its head with the model's own modules.

    by_row       whether each leaf has one row per example
    fixed        lengths that the head takes from the example, since no leaf tells them
    free         lengths that the head takes from the example and that are proven to make no difference
    reads_plain  whether the head looks at arguments that are no tensors
    unfilled     classes of objects in the outputs to which skipped layers add what the head lacks
    laid_out     leaves whose order in memory is known from a run of the trunk, the first on the example
    """

    def __init__(self, model: nn.Module, record: Record, sizes: Sizes, choice: Choice, batch: Batch) -> None:
        self.model, self.record, self.sizes, self.choice, self.batch = model, record, sizes, choice, batch
        self.fixed: set[str] = set()
        self.free: set[str] = set()
        self.unfilled: set[type] = set()
        self.reads_plain = True
        self.laid_out: set[int] = set()
        self._told: dict[tuple, dict[str, int | None]] = {}
        self._shapes: dict[tuple, tuple[int, ...] | None] = {}
        self.forms: dict[tuple, dict[int, tuple[tuple, bool]]] = {}  # lengths → of stubs, see `HeadRun.form_of`
        places = {v: rows_of(record.values[v], sizes.rows(v)) for v in choice.leaves.values()}
        self.leaf_rows: dict[int, LeafRows] = {v: rows for v, rows in places.items() if rows is not None}
        self.by_row = len(self.leaf_rows) == len(places) and not choice.whole
        self.leaf_rows = self.leaf_rows if self.by_row else {}
        self.modules = dict(model.named_modules())
        self.children = record.children()
        self.called = {call.name for call in record.calls}
        self.numbers: dict[int, list[Any]] = {
            index: list(find_in(record.calls[index].output, (*NUMBERS, Size))) for index in choice.skipped
        }
        self.outputs = self._outputs()
        self.operations = self._operations()
        self._name_leaves()
        writes = [value for operation in record.operations for value in operation.changes.values()]
        self.overwritten = {
            leaf
            for leaf in choice.leaves.values()
            if any(w > leaf and record.values[w].storage == record.values[leaf].storage for w in writes)
        }

    def _outputs(self) -> dict[str, list[Any]]:
        """Module → for each of its calls in the head: its output, in a tuple; None where its forward runs."""
        outputs: dict[str, list[Any]] = {}
        for call in self.record.calls:
            if call.parent < 0 or call.parent in self.choice.opened:
                is_skipped = call.index in self.choice.skipped
                outputs.setdefault(call.name, []).append((call.output,) if is_skipped else None)
        return {name: calls for name, calls in outputs.items() if any(call is not None for call in calls)}

    def _operations(self) -> dict[tuple, list[Operation]]:
        """(function, values of its stubs) → the operations of opened calls that have a stub among their arguments."""
        found: dict[tuple, list[Operation]] = {}
        real = self._real_values()
        for operation in self.record.operations:
            stubs = tuple(value for value in operation.arguments if value not in real)
            if operation.call in self.choice.opened and stubs:
                found.setdefault((operation.name, stubs), []).append(operation)
        return found

    def row_shapes(self, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, tuple[int | None, ...]]:
        """The shape of a row of each leaf for these arguments; None for a size that grows in no straight line."""
        symbols, found = self.batch.measured(args, kwargs), {}
        for name, value in self.choice.leaves.items() if self.by_row else ():
            rows = self.leaf_rows[value]
            sizes = [size.at(symbols) if isinstance(size, Size) else size for size in self.sizes.shapes[value]]
            sizes[rows.axis : rows.axis + 1] = [rows.each] if rows.each > 1 else []
            found[name] = tuple(sizes)
        return found

    def rename(self, leaf: str, name: str) -> None:
        """Call a leaf by another name."""
        self.choice.leaves = {name if old == leaf else old: value for old, value in self.choice.leaves.items()}
        self._name_leaves()

    def _name_leaves(self) -> None:
        """Where the trunk finds each leaf: at the output of a skipped call, or inside an opened one."""
        self.leaf_names = {value: name for name, value in self.choice.leaves.items()}
        self.given_by_calls: dict[int, list[tuple[int, str]]] = {}
        for index in self.choice.skipped:
            slots = enumerate(slots_of(self.record.calls[index].output))
            places = [(at, self.leaf_names[slot.value]) for at, slot in slots if slot.value in self.leaf_names]
            if places:
                self.given_by_calls[index] = places
        given = {name for places in self.given_by_calls.values() for _, name in places}
        self.caught_inside: dict[tuple[int, str, int], list[tuple[int, str]]] = {}
        for name, index in self.choice.leaves.items():
            value = self.record.values[index]
            if name not in given and value.kind != "input":
                operation = self.record.operations[value.operation]
                position = [slot.value for slot in slots_of(operation.outputs)].index(index)
                key = (operation.call, operation.name, operation.ordinal)
                self.caught_inside.setdefault(key, []).append((position, name))
        self.caught_names = {key[:2] for key in self.caught_inside}

    def _real_values(self) -> set[int]:
        """The values that the head holds with data."""
        kinds = ("parameter", "buffer", "constant")
        real = {value.index for value in self.record.values if value.kind in kinds} | set(self.choice.leaves.values())
        real |= {v for index in self.choice.repeated for v in self.record.operations[index].writes}
        for value in self.record.values:
            if value.sources and all(source in real for source in value.sources):
                real.add(value.index)
        for operation in self.record.operations:
            # An operation of an opened call on nothing but real tensors runs as it is, needed or not.
            if operation.call in self.choice.opened and all(argument in real for argument in operation.arguments):
                real.update(operation.writes)
        return real

    def head(self, features: Mapping[str, Tensor], given: Callable[[Any], Any] = lambda arguments: arguments) -> Any:
        """The model's output from the features, its forward called with the arguments as `given` makes them."""
        missing = [name for name in self.choice.leaves if name not in features]
        if missing:
            raise SplitError(
                f"The features lack {', '.join(missing)}; they hold {', '.join(features) or 'nothing'}.\n"
                "Compute them with the trunk of the same split."
            )
        return HeadRun(self, features).run(given)

    def trunk(self, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
        """The features of these inputs: the model's forward without gradients, up to the last leaf."""
        inputs = self._beside_the_example(args, kwargs)
        run = TrunkRun(self, measured(self, args, kwargs))
        return run.run(lambda: self.model(*args, **kwargs), inputs)

    def trunk_from(self, shallower: "Replay", features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The features from those of a shallower cut of the same model, without the inputs."""
        head = HeadRun(shallower, features)
        args, kwargs = head.fill(shallower.record.inputs)
        run = TrunkRun(self, head.symbols)
        with shadowed_forwards(head.shadows(dict.fromkeys(shallower.outputs, 0))):
            return run.run(lambda: self.model(*args, **kwargs), self._beside_the_example(args, kwargs))

    def _beside_the_example(self, args: tuple, kwargs: Mapping[str, Any]) -> list[Pair]:
        """The tensors of these arguments, each with the recorded one in its place; refused where these differ."""
        recorded, given = self._recorded_arguments, by_name(self.model, args, kwargs)
        any_count = self.batch.rows if self.batch.is_listed and self.by_row else -1
        return list(pairs(recorded, given, plain=self.reads_plain, any_count=any_count))

    @cached_property
    def _recorded_arguments(self) -> dict[str, Any]:
        return by_name(self.model, *self.record.inputs)

    def leaf(self, value: int, rows: Tensor) -> Tensor:
        """A leaf as the forward handed it on, from its rows."""
        places = self.leaf_rows.get(value)
        return rows if places is None else places.from_rows(rows)

    def symbols_of(self, leaves: Mapping[int, Tensor], rows: int | None) -> dict[str, int | None]:
        """The lengths that these leaves of so many rows tell; None for what they do not tell."""
        key = (rows, *(leaf.shape for leaf in leaves.values()))
        if key not in self._told:  # a head runs thousands of steps on batches of one shape
            self._told[key] = self._symbols_of(leaves, rows)
        return self._told[key]

    def shape_of(self, value: int, symbols: Mapping[str, int | None]) -> tuple[int, ...] | None:
        """The shape of a value for these symbols; None where it cannot be told."""
        key = (value, tuple(symbols.values()))
        if key not in self._shapes:
            self._shapes[key] = self.sizes.shape(self.record, value, symbols)
        return self._shapes[key]

    def _symbols_of(self, leaves: Mapping[int, Tensor], rows: int | None) -> dict[str, int | None]:
        record, example = self.record, self.sizes.example
        as_recorded = all(leaf.shape == record.values[value].shape for value, leaf in leaves.items())
        if as_recorded and rows in (None, example[ROWS]) and not self.varies(leaves):
            return dict(example)
        found: dict[str, int | None] = dict.fromkeys(example) | {ROWS: rows}
        for value, leaf in leaves.items():
            for size, got in zip(self.sizes.shapes[value], leaf.shape, strict=True):
                told = size.solved(got, found) if isinstance(size, Size) else None
                if told is not None and found[told[0]] is None:
                    found[told[0]] = told[1]
        for value, leaf in leaves.items():
            expected = self.sizes.shape(record, value, found)
            if self.by_row and expected is not None and expected != tuple(leaf.shape):
                raise SplitError(
                    f"{self.leaf_names[value]} has the shape {tuple(leaf.shape)}; with the other features it would be "
                    f"{expected}.\nCompute the features with the trunk of the same split."
                )
        return found

    def varies(self, leaves: Mapping[int, Tensor]) -> bool:
        """Whether a symbol is told by none of the leaves, so that even the example's sizes leave it open."""
        told = {
            symbol
            for value in leaves
            for size in self.sizes.shapes[value]
            if isinstance(size, Size)
            for symbol in (*dict(size.slopes), *size.times)
        }
        return bool(leaves) and bool(set(self.sizes.example) - told - {ROWS})

    def name_of(self, value: int) -> str:
        """Which layer or function gave a value."""
        recorded = self.record.values[value]
        if recorded.kind == "input":
            return f"the input {recorded.name}"
        if recorded.operation < 0:
            return recorded.name or "a tensor made in the forward"
        operation = self.record.operations[recorded.operation]
        return self.record.calls[operation.call].name or operation.name

    def modules_before_the_cut(self) -> set[str]:
        """The names of the modules that ran in the trunk."""
        before = self._operations_before_the_cut()
        return {self.record.calls[operation.call].name for operation in before}

    def computation_before_the_cut(self) -> list[list[Any]]:
        """What the leaves are computed by, see `computation_of`."""
        return computation_of(self.record, self._operations_before_the_cut())

    def tensors_before_the_cut(self) -> set[str]:
        """The names of the parameters and buffers that the leaves depend on."""
        values = {value for operation in self._operations_before_the_cut() for value in operation.inputs}
        kinds = ("parameter", "buffer")
        return {self.record.values[v].name for v in self._roots(values) if self.record.values[v].kind in kinds}

    def _roots(self, values: set[int]) -> set[int]:
        """The values together with those whose storage they look at."""
        found, todo = set(), list(values)
        while todo:
            value = todo.pop()
            if value not in found:
                found.add(value)
                todo += self.record.values[value].sources
        return found

    def _operations_before_the_cut(self) -> list[Operation]:
        """The operations that the leaves depend on."""
        found: set[int] = set()
        todo, seen = list(self.choice.leaves.values()), set()
        while todo:
            index = todo.pop()
            if index in seen:
                continue
            seen.add(index)
            value = self.record.values[index]
            todo += value.sources
            if value.operation >= 0:
                found.add(value.operation)
                todo += self.record.operations[value.operation].inputs
        return [self.record.operations[index] for index in sorted(found)]
