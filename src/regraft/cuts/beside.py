"""Outputs of layers that a trunk gives beside what its head needs: as they are, or averaged over their positions."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from regraft.cuts.channels import channel_axis
from regraft.cuts.dataflow import Dataflow
from regraft.cuts.record import Record, Value, values_in
from regraft.cuts.sizes import Sizes
from regraft.errors import SplitError
from regraft.foundation.wording import counted, listed, shape_text

MASK = "attention_mask"  # the input that says which positions of a sequence are real, as transformers names it
POOLS = ("mean",)
INPUT_OF = "input of "  # before a layer's name: what it is given, in the place of what it gives
T = TypeVar("T")


@dataclass(frozen=True)
class Mean:
    """The mean over the positions of a row.

    axes  of the row; none where it has no positions, so that the row stays as it is
    mask  the input (rows, positions) that says which positions count; -1 where all do
    """

    axes: tuple[int, ...]
    mask: int = -1

    def of(self, rows: Tensor, mask: Tensor | None) -> Tensor:
        """The mean of rows (rows, …), in their own dtype.

        mask  (rows, positions), above 0 for positions that count
        """
        if not self.axes:
            return rows
        axes = [axis + 1 for axis in self.axes]
        if mask is None:
            return rows.mean(axes)
        shape = [size if axis in (0, *axes) else 1 for axis, size in enumerate(rows.shape)]
        counts = (mask > 0).reshape(shape)
        return (rows * counts).sum(axes) / counts.sum(axes).clamp(min=1).to(rows.dtype)

    def kept(self, sizes: Sequence[T]) -> list[T]:
        """What the mean leaves of the sizes of a row."""
        return [size for axis, size in enumerate(sizes) if axis not in self.axes]


@dataclass(frozen=True)
class Wanted:
    """The outputs that a user asks for.

    layers  whose outputs cross, or inputs: "input of layer"
    inside  these and the layers in them: what the head may take
    pool    "mean" averages the outputs over their positions; None leaves them as they are
    """

    layers: tuple[str, ...]
    inside: tuple[str, ...]
    pool: str | None = None


@dataclass(frozen=True)
class Beside:
    """What crosses beside the cut: leaf name → value, and leaf name → `Mean` for those that are averaged."""

    leaves: Mapping[str, int]
    means: Mapping[str, Mean]


def outputs_beside(
    record: Record, sizes: Sizes, flow: Dataflow, wanted: Wanted, *, unfit: frozenset[int], taken: Collection[str] = ()
) -> Beside:
    """The outputs of these layers as leaves: `layer`, `layer#2` for its next call or output; `mean(layer)` if averaged.

    taken  the names of what the head takes: a layer that is not frozen as a whole is crossed by these in it

    Raises SplitError that names every layer whose output cannot cross.
    """
    named: dict[str, int] = {}
    problems: dict[str, str] = {}
    for layer in wanted.layers:
        fit, problem = _fit_outputs(record, sizes, flow, layer, unfit)
        named |= {f"{layer}#{number}" if number > 1 else layer: value for number, value in enumerate(fit, 1)}
        if not fit and (wanted.pool or not any(name.startswith(f"{layer}.") for name in taken)):
            problems[layer] = problem
    named = dict(sorted(named.items(), key=lambda pair: pair[1]))  # as the forward makes them
    if not wanted.pool:
        _refuse(problems)
        return Beside(named, {})
    return _averaged(record, sizes, named, problems)


def _averaged(record: Record, sizes: Sizes, named: Mapping[str, int], problems: Mapping[str, str]) -> Beside:
    """The means of these outputs, unless there are problems."""
    means: dict[str, Mean] = {}
    without = dict(problems)
    for name, value in named.items():
        mean = mean_of(record, sizes, value)
        if mean is None:
            without[name] = _no_channels(record.values[value])
        else:
            means[f"mean({name})"] = mean
    _refuse(without)
    return Beside({f"mean({name})": value for name, value in named.items()}, means)


def _refuse(problems: Mapping[str, str]) -> None:
    """Raise SplitError with the reason of each layer that cannot cross."""
    if problems:
        reasons = "\n".join(f"  {layer}: {reason}" for layer, reason in problems.items())
        raise SplitError(
            f"{counted(len(problems), 'output')} of `at` cannot cross:\n{reasons}\nLeave out of `at`: "
            f"{listed([*problems])}."
        )


def _fit_outputs(
    record: Record, sizes: Sizes, flow: Dataflow, layer: str, unfit: frozenset[int]
) -> tuple[list[int], str]:
    """The layer's outputs that can cross, in the order of its calls; and why another one cannot."""
    problem, fit = "it does not run on the example", []
    for value in _values_of(record, layer):
        if value not in flow.dependent:
            problem = "its output does not depend on the example"
        elif value in flow.live:
            problem = "it is not frozen, or a layer before it is not"
        elif value in unfit:
            problem = "its rows depend on the other examples of their batch"
        elif sizes.rows(value) is None:
            problem = "its output has no row for each example"
        else:
            fit.append(value)
    return fit, problem


def _values_of(record: Record, layer: str) -> Iterator[int]:
    """The layer's outputs, or its inputs, each once."""
    own = layer.removeprefix(INPUT_OF)
    calls = [call for call in record.calls if call.name == own]
    yield from dict.fromkeys(v for c in calls for v in (values_in(c.output) if own == layer else c.arguments[:1]))


def _no_channels(value: Value) -> str:
    return f"it is not known which of its axes ({shape_text(value.shape)}) holds the channels"


def mean_of(record: Record, sizes: Sizes, index: int) -> Mean | None:
    """The mean over the positions of a value's rows; None where it is not known which axis holds the channels."""
    value, row_axis = record.values[index], sizes.rows(index)
    assert row_axis is not None, "outputs without rows were refused"
    axis, each = row_axis
    # As `LeafRows.to_rows` orders them: the examples' own axis in front, several positions of one in its old place.
    axes: list[int | None] = [*range(len(value.shape))]
    axes[axis : axis + 1] = [] if each == 1 else [None]
    if len(axes) < 2:
        return Mean(()) if value.dtype.is_floating_point else None
    channels = channel_axis(record, index)
    if channels not in axes or not value.dtype.is_floating_point:
        return None
    positions = tuple(position for position, own in enumerate(axes) if own != channels)
    return Mean(positions, _mask(record, [value.shape[own] for own in axes if own not in (channels, None)]))


def _mask(record: Record, positions: Sequence[int]) -> int:
    """The input `attention_mask` where it has one number for each position; -1 without."""
    for value in record.values:
        if value.kind == "input" and value.name == MASK and list(value.shape[1:]) == list(positions):
            return value.index
    return -1
