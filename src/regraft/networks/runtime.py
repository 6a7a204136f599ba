"""Functions and layers that torch lacks. The source of a network holds a copy of those that it uses."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def same_widths(x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """The widths of TensorFlow's padding "same" as F.pad takes them: the odd one after the map."""
    widths: list[int] = []
    for axis in reversed(range(len(kernel))):
        size, k, s, d = x.shape[axis + 2], kernel[axis], stride[axis], dilation[axis]
        whole = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        widths += [whole // 2, whole - whole // 2]
    return widths


class Conv1dSame(nn.Conv1d):
    """nn.Conv1d with TensorFlow's padding "same", which depends on the size of the input."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, in, steps) → (n, out, ceil(steps / stride))."""
        return super().forward(F.pad(input, same_widths(input, self.kernel_size, self.stride, self.dilation)))


class Conv2dSame(nn.Conv2d):
    """nn.Conv2d with TensorFlow's padding "same", which depends on the size of the input."""

    def __init__(self, *args: Any, lower: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lower = lower  # the odd one before the map, as ONNX' SAME_LOWER

    def forward(self, input: Tensor) -> Tensor:
        """(n, in, h, w) → (n, out, ceil(h / stride), ceil(w / stride))."""
        widths = same_widths(input, self.kernel_size, self.stride, self.dilation)
        if self.lower:
            widths = [widths[1], widths[0], widths[3], widths[2]]
        return super().forward(F.pad(input, widths))


class Conv3dSame(nn.Conv3d):
    """nn.Conv3d with TensorFlow's padding "same", which depends on the size of the input."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, in, d, h, w) → (n, out, ceil(d / stride), …)."""
        return super().forward(F.pad(input, same_widths(input, self.kernel_size, self.stride, self.dilation)))


def _pool_widths(x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Any) -> list[int]:
    if isinstance(padding, str):
        widths = same_widths(x, kernel, stride, [1] * len(kernel))
        return [widths[i ^ 1] for i in range(len(widths))] if padding == "same_lower" else widths
    return [width for pair in reversed(padding) for width in pair]


def max_pool_padded(x: Tensor, kernel: Any, stride: Any, padding: Any, zeros: bool = False) -> Tensor:
    """Max-pooling with a padding that torch's own cannot have; what is added is never the largest, unless `zeros`.

    padding  "same" as TensorFlow pads, or (before, after) for each axis
    """
    rank = x.dim() - 2
    kernel = [kernel] * rank if isinstance(kernel, int) else kernel
    stride = [stride] * rank if isinstance(stride, int) else stride
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    padded = F.pad(x, _pool_widths(x, kernel, stride, padding), value=0.0 if zeros else float("-inf"))
    return pool(padded, kernel, stride)


def avg_pool_padded(x: Tensor, kernel: Any, stride: Any, padding: Any, zeros: bool = False) -> Tensor:
    """Average-pooling with a padding that torch's own cannot have; what is added does not count, unless `zeros`.

    padding  "same" as TensorFlow pads, or (before, after) for each axis
    """
    rank = x.dim() - 2
    kernel = [kernel] * rank if isinstance(kernel, int) else kernel
    stride = [stride] * rank if isinstance(stride, int) else stride
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    widths = _pool_widths(x, kernel, stride, padding)
    sums = pool(F.pad(x, widths), kernel, stride)
    return sums if zeros else sums / pool(F.pad(torch.ones_like(x[:1, :1]), widths), kernel, stride)


def pad_edges(x: Tensor, pads: Sequence[Sequence[int]], mode: str) -> Tensor:
    """Padding by values of the map itself, one axis after the other.

    pads  (before, after) for each axis
    mode  "reflect" (without the edge), "symmetric" (with it) or "edge" (the edge again)
    """
    for axis, (before, after) in enumerate(pads):
        size = x.shape[axis]
        index = torch.arange(-before, size + after, device=x.device)
        if mode == "edge":
            index = index.clamp(0, size - 1)
        else:
            period = max(2 * (size - 1), 1) if mode == "reflect" else 2 * size
            index = index.remainder(period)
            index = torch.where(index < size, index, period - index - int(mode == "symmetric"))
        x = x.index_select(axis, index) if before or after else x
    return x


def depth_to_space(x: Tensor, block: int, mode: str = "DCR") -> Tensor:
    """(n, c · block², h, w) → (n, c, h · block, w · block); the block is first in the channels (DCR) or last (CRD)."""
    n, c, h, w = x.shape
    if mode == "CRD":
        return F.pixel_shuffle(x, block)
    x = x.reshape(n, block, block, c // block**2, h, w)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(n, c // block**2, h * block, w * block)


def space_to_depth(x: Tensor, block: int) -> Tensor:
    """(n, c, h · block, w · block) → (n, block² · c, h, w), the block's position first in the channels."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // block, block, w // block, block)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(n, c * block**2, h // block, w // block)


def resize(
    x: Tensor, size: Any = None, scale: Any = None, mode: str = "nearest", coordinates: str = "half_pixel",
    rounding: str = "round_prefer_floor",
) -> Tensor:  # fmt: skip
    """Resizing with the coordinates of ONNX and TensorFlow, one axis after the other.

    size, scale  for each spatial axis, or one for all; a scale gives floor(size · scale)
    coordinates  "half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "tf_half_pixel_for_nn"
    rounding     of "nearest": "round_prefer_floor", "round_prefer_ceil", "floor" or "ceil"
    """
    rank = x.dim() - 2
    scales = [scale] * rank if isinstance(scale, int | float) else scale
    sizes = [size] * rank if isinstance(size, int) else size
    for axis in range(2, x.dim()):
        old = x.shape[axis]
        new = int(sizes[axis - 2]) if sizes is not None else int(old * scales[axis - 2])
        factor = scales[axis - 2] if scales is not None else new / old
        at = torch.arange(new, device=x.device, dtype=torch.float64)
        if coordinates == "align_corners":
            at = at * ((old - 1) / (new - 1)) if new > 1 else at * 0
        elif coordinates == "asymmetric":
            at = at / factor
        elif coordinates == "tf_half_pixel_for_nn":
            at = (at + 0.5) / factor
        elif coordinates == "pytorch_half_pixel" and new <= 1:
            at = at * 0
        else:
            at = (at + 0.5) / factor - 0.5
        x = _resized(x, axis, at, mode, rounding)
    return x


def _resized(x: Tensor, axis: int, at: Tensor, mode: str, rounding: str) -> Tensor:
    last = x.shape[axis] - 1
    if mode == "nearest":
        shift = {"floor": 0.0, "ceil": 0.0, "round_prefer_ceil": 0.5, "round_prefer_floor": -0.5}[rounding]
        rounded = torch.floor(at + shift) if rounding in ("floor", "round_prefer_ceil") else torch.ceil(at + shift)
        return x.index_select(axis, rounded.long().clamp(0, last))
    low = torch.floor(at)
    part = (at - low).to(x.dtype).reshape([-1] + [1] * (x.dim() - axis - 1))
    before, after = (x.index_select(axis, index.long().clamp(0, last)) for index in (low, low + 1))
    if mode == "linear":
        return before * (1 - part) + after * part
    total = torch.zeros_like(before)
    for offset in (-1, 0, 1, 2):  # the cubic of Keys with a = -0.75, as torch and ONNX have it
        t = (part - offset).abs()
        inner, outer = (1.25 * t - 2.25) * t * t + 1, ((-0.75 * t + 3.75) * t - 6) * t + 3
        total = total + x.index_select(axis, (low + offset).long().clamp(0, last)) * torch.where(t <= 1, inner, outer)
    return total


class RecurrentLayer(nn.Module):
    """An LSTM, a GRU or a simple recurrent layer with activations of its own, or a GRU that resets before its product.

    Batch first, one direction. The arrays are named and ordered as torch's: gates i f g o, r z n.
    """

    def __init__(
        self, inputs: int, hidden: int, kind: str, bias: bool = True, two_biases: bool = False,
        activation: str = "tanh", gates: str = "sigmoid", reset_after: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.hidden, self.kind, self.reset_after = hidden, kind, reset_after
        self.activation, self.gates = activation, gates
        rows = {"lstm": 4, "gru": 3, "rnn": 1}[kind] * hidden
        bound = hidden**-0.5
        self.weight_ih_l0 = nn.Parameter(torch.empty(rows, inputs).uniform_(-bound, bound))
        self.weight_hh_l0 = nn.Parameter(torch.empty(rows, hidden).uniform_(-bound, bound))
        self.bias_ih_l0 = nn.Parameter(torch.zeros(rows)) if bias else None
        self.bias_hh_l0 = nn.Parameter(torch.zeros(rows)) if two_biases else None

    def forward(self, x: Tensor, h: Tensor | None = None, c: Tensor | None = None) -> tuple[Tensor, Any]:
        """(n, steps, inputs) → (n, steps, hidden) and the last states, (1, n, hidden)."""
        h = x.new_zeros(x.shape[0], self.hidden) if h is None else h[0]
        c = x.new_zeros(x.shape[0], self.hidden) if c is None else c[0]
        outputs = []
        for step in F.linear(x, self.weight_ih_l0, self.bias_ih_l0).unbind(1):
            h, c = self.cell(step, h, c)
            outputs.append(h)
        return torch.stack(outputs, 1), (h[None], c[None]) if self.kind == "lstm" else h[None]

    def cell(self, step: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One step: the input's part of all gates, the states → the new states."""
        act, gate = (getattr(self, "f_" + name) for name in (self.activation, self.gates))
        if self.kind == "gru" and not self.reset_after:
            both = 2 * self.hidden
            inner = step if self.bias_hh_l0 is None else step + self.bias_hh_l0
            r, z = gate(inner[:, :both] + F.linear(h, self.weight_hh_l0[:both])).chunk(2, 1)
            new = act(inner[:, both:] + F.linear(r * h, self.weight_hh_l0[both:]))
            return z * h + (1 - z) * new, c
        inner = F.linear(h, self.weight_hh_l0, self.bias_hh_l0)
        if self.kind == "rnn":
            return act(step + inner), c
        if self.kind == "gru":
            (r, z, n), (hr, hz, hn) = step.chunk(3, 1), inner.chunk(3, 1)
            z = gate(z + hz)
            return z * h + (1 - z) * act(n + gate(r + hr) * hn), c
        i, f, g, o = (step + inner).chunk(4, 1)
        c = gate(f) * c + gate(i) * act(g)
        return gate(o) * act(c), c

    def f_hard_sigmoid(self, x: Tensor) -> Tensor:
        """Keras' up to 2.x: 0.2 x + 0.5 between 0 and 1."""
        return (0.2 * x + 0.5).clamp(0, 1)

    def f_hard_sigmoid_6(self, x: Tensor) -> Tensor:
        """Keras 3's: x / 6 + 0.5 between 0 and 1."""
        return (x / 6 + 0.5).clamp(0, 1)

    def f_linear(self, x: Tensor) -> Tensor:
        """The values themselves."""
        return x

    f_sigmoid, f_tanh, f_relu = (staticmethod(function) for function in (torch.sigmoid, torch.tanh, torch.relu))
