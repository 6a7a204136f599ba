"""What the class of a network consists of: its layers, the lines of its forward, and what fills its arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from regraft.networks.axis_orders import Order
from regraft.networks.network import Array

BATCH = 2  # of the empty tensors on which each line is tried


@dataclass(frozen=True)
class StepValue:
    """A tensor that the forward computes.

    name      of the value in the file
    variable  that holds it behind the line that sets it
    order     for each axis of the code the axis of the file
    """

    name: str
    variable: str
    order: Order


@dataclass(frozen=True)
class Statement:
    """One line of the forward.

    targets  the variables that it sets
    text     the expression
    comment  the shapes of what it gives
    layer    the path of the layer that it calls, "" for a step
    block    the whole statement, of one that is more than an assignment
    values   the tensors that its targets hold, of those that the file has as they are here
    """

    targets: tuple[str, ...]
    text: str = ""
    comment: str = ""
    layer: str = ""
    block: str = ""
    values: tuple[StepValue, ...] = ()

    @property
    def line(self) -> str:
        """The assignment, or the whole statement."""
        return self.block or f"{', '.join(self.targets)} = {self.text}"


@dataclass
class ModuleSource:
    """What a network's class consists of.

    inputs        (variable, shape in words, dtype) of each input
    entries       the inputs as values of the file
    results       the outputs as values of the file
    statements    the forward
    outputs       the expressions that it returns
    shapes        of the outputs, in words
    constructors  path of a module → the expression that makes it
    constants     path → expression of a tensor that the code itself holds
    tensors       path of a parameter or buffer that is no layer's → (array, shape, dtype, whether it is trained)
    arrays        name in the model's state → what fills it
    notes         what a user must know
    children      path of a module that holds others → their names
    """

    inputs: list[tuple[str, str, str]] = field(default_factory=list)
    entries: list[StepValue] = field(default_factory=list)
    results: list[StepValue] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    constructors: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, tuple[Array, tuple[int, ...], str, bool]] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    children: dict[str, list[str]] = field(default_factory=dict)


def is_list(names: Sequence[str]) -> bool:
    """Whether modules of these names are the items of a list."""
    return list(names) == [str(number) for number in range(len(names))]


def container_text(path: str, children: Mapping[str, Sequence[str]]) -> str:
    """The constructor of a module that holds others."""
    if is_list(children[path]):
        return "nn.ModuleList()"
    return "nn.Module()" if all(map(str.isidentifier, children[path])) else "nn.ModuleDict()"


def words_of(shape: Sequence[int] | None) -> str:
    """A shape for a comment, n for the batch."""
    if shape is None:
        return "sizes"
    return f"({', '.join('n' if place == 0 and size == BATCH else str(size) for place, size in enumerate(shape))})"
