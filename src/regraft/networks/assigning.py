"""What an assignment in the code of a network sets, and the value that its variable then has."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from regraft.networks.axis_orders import Held, Order, as_stored
from regraft.networks.network import Node
from regraft.networks.source import StepValue

_LARGEST, _MOST_SIZES = 1 << 63, 4096


def targets_text(node: Node, targets: Sequence[str]) -> str:
    """The left side of the assignment; recurrent layers give their states in a tuple."""
    if node.operator == "lstm" or (node.operator == "recurrent" and node.settings.get("kind") == "lstm"):
        return f"{targets[0]}, ({', '.join(targets[1:])})"
    return ", ".join(targets) + ("," if node.operator in ("split", "unstack", "chunk") and len(targets) == 1 else "")


def held_of(text: str, value: Any, order: Order, flat: Any) -> Held:
    """The value of a variable: a tensor in this order of axes, or sizes of Python."""
    if not isinstance(value, Tensor):
        _check_sizes(value)
        return Held(text, None, "int64", plain=value)
    rank = value.dim()
    known = order if len(order) == rank else as_stored(rank)
    return Held(text, tuple(value.shape), str(value.dtype).removeprefix("torch."), known, flat)


def _check_sizes(value: object) -> None:
    """Raise OverflowError for numbers that no size is: steps that square or double them would never end."""
    numbers = value if isinstance(value, tuple) else (value,)
    if len(numbers) > _MOST_SIZES or any(isinstance(number, int) and abs(number) > _LARGEST for number in numbers):
        raise OverflowError("sizes are computed that no tensor has")


def step_values(names: Sequence[str], values: Mapping[str, Held]) -> tuple[StepValue, ...]:
    """Which of these values are tensors that the file has with the same numbers: no sizes, no reordered flat maps."""
    tensors = [(name, values[name]) for name in names if values[name].shape is not None and not values[name].flat]
    return tuple(StepValue(name, value.text, value.order) for name, value in tensors)


def are_sizes(inputs: Sequence[Held | None]) -> bool:
    """Whether there are inputs, and all of them are numbers that the code computes with, not tensors."""
    present = [value for value in inputs if value is not None]
    return bool(present) and all(value.shape is None for value in present)
