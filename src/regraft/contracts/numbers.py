"""The contract of number inputs: which columns of a table the model takes, and how they are scaled."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field

from regraft.errors import DataError


@dataclass(frozen=True)
class NumberContract:
    """Columns of a table that become one row of float32 values, in this order.

    columns      their names
    standardize  scale each column to mean 0 and standard deviation 1 over the training table
    mean, std    by which they are scaled, x → (x - mean) / std; from the training table where `standardize` asks for it
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    standardize: Annotated[bool, Field(strict=True)] = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def measured(self, rows: np.ndarray) -> "NumberContract":
        """The same with the scale of these rows (count, columns), where it asks for one and has none.

        Raises DataError for a column whose values are all equal: there is nothing to scale by.
        """
        if not self.standardize or self.mean is not None:
            return self
        mean, std = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
        flat = [name for name, spread in zip(self.columns, std.tolist(), strict=True) if spread == 0]
        if flat:
            raise DataError(f"All values of {', '.join(flat)} are equal: leave these columns out of [numbers] columns.")
        return replace(self, mean=tuple(mean.tolist()), std=tuple(std.tolist()))

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """The model's input for these rows (count, columns), float32."""
        if self.mean is not None and self.std is not None:
            rows = (rows - np.asarray(self.mean)) / np.asarray(self.std)
        return rows.astype(np.float32)


def number_rows(table: str, columns: Mapping[str, Sequence[object]], names: Sequence[str]) -> np.ndarray:
    """The columns of these names as rows of float64. Raises DataError that names the first cell that is no number.

    table  its path, for messages
    """
    return np.stack([_numbers(table, name, columns[name]) for name in names], axis=1)


def _numbers(table: str, name: str, values: Sequence[object]) -> np.ndarray:
    numbers = np.empty(len(values))
    for index, value in enumerate(values):
        try:
            numbers[index] = float(value)  # type: ignore[arg-type]  # what is no number raises
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{table}: {name} of row {index + 1} is {value!r}, expected a number. Fill it in, or remove the row."
            ) from error
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        first = int(wrong.argmax())
        raise DataError(
            f"{table}: {name} of row {first + 1} is {numbers[first]}, expected a finite number. Fill it in, or remove "
            "the row."
        )
    return numbers
