"""Flattened maps whose values are in the code's order: which layers keep them so, and what their arrays then need."""

from dataclasses import replace
from typing import Any

from regraft.networks.axis_orders import Held
from regraft.networks.network import Array, Node
from regraft.operations.moves import PermuteFlat


def is_flat_already(node: Node, value: Held) -> bool:
    """Whether a flatten gives what it takes: a vector for each example."""
    return node.operator == "flatten" and value.rank == 2 and node.settings.get("start", 1) == 1 and value.flat is None


def keeps_flat(node: Node) -> bool:
    """Whether what the node gives is flattened as what it takes: a dense layer's output is not."""
    return node.operator != "linear"


def reordered(array: Array, flat: Any, role: str, operator: str) -> Array:
    """The array of a layer behind a flattened map whose values are in the code's order."""
    if flat is None or operator not in ("linear", "batch_norm", "layer_norm") or (operator, role) == ("linear", "bias"):
        return array
    sizes, order = flat
    return replace(array, operations=(*array.operations, PermuteFlat(1 if operator == "linear" else 0, sizes, order)))
