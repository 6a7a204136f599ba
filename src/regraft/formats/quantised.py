"""Integers that stand for real numbers: value = scale × (integer − zero point) + minimum."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regraft.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How integers become numbers.

    scales       (1,) or (channels,) float32
    zero_points  as many as scales, or one, or none
    axis         the axis of the channels
    minimum      added at the end: TensorFlow.js' way, whose scale may be 0
    """

    scales: np.ndarray
    zero_points: np.ndarray
    axis: int = 0
    minimum: float = 0.0

    def check(self, shape: Sequence[int]) -> None:
        """Raise CheckpointError (without a file's name) when the scales do not fit the shape."""
        count = len(self.scales)
        is_sound = count == 1 or (0 <= self.axis < len(shape) and shape[self.axis] == count)
        if not is_sound or len(self.zero_points) not in (0, 1, count):
            raise CheckpointError(
                f"it has {count} scales and {len(self.zero_points)} zero points along axis {self.axis} of the shape "
                f"{tuple(shape)}"
            )

    def note(self, dtype: str) -> str:
        """What is said of the array in the plan."""
        per = "one scale" if len(self.scales) == 1 else f"a scale for each of {len(self.scales)} channels"
        return f"dequantised from {dtype}, {per}"

    def values(self, integers: np.ndarray) -> np.ndarray:
        """The numbers as float32. The sum is exact in float64, so only one rounding remains."""
        self.check(integers.shape)
        if len(self.scales) > 1:
            along = [1] * integers.ndim
            along[self.axis] = len(self.scales)
        else:
            along = []
        zeros = self.zero_points if len(self.zero_points) else np.zeros(1)
        zeros = zeros.astype(np.float64).reshape(along if len(zeros) > 1 else [])
        scales = self.scales.astype(np.float64).reshape(along)
        with np.errstate(over="ignore", invalid="ignore"):  # a damaged scale gives infinities, which the plan refuses
            return ((integers.astype(np.float64) - zeros) * scales + self.minimum).astype(np.float32)


def unpacked_nibbles(content: bytes | bytearray, count: int) -> np.ndarray:
    """`count` int4 numbers as int8: two in each byte, the lower half first."""
    raw = np.frombuffer(content, np.uint8)
    both = np.stack([raw << 4, raw], axis=1).reshape(-1)[:count]
    return both.view(np.int8) >> 4
