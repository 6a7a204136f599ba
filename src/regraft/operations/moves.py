"""One array → one array, values only moved: transpose, reshape, flip, permute a flattened map, reorder gates, take."""

from dataclasses import dataclass
from math import prod
from typing import final

import numpy as np

from regraft.operations.operation import Each, Shape, refusal


@final
@dataclass(frozen=True)
class Transpose(Each):
    """Axes in a new order. `words` names the axes as stored, for people: ("h", "w", "in", "out")."""

    axes: tuple[int, ...]
    words: tuple[str, ...] = ()

    def _shape(self, shape: Shape) -> Shape:
        if sorted(self.axes) != list(range(len(shape))):
            raise refusal(self, shape, f"it moves {len(self.axes)} axes, the array has {len(shape)}")
        return tuple(shape[axis] for axis in self.axes)

    def _one(self, array: np.ndarray) -> np.ndarray:
        return array.transpose(self.axes)

    def __str__(self) -> str:
        if not self.words:
            return f"transpose {self.axes}"
        return f"({', '.join(self.words)}) -> ({', '.join(self.words[axis] for axis in self.axes)})"


@final
@dataclass(frozen=True)
class Reshape(Each):
    """The same elements in row-major order under another shape."""

    to: tuple[int, ...]

    def _shape(self, shape: Shape) -> Shape:
        if prod(shape) != prod(self.to):
            raise refusal(self, shape, f"{prod(shape)} elements become {prod(self.to)}")
        return self.to

    def _one(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(self.to)

    def __str__(self) -> str:
        return f"reshape {self.to}"


@final
@dataclass(frozen=True)
class Flip(Each):
    """The order of the elements reversed along axes: RGB ↔ BGR, or a convolution's kernel reversed."""

    axes: tuple[int, ...]

    def _shape(self, shape: Shape) -> Shape:
        if any(axis >= len(shape) for axis in self.axes):
            raise refusal(self, shape, "there is no such axis")
        return shape

    def _one(self, array: np.ndarray) -> np.ndarray:
        return np.flip(array, self.axes)

    def __str__(self) -> str:
        return f"flip axes {self.axes}"


@final
@dataclass(frozen=True)
class PermuteFlat(Each):
    """One axis is a flattened map: it is unfolded to `sizes`, its axes are put in `order`, and it is folded again.

    A dense layer behind a flattened map of (h, w, c) takes inputs in (c, h, w) order after
    PermuteFlat(axis=1, sizes=(h, w, c), order=(2, 0, 1)).
    """

    axis: int
    sizes: tuple[int, ...]
    order: tuple[int, ...]

    def _shape(self, shape: Shape) -> Shape:
        if self.axis >= len(shape) or shape[self.axis] != prod(self.sizes):
            raise refusal(self, shape, f"axis {self.axis} must hold {' × '.join(map(str, self.sizes))} elements")
        return shape

    def _one(self, array: np.ndarray) -> np.ndarray:
        picked = np.arange(prod(self.sizes)).reshape(self.sizes).transpose(self.order).reshape(-1)
        return array.take(picked, axis=self.axis)

    def __str__(self) -> str:
        after = tuple(self.sizes[axis] for axis in self.order)
        return f"flattened map {self.sizes} -> {after} on axis {self.axis}"


@final
@dataclass(frozen=True)
class Gates(Each):
    """Equal blocks along an axis in a new order: the gates of a recurrent cell.

    order   block `order[k]` of the source becomes block k
    words   the gates as stored, for people: "ifco"
    """

    axis: int
    order: tuple[int, ...]
    words: str = ""

    def _shape(self, shape: Shape) -> Shape:
        if self.axis >= len(shape) or shape[self.axis] % len(self.order):
            raise refusal(self, shape, f"axis {self.axis} must split into {len(self.order)} equal gates")
        return shape

    def _one(self, array: np.ndarray) -> np.ndarray:
        blocks = np.split(array, len(self.order), axis=self.axis)
        return np.concatenate([blocks[index] for index in self.order], axis=self.axis)

    def __str__(self) -> str:
        if not self.words:
            return f"gates {self.order}"
        return f"gates {self.words} -> {''.join(self.words[index] for index in self.order)}"


@final
@dataclass(frozen=True)
class Take(Each):
    """The elements from `start` to before `stop` along an axis; with `drop`, a single one and its axis goes."""

    axis: int
    start: int
    stop: int
    drop: bool = False

    def _shape(self, shape: Shape) -> Shape:
        if self.axis >= len(shape) or not 0 <= self.start < self.stop <= shape[self.axis]:
            raise refusal(self, shape, f"axis {self.axis} has no elements {self.start} to {self.stop - 1}")
        if self.drop and self.stop - self.start != 1:
            raise refusal(self, shape, "only a single element's axis can be dropped")
        kept = () if self.drop else (self.stop - self.start,)
        return shape[: self.axis] + kept + shape[self.axis + 1 :]

    def _one(self, array: np.ndarray) -> np.ndarray:
        part = array[(slice(None),) * self.axis + (slice(self.start, self.stop),)]
        return part.squeeze(self.axis) if self.drop else part

    def __str__(self) -> str:
        return f"take {self.start}:{self.stop} of axis {self.axis}"
