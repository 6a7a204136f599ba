"""Layers that other frameworks have and torch has not: padding "same", transposed convolutions of Keras, an older GRU.

Each is a plain module, proven equal to the recorded outputs of the source framework (tests/test_tf_layers.py), and
takes the same arrays as torch's nearest layer. Use them where a plan says that torch's layer is another function.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Pairs = tuple[tuple[int, int], ...]


def same_pads(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Pairs:
    """(before, after) for each spatial axis, as TensorFlow's "SAME" pads: the odd one after.

    >>> same_pads((224, 224), (3, 3), (2, 2), (1, 1))
    ((0, 1), (0, 1))
    """
    pads = []
    for length, width, step, spread in zip(size, kernel, stride, dilation, strict=True):
        whole = max((-(-length // step) - 1) * step + (width - 1) * spread + 1 - length, 0)
        pads.append((whole // 2, whole - whole // 2))
    return tuple(pads)


def _padded(x: Tensor, pads: Any, value: float = 0.0) -> Tensor:
    """The map with values before and after; torch counts axes from the last one."""
    flat = [width for pair in reversed(pads) for width in pair]
    return functional.pad(x, flat, value=value) if any(flat) else x


class _Padded(nn.modules.conv._ConvNd):
    """A convolution that pads by itself.

    padding  "same" (TensorFlow's), "same_lower" (the odd one before), "causal", or (before, after) for each axis
    """

    _padding: str | Pairs

    def _pads(self, x: Tensor) -> Pairs:
        if not isinstance(self._padding, str):
            return self._padding
        if self._padding == "causal":
            return tuple((d * (k - 1), 0) for k, d in zip(self.kernel_size, self.dilation, strict=True))
        pads = same_pads(x.shape[2:], self.kernel_size, self.stride, self.dilation)
        return tuple((high, low) for low, high in pads) if self._padding == "same_lower" else pads

    def forward(self, input: Tensor) -> Tensor:
        """(n, in, *spatial) → (n, out, *spatial)."""
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[len(self.kernel_size) - 1]
        padded = _padded(input, self._pads(input))
        return convolve(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class PaddedConv1d(_Padded, nn.Conv1d):
    """nn.Conv1d that pads as TensorFlow does: see `padded`."""


class PaddedConv2d(_Padded, nn.Conv2d):
    """nn.Conv2d that pads as TensorFlow does: see `padded`."""


class PaddedConv3d(_Padded, nn.Conv3d):
    """nn.Conv3d that pads as TensorFlow does: see `padded`."""


_KINDS = {nn.Conv1d: PaddedConv1d, nn.Conv2d: PaddedConv2d, nn.Conv3d: PaddedConv3d}


def padded(conv: nn.modules.conv._ConvNd, padding: str | Sequence[int | Sequence[int]]) -> nn.modules.conv._ConvNd:
    """The same convolution, with the same Parameter objects, that pads by itself.

    padding  "same" as TensorFlow pads (it depends on the input's size), "same_lower", "causal", or
             one for each spatial axis of (before, after), or a number for both

    >>> padded(nn.Conv2d(3, 4, 3, stride=2), "same")(torch.zeros(1, 3, 8, 9)).shape
    torch.Size([1, 4, 4, 5])
    """
    kind = next(ours for theirs, ours in _KINDS.items() if isinstance(conv, theirs))
    sizes: dict[str, Any] = {
        "kernel_size": conv.kernel_size,
        "stride": conv.stride,
        "dilation": conv.dilation,
        "groups": conv.groups,
    }
    with torch.device("meta"):  # no memory: the arrays are replaced at once
        made = kind(conv.in_channels, conv.out_channels, bias=conv.bias is not None, **sizes)
    made.weight, made.bias = conv.weight, conv.bias
    made._padding = padding if isinstance(padding, str) else tuple(_pair(side) for side in padding)
    made.padding = made._padding  # type: ignore[assignment]  # what plans compare with the source's
    return made.train(conv.training)


def _pair(side: Any) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))


class PaddedPool(nn.Module):
    """Pooling that pads by itself, in one, two or three dimensions.

    kind     "max" or "average"
    padding  "same" as TensorFlow pads (it depends on the input's size), or (before, after) for each axis; () is none
    zeros    whether what is added counts as zeros; else it is never the largest and not counted in the average
    """

    def __init__(
        self,
        kind: str,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        padding: str | Pairs = "same",
        *,
        zeros: bool = False,
    ) -> None:
        super().__init__()
        self.kind, self.kernel_size, self.stride = kind, tuple(kernel_size), tuple(stride)
        self.padding, self.zeros = padding, zeros

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, *spatial) → (n, c, *spatial), with "same" ⌈size / stride⌉ along each axis."""
        pads = (
            same_pads(x.shape[2:], self.kernel_size, self.stride, (1,) * len(self.stride))
            if self.padding == "same"
            else self.padding
        )
        rank = len(self.kernel_size) - 1
        if self.kind == "max":
            pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[rank]
            return pool(_padded(x, pads, 0.0 if self.zeros else float("-inf")), self.kernel_size, self.stride)
        average = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[rank]
        sums = average(_padded(x, pads), self.kernel_size, self.stride)
        if self.zeros:
            return sums
        return sums / average(_padded(torch.ones_like(x[:1, :1]), pads), self.kernel_size, self.stride)

    def extra_repr(self) -> str:
        """What print(model) shows."""
        zeros = " of zeros" * self.zeros
        return f"{self.kind}, kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding!r}{zeros}"


class SameMaxPool2d(PaddedPool):
    """Max-pooling with TensorFlow's padding "same": what is added is never the largest."""

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__("max", (kernel_size, kernel_size), (stride, stride))


class SameAvgPool2d(PaddedPool):
    """Average-pooling with TensorFlow's padding "same": what is added does not count."""

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__("average", (kernel_size, kernel_size), (stride, stride))


class KerasConvTranspose2d(nn.ConvTranspose2d):
    """Keras' Conv2DTranspose: with "same" the output is stride times the input, cut at (kernel - stride) // 2.

    padding  "same" or "valid"; no padding and output_padding of torch's can express "same" for every kernel
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int],
        *,
        padding: str,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.cut = padding == "same"
        self.padding = padding if self.cut else self.padding  # what plans compare with the source's

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(n, in, h, w) → (n, out, h · stride, w · stride), or torch's size for "valid"."""
        whole = functional.conv_transpose2d(input, self.weight, self.bias, self.stride)
        for axis, (width, step) in enumerate(zip(self.kernel_size, self.stride, strict=True), start=2):
            size = input.shape[axis] * step if self.cut else (input.shape[axis] - 1) * step + max(width, step)
            low = max(width - step, 0) // 2 if self.cut else 0
            missing = low + size - whole.shape[axis]
            if missing > 0:  # a kernel smaller than its stride leaves a border that only the bias reaches
                whole = self._with_border(whole, axis, missing)
            whole = whole.narrow(axis, low, size)
        return whole

    def _with_border(self, whole: Tensor, axis: int, missing: int) -> Tensor:
        shape = list(whole.shape)
        shape[axis] = missing
        border = whole.new_zeros(shape)
        if self.bias is not None:
            border = border + self.bias[:, None, None]
        return torch.cat([whole, border], axis)


class ResetBeforeGRU(nn.Module):
    """The GRU of the first paper (Keras' reset_after=False): the state is reset before it is multiplied.

    One layer, one direction, batch first. Gates r z n, as torch orders them; one bias.
    Source: Cho et al., Learning phrase representations using RNN encoder-decoder, 2014.
    """

    reset_after = False

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        bound = hidden_size**-0.5
        self.weight_ih_l0 = nn.Parameter(torch.empty(3 * hidden_size, input_size).uniform_(-bound, bound))
        self.weight_hh_l0 = nn.Parameter(torch.empty(3 * hidden_size, hidden_size).uniform_(-bound, bound))
        self.bias_ih_l0 = nn.Parameter(torch.zeros(3 * hidden_size))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, steps, inputs), (1, n, hidden) → (n, steps, hidden), (1, n, hidden)."""
        hidden = x.new_zeros(x.shape[0], self.hidden_size) if state is None else state[0]
        both = 2 * self.hidden_size  # the rows of the two gates, before those of the candidate
        gates_hh, candidate_hh = self.weight_hh_l0[:both], self.weight_hh_l0[both:]
        outputs = []
        for inputs in functional.linear(x, self.weight_ih_l0, self.bias_ih_l0).unbind(1):
            gates, candidate = inputs[:, :both], inputs[:, both:]
            reset, keep = (gates + hidden @ gates_hh.T).sigmoid().chunk(2, dim=1)
            new = (candidate + (reset * hidden) @ candidate_hh.T).tanh()
            hidden = keep * hidden + (1 - keep) * new
            outputs.append(hidden)
        return torch.stack(outputs, 1), hidden[None]
