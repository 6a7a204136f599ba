"""Precision: how a feature's rows become the tensors that are stored, and back; and what that changes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from regraft.errors import CacheError
from regraft.tensors.keeping import kept_modes
from regraft.tensors.trees import tensors_of

PRECISIONS = ("float32", "bfloat16", "float16", "int8")
SCALE = "/scale"  # what follows a leaf's name in the name of its scales


@final
@dataclass(frozen=True)
class Difference:
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
    """The tensors to be stored for a leaf's rows (count, …); decode gives the rows back.

    float32   as they are, in their own dtype: exact. So are integers and booleans in every precision
    bfloat16, float16   rounded to nearest
    int8      -127 … 127 times a scale for each channel of these rows: the first dimension of (channels, h, w), the
              last one of everything flatter

    Raises CacheError when float16 cannot hold a value, or int8 a gap (a value that is no finite number).
    """
    if precision == "float32" or not rows.is_floating_point():
        return {leaf: rows}
    if precision == "int8":
        if not bool(rows.isfinite().all()):
            raise CacheError(
                f"The feature {leaf} has values that are no finite numbers, which int8 cannot hold.\n"
                "Choose precision='bfloat16' or 'float32'."
            )
        scale = scales(rows)
        return {leaf: (rows / _along(scale, rows)).round().clamp(-127, 127).to(torch.int8), leaf + SCALE: scale}
    stored = rows.to(getattr(torch, precision))
    if bool((stored.isinf() & rows.isfinite()).any()):
        raise CacheError(
            f"The feature {leaf} reaches {rows.abs().max().item():.3g}, more than float16 can hold (65,504).\n"
            "Choose precision='bfloat16' or 'float32'."
        )
    return {leaf: stored}


def decode(rows: Tensor, dtype: torch.dtype, scale: Tensor | None) -> Tensor:
    """The rows in the leaf's own dtype, from what `encode` stored; no copy when nothing has to change."""
    if scale is None:
        return rows.to(dtype)
    return (rows.to(scale.dtype) * _along(scale, rows)).to(dtype)


def difference(exact: Tensor, stored: Tensor) -> Difference:
    """The difference of two tensors of the same shape."""
    exact, stored = exact.double(), stored.double()
    apart = exact - stored
    norm = exact.square().mean().sqrt().item()
    return Difference(apart.abs().max().item(), apart.square().mean().sqrt().item() / norm if norm else 0.0)


def rounding(
    exact: Mapping[str, Tensor], computed: Mapping[str, Tensor], precision: str, head: Callable[[Any], Any] | None
) -> dict[str, Difference]:
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
    return decode(parts[leaf], rows.dtype, parts.get(leaf + SCALE))


def _outputs(head: Callable[[Any], Any], features: Mapping[str, Tensor]) -> list[Tensor]:
    with torch.no_grad():
        if not isinstance(head, nn.Module):
            return _floating(head(dict(features)))
        with kept_modes(head):
            head.eval()
            return _floating(head(dict(features)))


def _floating(outputs: Any) -> list[Tensor]:
    return [tensor for tensor in tensors_of(outputs) if tensor.is_floating_point()]


def scales(rows: Tensor) -> Tensor:
    """The int8 step of each channel: (channels,) float32; 1 for a channel that is all zero."""
    channel = _channel(rows)
    others = [dimension for dimension in range(rows.ndim) if dimension != channel]
    step = (
        rows.detach().float().abs().amax(dim=others) / 127 if rows.ndim > 1 else rows.float().abs().amax()[None] / 127
    )
    return torch.where(step > 0, step, torch.ones_like(step))


def _channel(rows: Tensor) -> int:
    """Which dimension of (count, …) holds the channels."""
    return 1 if rows.ndim >= 4 else rows.ndim - 1


def _along(scale: Tensor, rows: Tensor) -> Tensor:
    """The scales, shaped to be multiplied with the rows."""
    shape = [1] * rows.ndim
    shape[_channel(rows) if rows.ndim > 1 else 0] = len(scale)
    return scale.view(shape)
