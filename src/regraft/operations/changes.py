"""One array → one array, values changed: cast, pad, sum or repeat input channels."""

from dataclasses import dataclass
from typing import final

import numpy as np

from regraft.operations.joins import is_norm_of, norm_over
from regraft.operations.operation import Each, Shape, refusal

_NUMPY_LACKS = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2"})


@final
@dataclass(frozen=True)
class Cast(Each):
    """Values in another dtype; what does not fit becomes infinite (`apply_plan` refuses that).

    What NumPy lacks stays float32: rounded to what bfloat16 holds; float8 is rounded by torch when it is written.
    """

    to: str

    def _shape(self, shape: Shape) -> Shape:
        return shape

    def _one(self, array: np.ndarray) -> np.ndarray:
        if self.to == "bfloat16":
            return _rounded_to_bfloat16(array)
        with np.errstate(over="ignore", invalid="ignore"):
            return array.astype(np.float32 if self.to in _NUMPY_LACKS else np.dtype(self.to))

    def __str__(self) -> str:
        return f"as {self.to}"


def _rounded_to_bfloat16(array: np.ndarray) -> np.ndarray:
    """float32 values that bfloat16 holds exactly, nearest even, as torch rounds."""
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array, dtype=np.float32)
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    # A NaN's bits must not be rounded up into infinity or around to zero.
    return np.where(np.isfinite(values), rounded.view(np.float32), values)


@final
@dataclass(frozen=True)
class VarianceFromInverse(Each):
    """1 / sqrt(variance + eps), as Lasagne stores it, → variance."""

    eps: float

    def _shape(self, shape: Shape) -> Shape:
        return shape

    def _one(self, array: np.ndarray) -> np.ndarray:
        return (1.0 / np.square(array.astype(np.float64)) - self.eps).astype(array.dtype)

    def __str__(self) -> str:
        return f"inverse standard deviation -> variance (eps {self.eps:g})"


@final
@dataclass(frozen=True)
class SumInputs(Each):
    """A convolution's input channels (axis 1) summed to one: right for an input repeated over all channels."""

    def _shape(self, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise refusal(self, shape, "it has no input axis")
        return (shape[0], 1, *shape[2:])

    def _one(self, array: np.ndarray) -> np.ndarray:
        return np.asarray(array.sum(axis=1, keepdims=True))

    def __str__(self) -> str:
        return "sum of the input channels"


@final
@dataclass(frozen=True)
class RepeatInputs(Each):
    """A convolution's input channels (axis 1) repeated in turn to `count`, scaled so that the sum keeps its size."""

    count: int

    def _shape(self, shape: Shape) -> Shape:
        if len(shape) < 2 or self.count < 1:
            raise refusal(self, shape, "it has no input axis to repeat")
        return (shape[0], self.count, *shape[2:])

    def _one(self, array: np.ndarray) -> np.ndarray:
        channels = array.shape[1]
        repeated = array.take(np.arange(self.count) % channels, axis=1)
        return np.asarray(repeated * np.asarray(channels / self.count, dtype=array.dtype))

    def __str__(self) -> str:
        return f"input channels repeated to {self.count}"


@final
@dataclass(frozen=True)
class NormOver(Each):
    """The norm over all axes along which `to` has one value: g of torch's weight_norm."""

    to: tuple[int, ...]

    def _shape(self, shape: Shape) -> Shape:
        if not is_norm_of(self.to, shape):
            raise refusal(self, shape, f"it has no norm of shape {self.to}")
        return self.to

    def _one(self, array: np.ndarray) -> np.ndarray:
        return norm_over(array, self.to)

    def __str__(self) -> str:
        return "its norm"


@final
@dataclass(frozen=True)
class AlongTime(Each):
    """A kernel of images (out, in, h, w) as one of videos (out, in, t, h, w).

    Repeated over the steps and divided by their number, so that a still video gives what the image gave; or with
    `centre` in the middle step alone, all others 0.
    Source: Carreira and Zisserman, Quo vadis, action recognition?, 2017 (repeated).
    """

    steps: int
    centre: bool = False

    def _shape(self, shape: Shape) -> Shape:
        if len(shape) < 3 or self.steps < 1:
            raise refusal(self, shape, "it is no kernel of a convolution")
        return (*shape[:2], self.steps, *shape[2:])

    def _one(self, array: np.ndarray) -> np.ndarray:
        inflated = np.zeros(self._shape(array.shape), array.dtype)
        if self.centre:
            inflated[:, :, self.steps // 2] = array
        else:
            inflated[:] = (array / np.asarray(self.steps, array.dtype))[:, :, None]
        return inflated

    def __str__(self) -> str:
        return f"in the middle of {self.steps} steps" if self.centre else f"repeated over {self.steps} steps"


@final
@dataclass(frozen=True)
class Pad(Each):
    """Zeros before and after along an axis."""

    axis: int
    before: int
    after: int

    def _shape(self, shape: Shape) -> Shape:
        if self.axis >= len(shape):
            raise refusal(self, shape, f"there is no axis {self.axis}")
        grown = shape[self.axis] + self.before + self.after
        return (*shape[: self.axis], grown, *shape[self.axis + 1 :])

    def _one(self, array: np.ndarray) -> np.ndarray:
        widths = [(0, 0)] * array.ndim
        widths[self.axis] = (self.before, self.after)
        return np.pad(array, widths)

    def __str__(self) -> str:
        return f"{self.before} zeros before and {self.after} after on axis {self.axis}"


@final
@dataclass(frozen=True)
class AddTo(Each):
    """A constant added to the elements from `start` to before `stop` along an axis."""

    axis: int
    start: int
    stop: int
    value: float

    def _shape(self, shape: Shape) -> Shape:
        if self.axis >= len(shape) or not 0 <= self.start < self.stop <= shape[self.axis]:
            raise refusal(self, shape, f"axis {self.axis} has no elements {self.start} to {self.stop - 1}")
        return shape

    def _one(self, array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed[(slice(None),) * self.axis + (slice(self.start, self.stop),)] += np.asarray(self.value, array.dtype)
        return changed

    def __str__(self) -> str:
        return f"{self.value:g} added to {self.start}:{self.stop} of axis {self.axis}"
