"""A network → the lines of its forward and the constructors of its layers, each tried on empty tensors."""

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from regraft.arrays import ArrayInfo
from regraft.errors import BuildError
from regraft.networks.assigning import are_sizes, held_of, step_values, targets_text
from regraft.networks.axis_orders import Held, Order, as_stored, channels_second, moved, spread
from regraft.networks.branching import branch_lines, if_text, refusal_lines
from regraft.networks.flattened import is_flat_already, keeps_flat
from regraft.networks.module_tree import ModuleTree
from regraft.networks.names import Variables, variable_name
from regraft.networks.network import Literal, Network, NetworkInput, Node, Shapes
from regraft.networks.operators import Operator, OperatorCall, python
from regraft.networks.operators_sizes import TAKE_SIZES
from regraft.networks.runtime_functions import FRAME, HELPERS
from regraft.networks.samples import sample_shapes
from regraft.networks.source import ModuleSource, Statement, StepValue, words_of
from regraft.networks.vocabulary import OPERATORS, RENAMING, refuse_unknown
from regraft.networks.words import refuse_code

_BRANCHES = ("then", "else")


@dataclass
class _Decisions:
    """What a first pass learns: inputs that the code takes in another order, flattened maps that keep the file's."""

    entries: dict[str, Order] = field(default_factory=dict)
    unflat: set[str] = field(default_factory=set)


class _AgainError(Exception):
    """A decision was wrong: write the network anew."""


def emit(
    network: Network, infos: Mapping[str, ArrayInfo], shapes: Mapping[str, Sequence[int]] | None = None
) -> ModuleSource:
    """The network's code. Raises BuildError with everything that has no translation, or the step that fails.

    shapes  input → a shape at which the network works, where its file leaves sizes free and only some are possible
    """
    refuse_unknown(network)
    refuse_code(network)
    failed: BuildError | None = None
    for sample in sample_shapes(network.entries, shapes or {}):
        try:
            return _emitted(network, infos, sample)
        except BuildError as error:
            failed = failed or error
    raise failed or BuildError("The network has no inputs.")


def _emitted(network: Network, infos: Mapping[str, ArrayInfo], shapes: Shapes) -> ModuleSource:
    """The code, tried on inputs of these shapes."""
    decisions = _Decisions()
    while True:
        try:
            return _Emitter(network, infos, decisions, shapes).run()
        except _AgainError:
            continue


