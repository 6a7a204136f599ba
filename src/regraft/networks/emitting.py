"""A network → the lines of its forward and the constructors of its layers, each tried on empty tensors."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from regraft.arrays import ArrayInfo
from regraft.errors import BuildError
from regraft.networks import runtime
from regraft.networks.axis_orders import Held, Order, as_stored, channels_second, moved, spread
from regraft.networks.names import Paths, Variables, children_of, expression, tensor_path, variable_name
from regraft.networks.network import Array, Entry, Literal, Network, Node
from regraft.networks.operators import Call, Operator, python
from regraft.networks.operators_layers import LAYERS
from regraft.networks.operators_steps import STEPS
from regraft.networks.source import BATCH, Source, Statement, container_text, is_list, words_of
from regraft.networks.words import refuse_code
from regraft.operations.moves import PermuteFlat

OPERATORS: Mapping[str, Operator] = {**LAYERS, **STEPS}
RENAMING = ("permute", "channels_last")  # steps that only give the axes of the file another order
_FREE_SIZES = {4: 224, 5: 32}  # for an image whose file records no size; 16 for everything else


@dataclass
class _Decisions:
    """What a first pass learns: inputs that the code takes in another order, flattened maps that keep the file's."""

    entries: dict[str, Order] = field(default_factory=dict)
    unflat: set[str] = field(default_factory=set)


class _AgainError(Exception):
    """A decision was wrong: write the network anew."""


def emit(network: Network, infos: Mapping[str, ArrayInfo]) -> Source:
    """The network's code. Raises BuildError with everything that has no translation, or the step that fails."""
    unknown = [node for node in network.nodes if node.operator not in OPERATORS and node.operator not in RENAMING]
    problems = [*map(str, network.untranslated), *(f"{node.operator} {node.outputs[0]}" for node in unknown)]
    if problems:
        count = len(network.nodes) - len(unknown)
        head = f"{len(problems)} of {count + len(problems)} nodes of the network have no translation:"
        raise BuildError("\n".join([head, *(f"  {problem}" for problem in problems)]))
    refuse_code(network)
    decisions = _Decisions()
    while True:
        try:
            return _Emitter(network, infos, decisions).run()
        except _AgainError:
            continue


