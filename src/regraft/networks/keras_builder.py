"""What the translations of Keras' layers write into: nodes, and the arrays of each layer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regraft.arrays import ArrayInfo
from regraft.formats.keras_config import KerasLayer, Settings
from regraft.networks.network import Array, Input, Literal, Node, Untranslated
from regraft.operations.joins import Fill
from regraft.operations.operation import Operation

_COUNTERS = ("count",)  # of a preprocessing layer's examples


class RefusedError(Exception):
    """A layer, or a setting of it, has no translation; the text says why, "" for the class as a whole."""


@dataclass
class KerasBuilder:
    """The network so far.

    infos       the checkpoint's arrays
    is_keras_3  whether Keras 3 wrote the file: some functions have another meaning there
    """

    infos: Mapping[str, ArrayInfo]
    is_keras_3: bool
    nodes: list[Node] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    untranslated: list[Untranslated] = field(default_factory=list)
    arrays: dict[str, dict[str, str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for name, info in self.infos.items():
            if info.layer and info.role == "weight":
                self.arrays.setdefault(info.layer, {})[info.leaf] = name

    def refuse_unused(self) -> None:
        """Refuse layers of which one array is used and another is not: their translation would leave something out."""
        used = {source for node in self.nodes for array in node.all_arrays() for source in array.sources}
        for layer, arrays in self.arrays.items():
            unused = [name for leaf, name in arrays.items() if name not in used and leaf not in _COUNTERS]
            if unused and not used.isdisjoint(arrays.values()):
                kind = self.infos[unused[0]].layer_type
                self.untranslated.append(Untranslated(kind, layer, f"its arrays {', '.join(unused)} are not used"))

    def value(self, stem: str) -> str:
        """A new value's name."""
        self.counts[stem] += 1
        return f"{stem}:{self.counts[stem]}"

    def step(self, operator: str, *inputs: Input, at: str = "", **settings: object) -> str:
        """A step with one result."""
        output = self.value(at or operator)
        self.nodes.append(Node(operator, inputs, (output,), settings))
        return output

    def layer(
        self, operator: str, path: str, inputs: Sequence[Input], arrays: Mapping[str, Array], **settings: object
    ) -> str:
        """A layer with one result."""
        return self.layer_outputs(1, operator, path, inputs, arrays, **settings)[0]

    def layer_outputs(
        self,
        count: int,
        operator: str,
        path: str,
        inputs: Sequence[Input],
        arrays: Mapping[str, Array],
        **settings: object,
    ) -> tuple[str, ...]:
        """A layer with several results."""
        outputs = tuple(self.value(path) for _ in range(count))
        self.nodes.append(Node(operator, tuple(inputs), outputs, settings, path, arrays))
        return outputs


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer, for its translation.

    inputs  the values of its first argument
    rest    the further arguments, values as names
    named   keyword arguments, values as names
    """

    builder: KerasBuilder
    layer: KerasLayer
    inputs: tuple[str, ...]
    rest: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The layer's own."""
        return self.layer.settings

    @property
    def path(self) -> str:
        """The layer's path."""
        return self.layer.path

    @property
    def x(self) -> str:
        """The only input."""
        if len(self.inputs) != 1:
            raise RefusedError(f"it takes {len(self.inputs)} inputs, expected 1")
        return self.inputs[0]

    def step(self, operator: str, *inputs: Input, **settings: object) -> str:
        """A step of this layer."""
        return self.builder.step(operator, *inputs, at=self.path, **settings)

    def array(self, leaf: str, *operations: Operation) -> Array:
        """An array of the layer."""
        name = self.builder.arrays.get(self.path, {}).get(leaf)
        if name is None:
            raise RefusedError(f"the file holds no {leaf} of it")
        return Array((name,), operations)

    def has(self, leaf: str) -> bool:
        """Whether the file holds this array of the layer."""
        return leaf in self.builder.arrays.get(self.path, {})

    @property
    def leaves(self) -> list[str]:
        """The names of all arrays of the layer."""
        return list(self.builder.arrays.get(self.path, {}))

    def shape(self, leaf: str) -> tuple[int, ...]:
        """The array's shape as stored."""
        return self.builder.infos[self.array(leaf).sources[0]].shape

    def filled(self, value: float, count: int) -> Array:
        """A vector of one number that the file leaves out."""
        return Array((), (Fill(value, (count,)),))

    def note(self, text: str) -> None:
        """A sentence for the user."""
        self.builder.notes.append(f"{self.path}: {text}")


def number(value: float) -> Literal:
    """A constant."""
    return Literal(value)
