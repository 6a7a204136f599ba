"""A network as plain data: its layers, steps and constants, in the words of torch and without it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regraft.arrays import ArrayInfo
from regraft.operations.operation import Operation, Shape
from regraft.operations.running import shape_after

Settings = Mapping[str, Any]  # plain data: numbers, texts, tuples; of an `if` also networks
Sizes = tuple[int | None, ...]
Shapes = Mapping[str, tuple[int, ...]]  # name of an input → its shape


@dataclass(frozen=True)
class Array:
    """An array of the model, made of arrays of the checkpoint.

    sources     their names in the checkpoint; () for a value that the file leaves out, which the operations fill in
    operations  from the sources as stored to the array as torch's layer or function takes it
    shape       of an array that no source fills, which keeps its initial weights
    is_fixed    whether it never trains, such as the mean of a preprocessing layer
    """

    sources: tuple[str, ...]
    operations: tuple[Operation, ...] = ()
    shape: Shape | None = None
    is_fixed: bool = False

    def shape_in(self, infos: Mapping[str, ArrayInfo]) -> Shape:
        """The shape that torch's layer takes."""
        if self.shape is not None:
            return self.shape
        return shape_after(self.operations, [infos[source].shape for source in self.sources])

    def dtype_in(self, infos: Mapping[str, ArrayInfo]) -> str:
        """The dtype as stored; float32 for a value that is filled in."""
        return infos[self.sources[0]].dtype if self.sources else "float32"


@dataclass(frozen=True)
class Literal:
    """A small constant of the graph.

    value  a number, or nested tuples of numbers
    dtype  "float32", "int64", "bool" …
    """

    value: Any
    dtype: str = "float32"


Input = str | Array | Literal | None  # a value's name; None is an optional input that is left out


@dataclass(frozen=True)
class Node:
    """One layer or step.

    operator  its name in `operators`
    inputs    names of values, arrays of the checkpoint, or constants
    outputs   the names of the values that it gives
    settings  in the words of its operator; axes count in the order of the file
    layer     the source's own name of the layer, "block_1/expand"; nodes of one layer share its arrays
    arrays    of a layer: torch's name ("weight", "running_mean") → what fills it
    """

    operator: str
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    settings: Settings = field(default_factory=dict)
    layer: str = ""
    arrays: Mapping[str, Array] = field(default_factory=dict)

    @property
    def values(self) -> tuple[str, ...]:
        """The inputs that are values of the graph."""
        return tuple(value for value in self.inputs if isinstance(value, str))

    def all_arrays(self) -> Iterator[Array]:
        """Every array of the checkpoint that the node takes."""
        yield from self.arrays.values()
        yield from (value for value in self.inputs if isinstance(value, Array))


@dataclass(frozen=True)
class NetworkInput:
    """An input of the network.

    shape  as the file records it, the batch included; None for a size that may be any
    """

    name: str
    shape: Sizes
    dtype: str = "float32"


@dataclass(frozen=True)
class Untranslated:
    """A node for which there is no translation.

    operator  the source's word for it
    node      its name in the file
    reason    what about it is not supported, "" for the operator as a whole
    """

    operator: str
    node: str
    reason: str = ""

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.operator} {self.node}{reason}"


@dataclass(frozen=True)
class Network:
    """What a file describes.

    entries       the inputs, in order
    nodes         in an order in which each can run
    outputs       names of values
    name          the network's own name in the file
    notes         what was assumed or left out, in sentences
    untranslated  what has no translation; then the network cannot be built
    """

    entries: tuple[NetworkInput, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    name: str = ""
    notes: tuple[str, ...] = ()
    untranslated: tuple[Untranslated, ...] = ()

    @property
    def operators(self) -> dict[str, int]:
        """How often each operator occurs."""
        counts: dict[str, int] = {}
        for node in self.nodes:
            counts[node.operator] = counts.get(node.operator, 0) + 1
        return counts


def every_node(nodes: Sequence[Node]) -> Iterator[Node]:
    """The nodes, and those of the networks that a node chooses between."""
    for node in nodes:
        yield node
        for value in node.settings.values():
            if isinstance(value, Network):
                yield from every_node(value.nodes)


def nodes_needed(nodes: Sequence[Node], outputs: Sequence[str]) -> tuple[Node, ...]:
    """The nodes on which these values depend."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            kept.append(node)
            wanted.update(node.values)
    return tuple(reversed(kept))
