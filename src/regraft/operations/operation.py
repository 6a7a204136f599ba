"""The contract of an operation: arrays as stored → the array that a model takes, as plain data.

An operation knows the shape that it gives before anything is read, so that a plan is checked without values.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from regraft.errors import PlanError

Shape = tuple[int, ...]


class Operation(ABC):
    """One step from the arrays as stored to the array that the model takes. Subclasses are final and frozen."""

    @abstractmethod
    def shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """The shapes after the operation. Raises PlanError when it cannot be done to these."""

    @abstractmethod
    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The arrays after the operation; views where NumPy can give them, never written to."""

    @abstractmethod
    def __str__(self) -> str: ...

    def to_json(self) -> dict[str, Any]:
        """{"do": name, …arguments}: lists and numbers only."""
        arguments = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}  # type: ignore[call-overload]
        return {"do": type(self).__name__, **arguments}


class Each(Operation):
    """An operation that is done to each array by itself."""

    @abstractmethod
    def _shape(self, shape: Shape) -> Shape:
        """The shape that an array of this shape becomes."""

    @abstractmethod
    def _one(self, array: np.ndarray) -> np.ndarray:
        """The array after the operation; a view where NumPy can give one."""

    def shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Each shape by itself."""
        return [self._shape(shape) for shape in shapes]

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Each array by itself."""
        return [self._one(array) for array in arrays]


class Join(Operation):
    """An operation that makes one array of several."""

    @abstractmethod
    def _joined(self, shapes: Sequence[Shape]) -> Shape:
        """The shape of the result."""

    @abstractmethod
    def _join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """The result, a copy."""

    def shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """One shape."""
        return [self._joined(shapes)]

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """One array."""
        return [self._join(arrays)]


def refusal(operation: Operation, shape: object, why: str) -> PlanError:
    """The error of an operation that does not fit a shape; the caller raises it."""
    return PlanError(f"the operation '{operation}' cannot be done to shape {shape}: {why}")
