"""ONNX tensors of integers that stand for real numbers, as the operators around them say.

Source: the operators' descriptions in onnx/onnx, docs/Operators.md (DequantizeLinear, QLinearConv, QLinearMatMul).
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from regraft.formats.onnx_tensors import Stored

SCALED = {  # operator → (places of the integers, their scale and their zero point among its inputs)
    "DequantizeLinear": (0, 1, 2),
    "QLinearConv": (3, 4, 5),
    "QLinearMatMul": (3, 4, 5),
    "QGemm": (3, 4, 5),
}
AXES = {"QLinearConv": 0, "ConvInteger": 0, "QLinearMatMul": -1, "MatMulInteger": -1, "QGemm": -1}
REAL = {  # operator → (the one that it stands for, the places of that one's inputs)
    "QLinearConv": ("Conv", (0, 3, 8)),
    "ConvInteger": ("Conv", (0, 1)),
    "QLinearMatMul": ("MatMul", (0, 3)),
    "MatMulInteger": ("MatMul", (0, 1)),
    "QGemm": ("Gemm", (0, 3, 6)),
}


CODED = ("int8", "uint8", "int4", "uint4")  # types that stand for real numbers where a scale is beside them


@dataclass(frozen=True)
class Dequantised:
    """value = (integer - zero point) × scale.

    axis   of the scales when there are several
    block  numbers along the axis that share a scale; 0 is one scale for each place on the axis
    turned   whether the last two axes are exchanged afterwards
    """

    integers: Stored
    scale: Stored
    zero: Stored | None
    axis: int
    block: int
    dtype: str = "float32"
    turned: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the numbers."""
        shape = self.integers.shape
        return (*shape[:-2], shape[-1], shape[-2]) if self.turned else shape

    @property
    def note(self) -> str:
        """What is said of the array in the plan."""
        count = prod(self.scale.shape)
        per = "one scale" if count == 1 else f"{count} scales along axis {self.axis % len(self.shape)}"
        return f"dequantised from {self.integers.dtype}, {per}"

    def fits(self) -> bool:
        """Whether the scales and zero points belong to a tensor of this shape."""
        shape, rank = self.scale.shape, len(self.integers.shape)
        if self.zero is not None and prod(self.zero.shape) not in (1, prod(shape)):
            return False
        if prod(shape) == 1:
            return True
        if not -rank <= self.axis < rank or self.block < 0:
            return False
        length = self.integers.shape[self.axis]
        if not self.block:
            return prod(shape) == max(shape) == length
        wanted = list(self.integers.shape)
        wanted[self.axis] = -(-length // self.block)
        return list(shape) == wanted

    def read(self) -> np.ndarray:
        """The numbers as float32; difference and product are those of ONNX Runtime."""
        integers = self.integers.read().astype(np.float32)
        zero = 0 if self.zero is None else self._spread(self.zero.read().astype(np.float32))
        scale = self._spread(self.scale.read().astype(np.float32))
        with np.errstate(over="ignore", invalid="ignore"):  # a damaged scale gives infinities, which the plan refuses
            numbers: np.ndarray = (integers - zero) * scale
        return (numbers.swapaxes(-1, -2) if self.turned else numbers).astype(np.float32)

    def _spread(self, values: np.ndarray) -> np.ndarray:
        """Scales or zero points, in a shape that goes with the integers."""
        if values.size == 1:
            return values.reshape(())
        if self.block:
            return np.repeat(values, self.block, self.axis).take(range(self.integers.shape[self.axis]), self.axis)
        along = [1] * len(self.integers.shape)
        along[self.axis] = -1
        return values.reshape(along)


def scale_axis(scale: tuple[int, ...], integers: tuple[int, ...]) -> int | None:
    """The axis of the integers along which scales of this shape are broadcast; None when they do not belong to them.

    >>> scale_axis((4,), (3, 4)), scale_axis((3, 1), (3, 4)), scale_axis((), (3, 4)), scale_axis((2,), (3, 4))
    (1, 0, 0, None)
    """
    aligned = (1,) * (len(integers) - len(scale)) + scale
    if len(aligned) != len(integers) or not integers:
        return None
    axes = [axis for axis, size in enumerate(aligned) if size != 1]
    if len(axes) > 1 or any(aligned[axis] != integers[axis] for axis in axes):
        return None
    return axes[0] if axes else 0