class _Emitter:
    """One pass over the network."""

    def __init__(self, network: Network, infos: Mapping[str, ArrayInfo], decisions: _Decisions, shapes: Shapes) -> None:
        self.network, self.infos, self.decisions, self.shapes = network, infos, decisions, shapes
        self.source, self.variables = ModuleSource(), Variables()
        self.values: dict[str, Held] = {}
        self.flattened_by: dict[str, str] = {}  # a flattened value → the value that the flatten gave
        self.renamed: dict[str, str] = {}  # a value that is another with its axes renamed → that value
        self.moves: dict[str, list[Order]] = {entry.name: [] for entry in network.entries}
        # A value whose order an input decides → (the input, for each axis of the value that of the input).
        self.wishes = {entry.name: (entry.name, as_stored(len(entry.shape))) for entry in network.entries}
        self.uses = Counter(value for node in network.nodes for value in node.values)
        self.uses.update(network.outputs)
        self.modules = ModuleTree(network, infos, self.source)
        self.frame: dict[str, Any] = {**FRAME, **HELPERS, "self": self.modules.root, "device": "meta"}

    def run(self) -> ModuleSource:
        """The whole network."""
        for entry in self.network.entries:
            self._enter(entry)
        for node in self.network.nodes:
            self._node(node)
        self._leave()
        self._improve_entries()
        self.source.children = self.modules.children
        return self.source

    # --- inputs and outputs -------------------------------------------------------------------------------------------

    def _enter(self, entry: NetworkInput) -> None:
        rank = len(entry.shape)
        order = self.decisions.entries.get(entry.name, as_stored(rank))
        sizes = self.shapes[entry.name]
        shape = tuple(sizes[axis] for axis in order)
        single = len(self.network.entries) == 1
        name = self.variables.take(entry.name, "x" if single else variable_name(entry.name))
        self.values[entry.name] = Held(name, shape, entry.dtype, order)
        self.frame[name] = torch.empty(shape, dtype=getattr(torch, entry.dtype), device="meta")
        known = tuple(entry.shape[axis] for axis in order)
        words = ", ".join("n" if place == 0 else str(size or "any") for place, size in enumerate(known))
        self.source.inputs.append((name, f"({words})", entry.dtype))
        self.source.entries.append(StepValue(entry.name, name, order))
        if order != as_stored(rank):
            self.source.notes.append(
                f"The file takes {entry.name} with its channels last, the module as the second axis: ({words})."
            )

    def _leave(self) -> None:
        is_turned = any(order != as_stored(len(order)) for order in self.decisions.entries.values())
        for name in self.network.outputs:
            held = self._returned(self.values[name])
            channels_first = held.order == channels_second(held.rank) and held.rank > 3
            keeps = is_turned and channels_first
            given = held if keeps else self._in_order(name, held, as_stored(held.rank))
            if keeps and held.order != as_stored(held.rank):
                self.source.notes.append("The output has its channels as the second axis, in the file as the last.")
            if held.flat is not None:
                self._unflatten(name)
            self.source.outputs.append(given.text)
            self.source.results.append(StepValue(name, given.text, given.order))
            self.source.shapes.append(words_of(held.shape))

    def _returned(self, value: Held) -> Held:
        """What the network gives: a tensor, also for sizes."""
        if value.shape is not None:
            return value
        return replace(value, text=f"torch.tensor({value.text})", shape=(), order=())

    def _improve_entries(self) -> None:
        """Take an input in the order in which all its uses want it."""
        better = {
            name: orders[0]
            for name, orders in self.moves.items()
            if set(orders) == {channels_second(len(orders[0]) if orders else 1)} and len(orders[0]) > 3
            if name not in self.decisions.entries
        }
        if better:
            self.decisions.entries |= better
            raise _AgainError

    # --- nodes --------------------------------------------------------------------------------------------------------

    def _node(self, node: Node) -> None:
        inputs = [self._input(node, index) for index in range(len(node.inputs))]
        ways = (self._branch, self._renamed, self._flatten, self._sizes)
        if any(way(node, inputs) for way in ways):
            return
        operator = OPERATORS[node.operator]
        inputs = self._as_tensors(node, inputs)
        flat = self._flat_of(node, operator, inputs)
        arrangement = operator.arrange(node.settings, [value for value in inputs if value is not None])
        taken = iter(arrangement.inputs)
        turned = [
            None if value is None else self._in_order(name, value, next(taken))
            for name, value in zip(node.inputs, inputs, strict=True)
        ]
        call = self._call(node, arrangement.settings, turned)
        if operator.layer is not None:
            call = replace(call, module=self.modules.layer(node, operator.layer(call), flat, self.frame))
        elif arrangement.inputs[:1] == (arrangement.output,) and node.inputs[0] in self.wishes:
            self.wishes.update(dict.fromkeys(node.outputs, self.wishes[str(node.inputs[0])]))
        self._assign(node, operator.written(call), arrangement.output, flat)

    def _call(self, node: Node, settings: Mapping[str, object], inputs: Sequence[Held | None]) -> OperatorCall:
        """The call of a node on these inputs; `settings` are those that their order changes."""
        texts = tuple("None" if value is None else value.text for value in inputs)
        shapes = {role: array.shape_in(self.infos) for role, array in node.arrays.items()}
        return OperatorCall({**node.settings, **settings}, texts, tuple(inputs), shapes)

    def _input(self, node: Node, index: int) -> Held | None:
        given = node.inputs[index]
        if given is None:
            return None
        if isinstance(given, str):
            return self.values[given]
        if isinstance(given, Literal):
            return Held(python(given.value), None, given.dtype, plain=given.value, is_plain=True)
        return self.modules.tensor(given)

    def _as_tensors(self, node: Node, inputs: Sequence[Held | None]) -> list[Held | None]:
        """The inputs as tensors, but for those that an operator takes as sizes."""
        first = TAKE_SIZES.get(node.operator, len(inputs))
        return [self.modules.as_tensor(value) if index < first else value for index, value in enumerate(inputs)]

    # --- orders -------------------------------------------------------------------------------------------------------

    def _in_order(self, name: object, value: Held, order: Order) -> Held:
        """The value with its axes in this order; of fewer axes, so that it spreads over a map of this order."""
        if not value.rank or value.order == order:
            return value
        if value.rank < len(order):
            return spread(self._in_order(name, value, as_stored(value.rank)), order)
        if isinstance(name, str) and name in self.wishes:
            entry, of_entry = self.wishes[name]
            self.moves[entry].append(tuple(of_entry[axis] for axis in order))
        axes = moved(value.order, order)
        shape = tuple((value.shape or ())[axis] for axis in axes)
        return replace(value, text=f"{value.text}.permute({', '.join(map(str, axes))})", shape=shape, order=order)

    def _renamed(self, node: Node, inputs: Sequence[Held | None]) -> bool:
        """Steps that only give the axes of the file another order: nothing moves in the code until a step needs it."""
        value = inputs[0]
        if value is None or value.shape is None or not (node.operator in RENAMING or is_flat_already(node, value)):
            return False
        if value.flat is not None:
            self._unflatten(str(node.inputs[0]))
        last = (0, *range(2, value.rank), 1)
        fixed = {"channels_last": last, "flatten": as_stored(value.rank)}.get(node.operator)
        axes = fixed or tuple(axis % value.rank for axis in node.settings["axes"])
        order = tuple(axes.index(axis) for axis in value.order)
        name = node.outputs[0]
        self.values[name] = replace(value, order=order)
        given = str(node.inputs[0])
        root = self.renamed.get(given, given)
        self.uses[root] += self.uses[name] - 1
        self.renamed[name] = root
        if given in self.wishes:
            entry, before = self.wishes[given]
            self.wishes[name] = (entry, tuple(before[axis] for axis in axes))
        return True

    def _flatten(self, node: Node, inputs: Sequence[Held | None]) -> bool:
        """Flatten a map in the code's order, where what follows can take it; False where the file's order is needed."""
        if node.operator != "flatten" or node.outputs[0] in self.decisions.unflat:
            return False
        value = inputs[0]
        if value is None or value.order == as_stored(value.rank):
            return False
        if node.settings.get("start", 1) != 1 or value.shape is None:
            return False
        sizes = tuple(value.shape[value.order.index(axis)] for axis in range(1, value.rank))
        order = tuple(axis - 1 for axis in value.order[1:])
        self._assign(node, f"torch.flatten({value.text}, 1)", (0, 1), (sizes, order))
        self.flattened_by[node.outputs[0]] = node.outputs[0]
        return True

    def _flat_of(self, node: Node, operator: Operator, inputs: Sequence[Held | None]) -> Any:
        """How the first input is flattened. Starts anew where a step cannot take values in the code's order."""
        flats = [
            (name, value) for name, value in zip(node.inputs, inputs, strict=True) if value is not None and value.flat
        ]
        if not flats:
            return None
        if not operator.flat or len(flats) > 1 or node.layer in self._shared():
            self._unflatten(str(flats[0][0]))
        name, value = flats[0]
        self.flattened_by.update(dict.fromkeys(node.outputs, self.flattened_by[str(name)]))
        return value.flat

    def _shared(self) -> set[str]:
        """Layers that are called several times, whose arrays must suit every call."""
        counts = Counter(node.layer for node in self.network.nodes if node.arrays)
        return {layer for layer, count in counts.items() if count > 1}

    def _unflatten(self, name: str) -> None:
        self.decisions.unflat.add(self.flattened_by[name])
        raise _AgainError

    # --- statements ---------------------------------------------------------------------------------------------------

    def _sizes(self, node: Node, inputs: Sequence[Held | None]) -> bool:
        """Write a step on sizes, which are numbers of Python; False where it needs a tensor."""
        write = OPERATORS[node.operator].sizes
        if write is None or not are_sizes(inputs):
            return False
        texts = tuple("None" if value is None else value.text for value in inputs)
        text = write(OperatorCall(node.settings, texts, tuple(inputs)))
        if text:
            self._assign(node, text, (), None)
        return bool(text)

    def _branch(self, node: Node, inputs: Sequence[Held | None]) -> bool:
        """Two networks, of which a condition chooses one as the module runs; False for other steps."""
        if node.operator != "if":
            return False
        condition = inputs[0]
        assert condition is not None
        chosen = None if condition.shape is not None else 0 if condition.plain else 1
        inner = [self._nested(node.settings[word], chosen in (None, place)) for place, word in enumerate(_BRANCHES)]
        self._release(node)
        targets = tuple(self.variables.take(name) for name in node.outputs)
        lines = [
            refusal_lines(branch) if isinstance(branch, str) else branch_lines(branch.source.statements, given, targets)
            for branch, given in inner
        ]
        taken, given = inner[chosen or 0]
        assert not isinstance(taken, str)
        for name, target, value in zip(node.outputs, targets, given, strict=True):
            self.values[name] = replace(value, text=target)
            self.frame[target] = eval(value.text, taken.frame)
        values = step_values(node.outputs, self.values)
        self.source.statements.append(Statement(targets, block=if_text(condition.text, lines), values=values))
        return True

    def _nested(self, network: Network, is_needed: bool) -> "tuple[_Emitter | str, list[Held]]":
        """A branch as (its emitter, what it gives); (why it cannot be written, []) for one that the sample skips."""
        inner = copy(self)
        inner.network, inner.source = network, replace(self.source, statements=[])
        inner.values, inner.frame, inner.renamed = dict(self.values), dict(self.frame), dict(self.renamed)
        inner.variables, inner.moves, inner.wishes = self.variables.copied(), {}, {}
        made = {name for node in network.nodes for name in node.outputs}
        inner.uses = Counter(value for node in network.nodes for value in node.values if value in made)
        inner.uses.update(network.outputs)
        try:
            for node in network.nodes:
                inner._node(node)
        except BuildError as error:
            if is_needed:
                raise
            return str(error), []
        held = [(name, inner.values[name]) for name in network.outputs]
        return inner, [inner._in_order(name, value, as_stored(value.rank)) for name, value in held]

    def _release(self, node: Node) -> None:
        """The variables of values that the node is the last to take are free."""
        for name in node.values:
            root = self.renamed.get(name, name)
            self.uses[root] -= 1
            if self.uses[root] == 0:
                self.variables.release(root)

    def _assign(self, node: Node, text: str, order: Order, flat: object) -> None:
        self._release(node)
        targets = tuple(self.variables.take(name) for name in node.outputs)
        path = self.modules.path(node) if OPERATORS[node.operator].layer is not None else ""
        pattern = targets_text(node, targets)
        try:
            with torch.device("meta"):
                exec(f"{pattern} = {text}", self.frame)
        except Exception as error:
            where = f"{node.operator} {node.layer or node.outputs[0]}"
            raise BuildError(f"The step {where} cannot be built: {text}: {type(error).__name__}: {error}") from error
        for name, target in zip(node.outputs, targets, strict=True):
            self.values[name] = held_of(target, self.frame[target], order, flat if keeps_flat(node) else None)
        words = ", ".join(words_of(self.values[name].shape) for name in node.outputs)
        values = step_values(node.outputs, self.values)
        self.source.statements.append(Statement((pattern,), text, words, path, values=values))
