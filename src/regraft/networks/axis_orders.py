"""In which order a step takes and gives its axes, so that maps stay channels-first wherever that changes no value.

A value's `order` says for each axis in the generated code which axis of the file it is: (0, 3, 1, 2) is a map that the
file keeps as (n, h, w, c) and the code as (n, c, h, w).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from regraft.networks.network import Settings

Order = tuple[int, ...]


@dataclass(frozen=True)
class Held:
    """A value in the generated code.

    text   the Python expression that gives it
    shape  of a tensor, as the code has it; None for numbers and sizes of Python
    dtype  of a tensor, in NumPy's words
    order  for each axis of the code the axis of the file
    flat   of a flattened map whose values are in the code's order: its sizes in the file, and the order of its axes
    plain  the value of a constant, when `is_plain`
    """

    text: str
    shape: tuple[int, ...] | None = None
    dtype: str = "float32"
    order: Order = ()
    flat: tuple[tuple[int, ...], Order] | None = None
    plain: Any = None
    is_plain: bool = False

    @property
    def rank(self) -> int:
        """Number of axes; 0 for numbers."""
        return len(self.shape or ())


@dataclass(frozen=True)
class Arrangement:
    """How a step is called.

    inputs    for each input the order in which the step takes it
    output    the order of what it gives
    settings  those that name axes, for these orders
    """

    inputs: tuple[Order, ...]
    output: Order
    settings: Settings = field(default_factory=dict)


Arrange = Callable[[Settings, Sequence[Held]], Arrangement]


def as_stored(rank: int) -> Order:
    """The file's own order."""
    return tuple(range(rank))


def channels_second(rank: int, axis: int = -1) -> Order:
    """The file's order with one axis moved to the second position.

    >>> channels_second(4)
    (0, 3, 1, 2)
    """
    axis %= max(rank, 1)
    return (0, axis, *(other for other in range(1, rank) if other != axis)) if axis else as_stored(rank)


def position(order: Order, axis: int) -> int:
    """Where the code has this axis of the file."""
    return order.index(axis % len(order))


def moved(current: Order, wanted: Order) -> Order:
    """The arguments of `permute` that bring the one order to the other."""
    return tuple(current.index(axis) for axis in wanted)


def _common(inputs: Sequence[Held]) -> Order:
    """The order that inputs of the same step share: the first that is not the file's own."""
    rank = max((value.rank for value in inputs), default=0)
    orders = [value.order for value in inputs if value.rank == rank]
    return next((order for order in orders if order != as_stored(rank)), as_stored(rank))


def _for_each(order: Order, inputs: Sequence[Held]) -> tuple[Order, ...]:
    return tuple(order if value.rank else () for value in inputs)


def any_order(settings: Settings, inputs: Sequence[Held]) -> Arrangement:
    """Steps that work on each number by itself, or on numbers at the same position."""
    order = _common(inputs)
    return Arrangement(_for_each(order, inputs), order)


def file_order(settings: Settings, inputs: Sequence[Held]) -> Arrangement:
    """Steps whose axes must be as in the file; the output's order is the file's."""
    return Arrangement(tuple(as_stored(value.rank) for value in inputs), ())


def with_channels(settings: Settings, inputs: Sequence[Held]) -> Arrangement:
    """Layers that take channels as the second axis."""
    rank = inputs[0].rank
    order = channels_second(rank) if settings.get("channels_last") else as_stored(rank)
    return Arrangement((order, *(as_stored(value.rank) for value in inputs[1:])), order)


def with_channel_axis(settings: Settings, inputs: Sequence[Held]) -> Arrangement:
    """Norms that take the axis of their setting as the second one."""
    rank = inputs[0].rank
    current, axis = inputs[0].order, settings.get("axis", 1)
    fits = rank < 2 or position(current, axis) == 1
    order = current if fits else channels_second(rank, axis)
    return Arrangement((order, *(as_stored(value.rank) for value in inputs[1:])), order)


def along(*names: str) -> Arrange:
    """Steps whose settings of these names are one axis, or several, of inputs that share their axes."""

    def arrange(settings: Settings, inputs: Sequence[Held]) -> Arrangement:
        order = _common(inputs)
        changed = {name: _positions(order, settings[name]) for name in names if settings.get(name) is not None}
        return Arrangement(_for_each(order, inputs), order, changed)

    return arrange


def _positions(order: Order, axes: Any) -> Any:
    return position(order, axes) if isinstance(axes, int) else tuple(position(order, axis) for axis in axes)


def reduced(settings: Settings, inputs: Sequence[Held]) -> Arrangement:
    """Steps that reduce axes (None is all of them) and keep them with `keepdim`."""
    order, axes = inputs[0].order, settings.get("axes")
    if axes is None:
        axes = as_stored(len(order))
    numbers = (axes,) if isinstance(axes, int) else axes
    removed = {axis % max(len(order), 1) for axis in numbers}
    changed = {"axes": tuple(sorted(position(order, axis) for axis in removed))}
    output = order if settings.get("keepdim") else _without(order, removed)
    return Arrangement((order, *(as_stored(value.rank) for value in inputs[1:])), output, changed)


def _without(order: Order, removed: set[int]) -> Order:
    """The order of what remains, its axes numbered anew."""
    kept = sorted(set(order) - removed)
    return tuple(kept.index(axis) for axis in order if axis not in removed)


def per_axis(*names: str) -> Arrange:
    """Steps with one value for each axis of the input in these settings, such as the widths of a padding."""

    def arrange(settings: Settings, inputs: Sequence[Held]) -> Arrangement:
        order = inputs[0].order
        changed: Mapping[str, Any] = {
            name: tuple(settings[name][axis] for axis in order) for name in names if settings.get(name) is not None
        }
        return Arrangement((order, *(as_stored(value.rank) for value in inputs[1:])), order, changed)

    return arrange


def spread(value: Held, order: Order) -> Held:
    """A tensor of fewer axes, which the file spreads over the last ones, for a map whose axes are in this order."""
    missing = len(order) - value.rank
    shape = (1,) * missing + (value.shape or ())
    turned = tuple(shape[axis] for axis in order)
    if order == as_stored(len(order)):
        return value
    kept = [axis for axis in order if shape[axis] != 1]
    if kept == sorted(kept) and value.text.startswith("self."):  # an array, whose sizes are fixed
        text = f"{value.text}.reshape({', '.join(map(str, _without_ones(turned)))})"
    else:
        text = f"{value.text}[{'None, ' * missing}...].permute({', '.join(map(str, order))})"
    return replace(value, text=text, shape=turned, order=order)


def _without_ones(shape: Sequence[int]) -> list[int]:
    """The sizes from the first that is not 1, which broadcasting fills in."""
    start = next((place for place, size in enumerate(shape) if size != 1), len(shape) - 1)
    return list(shape[start:])
