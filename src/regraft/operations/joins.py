"""Several arrays, or none, → one array: concatenate, subtract, divide, fill, keep the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import final

import numpy as np

from regraft.operations.operation import Join, Operation, Shape, refusal


@final
@dataclass(frozen=True)
class Concatenate(Join):
    """Arrays one after the other along an axis, in the order of the row's sources."""

    axis: int

    def _joined(self, shapes: Sequence[Shape]) -> Shape:
        rest = {shape[: self.axis] + shape[self.axis + 1 :] for shape in shapes}
        if len(rest) != 1 or any(self.axis >= len(shape) for shape in shapes):
            raise refusal(self, list(shapes), "the other axes differ")
        total = sum(shape[self.axis] for shape in shapes)
        return (*shapes[0][: self.axis], total, *shapes[0][self.axis + 1 :])

    def _join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(list(arrays), axis=self.axis)

    def __str__(self) -> str:
        return f"concatenated on axis {self.axis}"


@final
@dataclass(frozen=True)
class Subtract(Join):
    """The first array minus the second: a bias folded into the mean of the batch-norm behind it."""

    def _joined(self, shapes: Sequence[Shape]) -> Shape:
        if len(shapes) != 2 or shapes[0] != shapes[1]:
            raise refusal(self, list(shapes), "it takes two arrays of one shape")
        return shapes[0]

    def _join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.asarray(arrays[0] - arrays[1])

    def __str__(self) -> str:
        return "first minus second"


@final
@dataclass(frozen=True)
class Divide(Join):
    """The first array divided by the single value of the second, 0 where that is 0 (Caffe's batch-norm does so)."""

    def _joined(self, shapes: Sequence[Shape]) -> Shape:
        if len(shapes) != 2 or prod(shapes[1]) != 1:
            raise refusal(self, list(shapes), "it takes an array and one value")
        return shapes[0]

    def _join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        divisor = arrays[1].reshape(())
        return arrays[0] / divisor if divisor else np.zeros_like(arrays[0])

    def __str__(self) -> str:
        return "first divided by second"


@final
@dataclass(frozen=True)
class Fill(Operation):
    """One value everywhere, from no source: what the source framework leaves out because it is 0 or 1."""

    value: float
    to: tuple[int, ...]

    def shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """`to`; there must be no source."""
        if shapes:
            raise refusal(self, list(shapes), "a filled array has no source")
        return [self.to]

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """A new float32 array."""
        return [np.full(self.to, self.value, dtype=np.float32)]

    def __str__(self) -> str:
        return f"filled with {self.value:g}"


@final
@dataclass(frozen=True)
class KeepRest(Operation):
    """The array fills the first of `count` elements along axis 0; the target's own values stay in the others.

    For more classes or tokens than the source has. `run` takes the target's own array behind the source's.
    """

    count: int

    def shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """The target's shape."""
        if len(shapes) != 1 or not shapes[0] or shapes[0][0] > self.count:
            raise refusal(self, list(shapes), f"it takes one array of at most {self.count} rows")
        return [(self.count, *shapes[0][1:])]

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """A copy of the target's own array with its first rows replaced."""
        values, own = arrays
        return [np.concatenate([values, own[len(values) :]])]

    def __str__(self) -> str:
        return f"the first of {self.count} rows, the others stay as initialised"
