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
class ConcatenateAround(Join):
    """Two vectors with `zeros` zeros between them: the biases of queries and values, where keys have none."""

    zeros: int

    def _joined(self, shapes: Sequence[Shape]) -> Shape:
        if len(shapes) != 2 or any(len(shape) != 1 for shape in shapes):
            raise refusal(self, list(shapes), "it takes two vectors")
        return (shapes[0][0] + self.zeros + shapes[1][0],)

    def _join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([arrays[0], np.zeros(self.zeros, arrays[0].dtype), arrays[1]])

    def __str__(self) -> str:
        return f"concatenated around {self.zeros} zeros"


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
class Multiply(Join):
    """The first array times the second, element by element: a pruned weight and its mask."""

    def _joined(self, shapes: Sequence[Shape]) -> Shape:
        if len(shapes) != 2 or shapes[0] != shapes[1]:
            raise refusal(self, list(shapes), "it takes two arrays of one shape")
        return shapes[0]

    def _join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.asarray(arrays[0] * arrays[1])

    def __str__(self) -> str:
        return "first times second"


@final
@dataclass(frozen=True)
class WeightNorm(Join):
    """g · v / ‖v‖, as torch's weight_norm: the norm over all axes along which g has one value."""

    def _joined(self, shapes: Sequence[Shape]) -> Shape:
        if len(shapes) != 2 or not is_norm_of(shapes[0], shapes[1]):
            raise refusal(self, list(shapes), "it takes g and v, where g has the size of v or 1 along each axis")
        return shapes[1]

    def _join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        g, v = arrays
        return np.asarray(g * (v / norm_over(v, g.shape)), v.dtype)

    def __str__(self) -> str:
        return "g · v / ‖v‖"


@final
@dataclass(frozen=True)
class DivideBySigma(Join):
    """The first array divided by its largest singular value σ = u · (W v), as torch's spectral_norm in evaluation.

    axis   of the outputs: the rows of W; all others are its columns
    """

    axis: int

    def _joined(self, shapes: Sequence[Shape]) -> Shape:
        weight, *vectors = shapes
        columns = prod(weight) // max(weight[self.axis], 1) if self.axis < len(weight) else -1
        if columns < 0 or vectors != [(weight[self.axis],), (columns,)]:
            raise refusal(self, list(shapes), f"it takes a kernel, u of its axis {self.axis}, and v of all others")
        return weight

    def _join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        weight, u, v = (array.astype(np.float64) for array in arrays)
        rows = np.moveaxis(weight, self.axis, 0).reshape(len(u), -1)
        return np.asarray(weight / (u @ rows @ v), arrays[0].dtype)

    def __str__(self) -> str:
        return "divided by its spectral norm"


def is_norm_of(g: Shape, v: Shape) -> bool:
    """Whether g has the size of v or 1 along each axis, or is a scalar."""
    return not g or (len(g) == len(v) and all(length in (1, size) for length, size in zip(g, v, strict=True)))


def norm_over(v: np.ndarray, shape: Shape) -> np.ndarray:
    """The norm of v over all axes along which the shape is 1, in that shape; of all of v for a scalar."""
    axes = tuple(axis for axis, size in enumerate(shape) if size == 1) if shape else None
    squares = np.square(v.astype(np.float64)).sum(axis=axes, keepdims=bool(shape))
    return np.asarray(np.sqrt(squares), v.dtype)


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


@final
@dataclass(frozen=True)
class AddProduct(Join):
    """W + scale · B A: a low-rank adapter (LoRA) merged into its weight.

    B is (out, rank, 1 …), A (rank, in, …). `transposed` is for a W that is stored as (in, out).
    Source: Hu et al., LoRA: low-rank adaptation of large language models, 2021.
    """

    scale: float
    transposed: bool = False

    def _joined(self, shapes: Sequence[Shape]) -> Shape:
        if len(shapes) != 3 or len(shapes[1]) < 2 or len(shapes[2]) < 2 or shapes[1][1] != shapes[2][0]:
            raise refusal(self, list(shapes), "it takes W, B (out, rank) and A (rank, in)")
        product = (shapes[1][0], *shapes[2][1:])
        if (product[::-1] if self.transposed else product) != shapes[0]:
            raise refusal(self, list(shapes), f"B A is {product}")
        return shapes[0]

    def _join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        weight, up, down = arrays
        product = up.reshape(len(up), -1).astype(np.float64) @ down.reshape(len(down), -1).astype(np.float64)
        added = self.scale * product.reshape(weight.shape[::-1] if self.transposed else weight.shape)
        return np.asarray(weight + (added.T if self.transposed else added), weight.dtype)

    def __str__(self) -> str:
        return f"W + {self.scale:g} · B A"


@final
@dataclass(frozen=True)
class ScaleByNorm(Join):
    """A kernel times scale / √(variance + eps) along its outputs: a batch-norm behind it, folded in.

    Takes the kernel, the norm's scale if it has one, and its variance.
    """

    axis: int
    eps: float
    has_scale: bool = True

    def _joined(self, shapes: Sequence[Shape]) -> Shape:
        if len(shapes) != 2 + self.has_scale or any(prod(shape) != shapes[0][self.axis] for shape in shapes[1:]):
            raise refusal(self, list(shapes), "it takes a kernel and the norm's arrays, one value for each output")
        return shapes[0]

    def _join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        kernel, *norm = arrays
        factor = _norm_factor(norm[-1], norm[0] if self.has_scale else None, self.eps)
        shape = [1] * kernel.ndim
        shape[self.axis] = -1
        return np.asarray(kernel * factor.reshape(shape), kernel.dtype)

    def __str__(self) -> str:
        return f"times the norm's scale / √(variance + {self.eps:g})"


@final
@dataclass(frozen=True)
class BiasOfNorm(Join):
    """shift + (bias - mean) · scale / √(variance + eps): the bias of a layer with a batch-norm folded in.

    Takes the layer's bias if it has one, the norm's mean and variance, its scale and its shift if it has them.
    """

    eps: float
    has_bias: bool = True
    has_scale: bool = True
    has_shift: bool = True

    def _joined(self, shapes: Sequence[Shape]) -> Shape:
        count = 2 + self.has_bias + self.has_scale + self.has_shift
        if len(shapes) != count or len(set(map(prod, shapes))) > 1:
            raise refusal(self, list(shapes), "it takes the bias and the norm's arrays, of one size")
        return (prod(shapes[0]),)

    def _join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        left = [array.reshape(-1) for array in arrays]
        bias = left.pop(0) if self.has_bias else np.zeros_like(left[0])
        mean, variance = left.pop(0), left.pop(0)
        scale = left.pop(0) if self.has_scale else None
        shift = left.pop(0) if self.has_shift else np.zeros_like(mean)
        return np.asarray(shift + (bias - mean) * _norm_factor(variance, scale, self.eps), mean.dtype)

    def __str__(self) -> str:
        return f"bias through the norm (eps {self.eps:g})"


def _norm_factor(variance: np.ndarray, scale: np.ndarray | None, eps: float) -> np.ndarray:
    factor = 1.0 / np.sqrt(variance.reshape(-1).astype(np.float64) + eps)
    return np.asarray(factor if scale is None else factor * scale.reshape(-1))
