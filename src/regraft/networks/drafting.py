"""A network as it is being written: nodes, names of layers, what has no translation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, final

import numpy as np

from regraft.networks.network import Array, Input, Literal, Node, Untranslated


class UnsupportedError(Exception):
    """A node has no translation; the text says why, "" for the operator as a whole."""


def literal(value: np.ndarray) -> Literal:
    """A small constant as it is written into the code."""
    return Literal(_nested(value), "float32" if value.dtype.name in ("float16", "bfloat16") else value.dtype.name)


def _nested(value: Any) -> Any:
    """Numbers in nested tuples."""
    if value.ndim:
        return tuple(_nested(part) for part in value)
    return decimal(value) if value.dtype == np.float32 else value.item()


def decimal(value: Any) -> float:
    """The shortest decimal that is this float32: 0.001, not 0.0010000000474974513; the largest ones are exact."""
    short = float(str(np.float32(value)))
    return short if abs(short) < 3.4e38 else float(value)


@final
@dataclass
class Draft:
    """What has been written of a network.

    layer_names  (operator, arrays, settings) → the name of the layer
    """

    nodes: list[Node] = field(default_factory=list)
    untranslated: list[Untranslated] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    layer_names: dict[tuple[str, str, str], str] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)

    def emit(
        self, operator: str, inputs: Sequence[Input], outputs: Sequence[str], layer: str = "",
        arrays: Mapping[str, Array] | None = None, settings: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        """Add a node."""
        self.nodes.append(Node(operator, tuple(inputs), tuple(outputs), settings or {}, layer, arrays or {}))

    def unnamed(self, like: str) -> str:
        """A name for a value that the file does not have."""
        return f"{like}#{next(self.numbers)}"

    def layer_name(
        self, operator: str, arrays: Mapping[str, Array], settings: Mapping[str, object], candidates: Sequence[str]
    ) -> str:
        """The name of a layer, the first of the candidates that is free; the same arrays and settings are one layer."""
        key = (operator, repr(sorted(arrays.items())), repr(sorted(settings.items())))
        if arrays and key in self.layer_names:
            return self.layer_names[key]
        taken = set(self.layer_names.values())
        name = next((name for name in candidates if name and name not in taken), f"{candidates[-1]}#{len(taken)}")
        self.layer_names[key if arrays else (operator, name, "")] = name
        return name