class _Emitter:
    """One pass over the network."""

    def __init__(self, network: Network, infos: Mapping[str, ArrayInfo], decisions: _Decisions) -> None:
        self.network, self.infos, self.decisions = network, infos, decisions
        self.source, self.paths, self.variables = Source(), Paths(), Variables()
        self.values: dict[str, Held] = {}
        self.flattened_by: dict[str, str] = {}  # a flattened value → the value that the flatten gave
        self.renamed: dict[str, str] = {}  # a value that is another with its axes renamed → that value
        self.moves: dict[str, list[Order]] = {entry.name: [] for entry in network.entries}
        # A value whose order an input decides → (the input, for each axis of the value that of the input).
        self.wishes = {entry.name: (entry.name, as_stored(len(entry.shape))) for entry in network.entries}
        self.uses = Counter(value for node in network.nodes for value in node.values)
        self.uses.update(network.outputs)
        layers = [node.layer for node in network.nodes if node.layer]
        self.children = children_of([*map(self.paths.path, layers), *self._tensor_paths().values()])
        self.lists = [path for path, names in self.children.items() if is_list(names)]
        self.root = nn.Module()
        for path in self.children:
            _put(self.root, path, container(path, self.children))
        self.frame: dict[str, Any] = {**vars(runtime), "self": self.root}

    def _tensor_paths(self) -> dict[Array, str]:
        """A path for each array that is an input of a step."""
        self.tensors: dict[Array, str] = {}
        arrays = [value for node in self.network.nodes for value in node.inputs if isinstance(value, Array)]
        for array in dict.fromkeys(arrays):
            self.tensors[array] = self.paths.unused(tensor_path(array.sources[0] if array.sources else "constant"))
        return self.tensors

    def run(self) -> Source:
        """The whole network."""
        for entry in self.network.entries:
            self._enter(entry)
        for node in self.network.nodes:
            self._node(node)
        self._leave()
        self._improve_entries()
        self.source.children = self.children
        return self.source

    # --- inputs and outputs -------------------------------------------------------------------------------------------

    def _enter(self, entry: Entry) -> None:
        rank = len(entry.shape)
        order = self.decisions.entries.get(entry.name, as_stored(rank))
        sizes = tuple(_sample_size(entry, axis) for axis in range(rank))
        shape = tuple(sizes[axis] for axis in order)
        single = len(self.network.entries) == 1
        name = self.variables.take(entry.name, "x" if single else variable_name(entry.name))
        self.values[entry.name] = Held(name, shape, entry.dtype, order)
        self.frame[name] = torch.empty(shape, dtype=getattr(torch, entry.dtype), device="meta")
        known = tuple(entry.shape[axis] for axis in order)
        words = ", ".join("n" if place == 0 else str(size or "any") for place, size in enumerate(known))
        self.source.inputs.append((name, f"({words})", entry.dtype))
        if order != as_stored(rank):
            self.source.notes.append(
                f"The file takes {entry.name} with its channels last, the module as the second axis: ({words})."
            )

    def _leave(self) -> None:
        is_turned = any(order != as_stored(len(order)) for order in self.decisions.entries.values())
        for name in self.network.outputs:
            held = self.values[name]
            channels_first = held.order == channels_second(held.rank) and held.rank > 3
            keeps = is_turned and channels_first
            text = held.text if keeps else self._in_order(name, held, as_stored(held.rank)).text
            if keeps and held.order != as_stored(held.rank):
                self.source.notes.append("The output has its channels as the second axis, in the file as the last.")
            if held.flat is not None:
                self._unflatten(name)
            self.source.outputs.append(text)
            self.source.shapes.append(words_of(held.shape))

    def _improve_entries(self) -> None:
        """Take an input in the order in which all its uses want it."""
        better = {
            name: orders[0]
            for name, orders in self.moves.items()
            if orders and len(set(orders)) == 1 and name not in self.decisions.entries and len(orders[0]) > 3
        }
        if better:
            self.decisions.entries |= better
            raise _AgainError

    # --- nodes --------------------------------------------------------------------------------------------------------

    def _node(self, node: Node) -> None:
        inputs = [self._input(node, index) for index in range(len(node.inputs))]
        if self._renamed(node, inputs) or self._flatten(node, inputs):
            return
        operator = OPERATORS[node.operator]
        if operator.sizes and _are_sizes(inputs):
            self._sizes(node, operator, inputs)
            return
        inputs = [self._as_tensor(value, index) for index, value in enumerate(inputs)]
        flat = self._flat_of(node, operator, inputs)
        arrangement = operator.arrange(node.settings, [value for value in inputs if value is not None])
        taken = iter(arrangement.inputs)
        turned = [
            None if value is None else self._in_order(name, value, next(taken))
            for name, value in zip(node.inputs, inputs, strict=True)
        ]
        call = self._call(node, arrangement.settings, turned)
        if operator.layer is not None:
            call = replace(call, module=self._module(node, operator, call, flat))
        elif arrangement.inputs[:1] == (arrangement.output,) and node.inputs[0] in self.wishes:
            self.wishes.update(dict.fromkeys(node.outputs, self.wishes[str(node.inputs[0])]))
        self._assign(node, operator.written(call), arrangement.output, flat, is_layer=operator.layer is not None)

    def _call(self, node: Node, settings: Mapping[str, Any], inputs: Sequence[Held | None]) -> Call:
        """The call of a node on these inputs; `settings` are those that their order changes."""
        texts = tuple("None" if value is None else value.text for value in inputs)
        shapes = {role: array.shape_in(self.infos) for role, array in node.arrays.items()}
        return Call({**node.settings, **settings}, texts, tuple(inputs), shapes)

    def _input(self, node: Node, index: int) -> Held | None:
        given = node.inputs[index]
        if given is None:
            return None
        if isinstance(given, str):
            return self.values[given]
        if isinstance(given, Literal):
            return Held(python(given.value), None, given.dtype, plain=given.value, is_plain=True)
        return self._tensor(given)

    def _as_tensor(self, value: Held | None, index: int) -> Held | None:
        """Constants of several numbers are buffers, sizes become tensors; single numbers stay numbers."""
        if value is None or value.shape is not None or not isinstance(value.plain, tuple):
            return value
        shape = tuple(torch.tensor(value.plain).shape)
        if not value.is_plain:
            return replace(value, text=f"torch.tensor({value.text})", shape=shape, order=as_stored(len(shape)))
        path = self.paths.unused("constant")
        text = f"torch.tensor({value.text}, dtype=torch.{value.dtype})"
        self.source.constants[path] = text
        self.root.register_buffer(path, torch.empty(shape, dtype=getattr(torch, value.dtype), device="meta"))
        return Held(f"self.{path}", shape, value.dtype, as_stored(len(shape)))

    def _tensor(self, array: Array) -> Held:
        """An array of the checkpoint that is an input of a step: a parameter, or a buffer."""
        name = array.sources[0] if array.sources else "constant"
        shape, dtype = array.shape_in(self.infos), array.dtype_in(self.infos)
        path = self.tensors[array]
        if path not in self.source.tensors:
            is_float = "float" in dtype
            is_trained = is_float and not array.is_fixed and bool(array.sources) and self.infos[name].role == "weight"
            kept_dtype = "float32" if is_float else dtype
            self.source.tensors[path] = (array, shape, kept_dtype, is_trained)
            self.source.arrays[path] = array
            kept = torch.empty(shape, dtype=getattr(torch, kept_dtype), device="meta")
            home, _, leaf = path.rpartition(".")
            self.root.get_submodule(home).register_buffer(leaf, kept)
        dtype = "float32" if "float" in dtype else dtype
        return Held(expression(path, self.lists), shape, dtype, as_stored(len(shape)))

    def _module(self, node: Node, operator: Operator, call: Call, flat: Any) -> str:
        """The layer's module in the code, made when it is called first."""
        path = self.paths.path(node.layer)
        if path not in self.source.constructors:
            assert operator.layer is not None
            text = operator.layer(call)
            self.source.constructors[path] = text
            with torch.device("meta"):
                _put(self.root, path, eval(text, self.frame).eval())
            for role, array in node.arrays.items():
                self.source.arrays[f"{path}.{role}"] = _reordered(array, flat, role, node.operator)
        return expression(path, self.lists)

    # --- orders -------------------------------------------------------------------------------------------------------

    def _in_order(self, name: object, value: Held, order: Order) -> Held:
        """The value with its axes in this order; of fewer axes, so that it spreads over a map of this order."""
        if not value.rank or value.order == order:
            return value
        if value.rank < len(order):
            return spread(value, order)
        if isinstance(name, str) and name in self.wishes:
            entry, of_entry = self.wishes[name]
            self.moves[entry].append(tuple(of_entry[axis] for axis in order))
        axes = moved(value.order, order)
        shape = tuple((value.shape or ())[axis] for axis in axes)
        kept = [axis for axis in axes if (value.shape or ())[axis] != 1]
        if kept == sorted(kept):  # only axes of one element move
            sizes = ", ".join("-1" if place == 0 else str(size) for place, size in enumerate(shape))
            return replace(value, text=f"{value.text}.reshape({sizes})", shape=shape, order=order)
        return replace(value, text=f"{value.text}.permute({', '.join(map(str, axes))})", shape=shape, order=order)

    def _renamed(self, node: Node, inputs: Sequence[Held | None]) -> bool:
        """Steps that only give the axes of the file another order: nothing moves in the code until a step needs it."""
        if node.operator not in RENAMING or inputs[0] is None or inputs[0].shape is None:
            return False
        value = inputs[0]
        if value.flat is not None:
            self._unflatten(str(node.inputs[0]))
        last = (0, *range(2, value.rank), 1)
        axes = last if node.operator == "channels_last" else tuple(axis % value.rank for axis in node.settings["axes"])
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

    def _sizes(self, node: Node, operator: Operator, inputs: Sequence[Held | None]) -> None:
        """A step on sizes: numbers of Python."""
        assert operator.sizes is not None
        texts = tuple("None" if value is None else value.text for value in inputs)
        call = Call(node.settings, texts, tuple(inputs))
        self._assign(node, operator.sizes(call), (), None)

    def _assign(self, node: Node, text: str, order: Order, flat: Any, *, is_layer: bool = False) -> None:
        for name in node.values:
            root = self.renamed.get(name, name)
            self.uses[root] -= 1
            if self.uses[root] == 0:
                self.variables.release(root)
        targets = tuple(self.variables.take(name) for name in node.outputs)
        path = self.paths.path(node.layer) if is_layer else ""
        pattern = _targets(node, targets)
        try:
            exec(f"{pattern} = {text}", self.frame)
        except Exception as error:
            where = f"{node.operator} {node.layer or node.outputs[0]}"
            raise BuildError(f"The step {where} cannot be built: {text}: {type(error).__name__}: {error}") from error
        for name, target in zip(node.outputs, targets, strict=True):
            self.values[name] = _held(target, self.frame[target], order, flat if is_flat(node) else None)
        words = ", ".join(words_of(self.values[name].shape) for name in node.outputs)
        self.source.statements.append(Statement((pattern,), text, words, path))


