"""Precision: how a feature's rows become the tensors that are stored, and back; and what that changes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor, nn

from regraft.errors import Advice, CacheError
from regraft.tensors.keeping import kept_modes
from regraft.tensors.trees import tensors_of

Precision = Literal["float32", "bfloat16", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SCALE = "/scale"  # what follows a leaf's name in the name of its channels' steps
OWN_SCALE = "/row/scale"  # … of the steps of rows that are far larger than others
OUTLIER = 3.0  # times the middle row's size; rows of one network's features differ by less


@final
@dataclass(frozen=True)
class Rounding:
    """How far stored rows are from the exact ones, measured on a sample.

    largest   the largest absolute difference of a value
    relative  the root mean square of the differences, over that of the exact values
    """

    largest: float
    relative: float

    def __str__(self) -> str:
        return f"largest {self.largest:.3g}, relative {self.relative:.3g}"


def check_precision(precision: str) -> None:
    """Raise CacheError when there is no such precision."""
    if precision not in PRECISIONS:
        raise CacheError(f"No precision {precision!r}. Precisions: {', '.join(PRECISIONS)}.")


def encode(leaf: str, rows: Tensor, precision: str) -> dict[str, Tensor]:
    """The tensors to be stored for a leaf's rows (count, …); decode_rows gives the rows back.

    float32   as they are, in their own dtype: exact. So are integers and booleans in every precision
    bfloat16, float16   rounded to nearest
    int8      -127 … 127 times a step, see `int8_steps`; the channels are the first dimension of (channels, h, w), the
              last one of everything flatter

    Raises CacheError when float16 cannot hold a value, or int8 a gap (a value that is no finite number).
    """
    if precision == "float32" or not rows.is_floating_point():
        return {leaf: rows}
    if precision == "int8":
        steps, own = int8_steps(_channel_sizes(rows))
        return encode_by_steps(leaf, rows, steps, own, own)
    stored = rows.to(getattr(torch, precision))
    if bool((stored.isinf() & rows.isfinite()).any()):
        raise CacheError(
            f"The feature {leaf} reaches {rows.abs().max().item():.3g}, more than float16 can hold (65,504).",
            advice=[Advice("precision", "bfloat16", "store the features with a larger range")],
        )
    return {leaf: stored}


def encode_by_steps(leaf: str, rows: Tensor, steps: Tensor, own: Tensor, places: Tensor) -> dict[str, Tensor]:
    """The tensors to be stored in int8.

    own     the rows' own steps as they are stored
    places  the same for each row of the tensor
    """
    if not bool(rows.isfinite().all()):
        raise CacheError(
            f"The feature {leaf} has values that are not finite, which int8 cannot hold.",
            advice=[Advice("precision", "bfloat16", "store them as they are")],
        )
    codes = (rows / _step(rows, steps, places)).round().clamp(-127, 127).to(torch.int8)
    return {leaf: codes, leaf + SCALE: steps} | ({leaf + OWN_SCALE: own} if bool(own.any()) else {})


def decode_rows(rows: Tensor, dtype: torch.dtype, steps: Tensor | None, own: Tensor | None = None) -> Tensor:
    """The rows in the leaf's own dtype, from what `encode` stored; no copy when nothing has to change."""
    if steps is None:
        return rows.to(dtype)
    return (rows.to(steps.dtype) * _step(rows, steps, own)).to(dtype)


def int8_steps(sizes: Tensor) -> tuple[Tensor, Tensor]:
    """The steps of int8: of each channel (channels,), and of each row (rows,) that has one of its own, else 0.

    sizes  (rows, channels) float32, the largest absolute value of a channel in a row

    A row that is OUTLIER times larger than the middle one has a step of its own, so that it does not take the detail of
    all others. The step of a channel is that of its largest value in the other rows; 1 for a channel that is all zero.
    """
    norms = sizes.double().square().mean(1).sqrt()
    middle = norms[norms > 0].median() if bool((norms > 0).any()) else norms.new_ones(())
    is_outlier = norms > OUTLIER * middle
    steps = sizes[~is_outlier].amax(0) / 127
    own = torch.where(is_outlier, sizes.amax(1) / 127, 0.0)
    return torch.where(steps > 0, steps, 1.0), own


def difference(exact: Tensor, stored: Tensor) -> Rounding:
    """The difference of two tensors of the same shape."""
    exact, stored = exact.double(), stored.double()
    apart = exact - stored
    norm = exact.square().mean().sqrt().item()
    return Rounding(apart.abs().max().item(), apart.square().mean().sqrt().item() / norm if norm else 0.0)


def rounding(
    exact: Mapping[str, Tensor], computed: Mapping[str, Tensor], precision: str, head: Callable[[Any], object] | None
) -> dict[str, Rounding]:
    """How far stored features are from exact ones, for each leaf, and for each of the head's outputs.

    exact     the features of a batch in float32
    computed  as they are computed, before they are stored
    head      called in evaluation mode; its mode is left as it was
    """
    stored = {leaf: _as_stored(leaf, rows, precision) for leaf, rows in computed.items()}
    measured = {leaf: difference(exact[leaf], rows) for leaf, rows in stored.items()}
    if head is not None:
        for number, (expected, got) in enumerate(zip(_outputs(head, exact), _outputs(head, stored), strict=True)):
            measured["output" if number == 0 else f"output {number}"] = difference(expected, got)
    return measured


def _as_stored(leaf: str, rows: Tensor, precision: str) -> Tensor:
    parts = encode(leaf, rows, precision)
    return decode_rows(parts[leaf], rows.dtype, parts.get(leaf + SCALE), parts.get(leaf + OWN_SCALE))


def _outputs(head: Callable[[Any], object], features: Mapping[str, Tensor]) -> list[Tensor]:
    with torch.no_grad():
        if not isinstance(head, nn.Module):
            return _floating(head(dict(features)))
        with kept_modes(head):
            head.eval()
            return _floating(head(dict(features)))


def _floating(outputs: object) -> list[Tensor]:
    return [tensor for tensor in tensors_of(outputs) if tensor.is_floating_point()]


def _channel_sizes(rows: Tensor) -> Tensor:
    """The largest absolute value of each channel in each row: (rows, channels) float32."""
    sizes = rows.detach().float().abs()
    if rows.ndim == 1:
        return sizes[:, None]
    others = [dimension for dimension in range(1, rows.ndim) if dimension != _channel(rows)]
    return sizes.amax(dim=others) if others else sizes


def _step(rows: Tensor, steps: Tensor, own: Tensor | None) -> Tensor:
    """The step of each value, shaped to be multiplied with the rows."""
    shape = [1] * rows.ndim
    shape[_channel(rows) if rows.ndim > 1 else 0] = len(steps)
    if own is None or not bool(own.any()):
        return steps.view(shape)
    alone = own.view(-1, *[1] * (rows.ndim - 1))
    return torch.where(alone > 0, alone, steps.view(shape))


def _channel(rows: Tensor) -> int:
    """Which dimension of (count, …) holds the channels."""
    return 1 if rows.ndim >= 4 else rows.ndim - 1
