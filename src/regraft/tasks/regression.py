"""The task with numbers as labels."""

from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from regraft.errors import DataError
from regraft.tasks.numbers import known_positions, refuse_misfit, reshaped, spread_weights
from regraft.tasks.outputs import logits_of
from regraft.tasks.task import LabelCheck, Task, example_of, first_row


@final
@dataclass(frozen=True)
class Regression(Task):
    """One number for each output: outputs and labels (batch, …) of one shape. Outputs (batch, 1) fit labels (batch,).

    ignore   the label of a number that is not known, float("nan") for instance; None: all are known
    """

    ignore: float | None = None
    name: str = "regression"
    metrics: tuple[str, ...] = ("mean_absolute_error", "r2")
    loss: str = "mean_squared_error"

    def check(self, outputs: object, labels: object) -> LabelCheck:
        """Finite numbers."""
        refuse_misfit(self, logits_of(outputs), labels)
        return FiniteCheck(self.ignore)

    def aligned(self, outputs: object, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and labels of one shape and type; with `ignore` only the positions that have a label, in a line."""
        return known_positions(*reshaped(logits_of(outputs), labels), self.ignore)

    def counted(self, labels: Tensor) -> Tensor:
        """The labels; with `ignore` those that are known, in a line."""
        return known_positions(labels, labels, self.ignore)[1]

    def spread(self, weights: Tensor, labels: Tensor) -> Tensor:
        """The weight of its example for each label that is known."""
        return spread_weights(weights, labels, self.ignore)

    def pairs(self, outputs: object, labels: Tensor) -> tuple[Tensor, Tensor] | None:
        """Numbers (count, targets) and labels of that shape; (count,) for one target, or where some are not known."""
        values, targets = known_positions(*reshaped(logits_of(outputs), labels), self.ignore)
        if values.ndim == 2 and values.shape[1] > 1:
            return values.float(), targets.float()
        return values.float().reshape(-1), targets.float().reshape(-1)

    def activate(self, rows: Tensor) -> Tensor:
        """The numbers themselves."""
        return rows

    def probabilities(self, outputs: object) -> Tensor:
        """The numbers themselves."""
        return logits_of(outputs)

    def size(self, outputs: object) -> int:
        """The number of targets of an example."""
        logits = logits_of(outputs)
        return logits.shape[1] if logits.ndim > 1 else 1


@final
class FiniteCheck(LabelCheck):
    """Refuses labels that are infinite or not a number."""

    def __init__(self, ignore: float | None) -> None:
        self.ignore = ignore

    def look(self, labels: Any, indices: Tensor | None = None) -> None:
        """Raise DataError for the first such label."""
        wrong = ~labels.double().isfinite()
        if self.ignore is not None and self.ignore != self.ignore:
            wrong &= ~labels.isnan()
        if wrong.any():
            row = first_row(wrong)
            value = float(labels[row][wrong[row]].reshape(-1)[0])
            raise DataError(
                f"Example {example_of(row, indices)} has the label {value:g}, expected a number.\nFor labels that are "
                'not known pass the task with their mark: as_task("regression", ignore=float("nan")).'
            )
