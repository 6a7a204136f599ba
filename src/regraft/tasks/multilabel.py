"""The task with any number of labels for each example: yes or no for each output."""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from regraft.errors import Advice, DataError
from regraft.tasks.numbers import is_mark, known_positions, refuse_misfit, reshaped, spread_weights
from regraft.tasks.outputs import logits_of
from regraft.tasks.task import LabelCheck, Task, example_of, first_row


@final
@dataclass(frozen=True)
class Multilabel(Task):
    """Yes or no for each output: logits (batch, labels) before any sigmoid, and labels of 0 and 1 of that shape.

    One output alone, (batch, 1) or (batch,), is a single yes or no; its labels may be (batch,). Values between 0 and 1
    are probabilities.

    ignore      the label of an output that is not known; None: all are known
    are_logits  False for a model that ends in a sigmoid: its outputs are probabilities
    """

    ignore: float | None = None
    are_logits: bool = True
    name: str = "multilabel"
    metrics: tuple[str, ...] = ("accuracy", "f1")
    loss: str = "binary_cross_entropy"

    def check(self, outputs: object, labels: object) -> LabelCheck:
        """Values from 0 to 1."""
        refuse_misfit(self, logits_of(outputs), labels)
        return YesNoCheck(self.ignore)

    def aligned(self, outputs: object, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and labels of one shape and type; with `ignore` only the positions that have a label, in a line."""
        return known_positions(*reshaped(logits_of(outputs), labels), self.ignore)

    def counted(self, labels: Tensor) -> Tensor:
        """The labels; with `ignore` those that are known, in a line."""
        return known_positions(labels, labels, self.ignore)[1]

    def spread(self, weights: Tensor, labels: Tensor) -> Tensor:
        """The weight of its example for each label that is known."""
        return spread_weights(weights, labels, self.ignore)

    def pairs(self, outputs: object, labels: Tensor) -> tuple[Tensor, Tensor] | None:
        """Outputs (count, labels) and labels (count, labels) of 0, 1 and -1 for one that is not known.

        None where labels are probabilities between 0 and 1.
        """
        scores, values = reshaped(logits_of(outputs), labels)
        unknown = torch.zeros_like(values, dtype=torch.bool) if self.ignore is None else is_mark(values, self.ignore)
        values = values.masked_fill(unknown, -1)
        if not bool(((values == 0) | (values == 1) | unknown).all()):
            return None
        columns = scores.shape[1] if scores.ndim > 1 else 1
        return scores.reshape(-1, columns), values.long().reshape(-1, columns)

    def activate(self, rows: Tensor) -> Tensor:
        """The sigmoid of each output, float32; outputs that are probabilities as they are."""
        return rows.float().sigmoid() if self.are_logits else rows.float()

    def probabilities(self, outputs: object) -> Tensor:
        """The sigmoid of each output, float32; outputs that are probabilities as they are."""
        return self.activate(logits_of(outputs))

    def size(self, outputs: object) -> int:
        """The number of labels of an example."""
        logits = logits_of(outputs)
        return logits.shape[1] if logits.ndim > 1 else 1


@final
class YesNoCheck(LabelCheck):
    """Refuses labels that are neither 0 nor 1 nor between them."""

    def __init__(self, ignore: float | None) -> None:
        self.ignore = ignore

    def look(self, labels: Any, indices: Tensor | None = None) -> None:
        """Raise DataError for the first label that is no yes, no or probability."""
        values = labels.double()
        wrong = ~((values >= 0) & (values <= 1))
        if self.ignore is not None:
            wrong &= ~is_mark(values, self.ignore)
        if wrong.any():
            row = first_row(wrong)
            value = float(values[row][wrong[row]].reshape(-1)[0])
            raise DataError(
                f"Example {example_of(row, indices)} has the label {value:g}, and multilabel takes 0 and 1, or "
                "probabilities between them.\nFor labels that are not known pass the task with their mark: "
                f'as_task("multilabel", ignore={value:g}).',
                advice=[Advice("task", "regression", "learn numbers")],
            )