def _are_sizes(inputs: Sequence[Held | None]) -> bool:
    """Whether there are inputs, and all of them are numbers that the code computes with, not tensors."""
    present = [value for value in inputs if value is not None]
    return bool(present) and all(value.shape is None for value in present)


def is_flat(node: Node) -> bool:
    """Whether what the node gives is flattened as what it takes: a dense layer's output is not."""
    return node.operator != "linear"


def _targets(node: Node, targets: Sequence[str]) -> str:
    """The left side of the assignment; recurrent layers give their states in a tuple."""
    if node.operator == "lstm" or (node.operator == "recurrent" and node.settings.get("kind") == "lstm"):
        return f"{targets[0]}, ({', '.join(targets[1:])})"
    return ", ".join(targets) + ("," if node.operator in ("split", "unstack", "chunk") and len(targets) == 1 else "")


def _sample_size(entry: Entry, axis: int) -> int:
    size = entry.shape[axis]
    if axis == 0:
        return BATCH if size is None else size
    return size if size is not None else _FREE_SIZES.get(len(entry.shape), 16)


def _held(text: str, value: Any, order: Order, flat: Any) -> Held:
    if not isinstance(value, Tensor):
        return Held(text, None, "int64", plain=value)
    rank = value.dim()
    known = order if len(order) == rank else as_stored(rank)
    return Held(text, tuple(value.shape), str(value.dtype).removeprefix("torch."), known, flat)


def _reordered(array: Array, flat: Any, role: str, operator: str) -> Array:
    """The array of a layer behind a flattened map whose values are in the code's order."""
    if flat is None or operator not in ("linear", "batch_norm", "layer_norm") or (operator, role) == ("linear", "bias"):
        return array
    sizes, order = flat
    return replace(array, operations=(*array.operations, PermuteFlat(1 if operator == "linear" else 0, sizes, order)))


def _put(root: nn.Module, path: str, module: nn.Module) -> None:
    """The module under its path; what a placeholder there holds stays below it."""
    if not path:
        return
    home, _, name = path.rpartition(".")
    parent = root.get_submodule(home)
    if name in parent._modules:
        module._modules.update(parent.get_submodule(name)._modules)
    parent._modules[name] = module


def container(path: str, children: Mapping[str, Sequence[str]]) -> nn.Module:
    """An empty module that holds others: a list, a dict where their names are no names of Python, else a plain one."""
    kinds: dict[str, type[nn.Module]] = {"nn.ModuleList()": nn.ModuleList, "nn.ModuleDict()": nn.ModuleDict}
    return kinds.get(container_text(path, children), nn.Module)()
