"""What training minimises: the loss of each part of the outputs, in the form that its task gives them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from regraft.labels import IGNORED, Labels
from regraft.learning.losses import KnownLoss, LossFunction, WeightedLabels, name_of_loss
from regraft.tasks.kinds import AnyTask
from regraft.tasks.outputs import find_output
from regraft.tasks.several import label_parts
from regraft.tasks.task import Task
from regraft.tensors.trees import tensors_of


@final
@dataclass(frozen=True)
class LossPart:
    """The loss of one part of the outputs.

    loss    one of torch's, which takes what the task aligns; or a function of the user, which takes the part as it is
    task    of the part; None where only a function of the user knows
    key     the part's name; None: the whole
    factor  in the sum of all parts
    """

    loss: KnownLoss | LossFunction
    task: Task | None = None
    key: str | None = None
    factor: float = 1.0

    @property
    def is_sum(self) -> bool:
        """Whether the loss of a set is the sum over its batches, not a mean."""
        return isinstance(self.loss, KnownLoss) and self.loss.is_sum

    @property
    def name(self) -> str:
        """The name of the loss."""
        return self.loss.name if isinstance(self.loss, KnownLoss) else name_of_loss(self.loss)

    @property
    def settings(self) -> str:
        """The settings of a loss of torch and the factor, as a text; "" for a function of the user."""
        if not isinstance(self.loss, KnownLoss):
            return ""
        return f"{self.loss.settings} × {self.factor:g}"

    def value(self, outputs: object, labels: object) -> Tensor:
        """The loss of a batch, times the factor."""
        if self.key is not None:
            outputs, labels = find_output(outputs, self.key), label_parts(labels)[self.key]
        value = self._value(outputs, labels)
        return value if self.factor == 1 else value * self.factor

    def weight(self, labels: Labels) -> Tensor | int:
        """What the mean of a batch is divided by: the number of its examples for a function of the user."""
        labels = labels if self.key is None else label_parts(labels)[self.key]
        if not isinstance(self.loss, KnownLoss) or self.task is None:
            return len(tensors_of(labels)[0])
        if not isinstance(labels, WeightedLabels):
            return self.loss.total_weight(self.task.counted(labels))
        counts = self.loss.weights(self.task.counted(labels.labels))
        each = self.task.spread(labels.weights, labels.labels)
        return each.sum() if counts is None else (each * counts.reshape(-1)).sum()

    def _value(self, outputs: Any, labels: Labels) -> Tensor:
        if not isinstance(self.loss, KnownLoss) or self.task is None:
            return self.loss(outputs, labels)
        if isinstance(labels, WeightedLabels):
            weights = self.task.spread(labels.weights, labels.labels)
            return self.loss.weighted(*self.task.aligned(outputs, labels.labels), weights)
        return self.loss(*self.task.aligned(outputs, labels))


@final
@dataclass(frozen=True)
class Objective:
    """The loss of a batch: `objective(outputs, labels)` → scalar, with its task and parts.

    task     what outputs and labels mean; None where only a loss of the user knows
    parts    their sum is the loss
    reason   how the task was found, in a few words; "" where it was passed
    watched  the user's functions and modules, in which a setting may change between epochs
    note     what is done to the outputs before they are compared; "" for nothing
    """

    task: AnyTask | None
    parts: tuple[LossPart, ...]
    reason: str = ""
    watched: tuple[Callable[..., Any], ...] = ()
    note: str = ""

    def __call__(self, outputs: object, labels: object) -> Tensor:
        """The loss of a batch."""
        if len(self.parts) == 1:
            return self.parts[0].value(outputs, labels)
        return torch.stack([part.value(outputs, labels) for part in self.parts]).sum()

    @property
    def name(self) -> str:
        """The name of the loss, for the record."""
        return ", ".join(f"{part.key} {part.name}" if part.key else part.name for part in self.parts)

    @property
    def is_own(self) -> bool:
        """Whether a function of the user is part of it, of which nothing is known."""
        return any(not isinstance(part.loss, KnownLoss) for part in self.parts)

    @property
    def is_plain_cross_entropy(self) -> bool:
        """Whether it is cross-entropy of one class per example, without weights."""
        first = self.parts[0].loss
        return len(self.parts) == 1 and isinstance(first, KnownLoss) and first.is_plain

    @property
    def counts_examples(self) -> bool:
        """Whether the loss of a batch is divided by its examples (or a multiple), whatever the labels are."""
        return all(isinstance(part.loss, KnownLoss) and part.loss.counts_labels and _has_all(part.task)
                   for part in self.parts)  # fmt: skip

    @property
    def is_sum(self) -> bool:
        """Whether the loss of a set is the sum over its batches, not a mean."""
        return len(self.parts) == 1 and self.parts[0].is_sum

    def weight(self, labels: Labels) -> Tensor | int:
        """What the loss of a batch counts among several: what it is divided by, and 1 for a sum.

        The examples, where the parts of several tasks are divided by different numbers.
        """
        if self.is_sum:
            return 1
        if len(self.parts) == 1:
            return self.parts[0].weight(labels)
        return len(tensors_of(labels)[0])

    def __str__(self) -> str:
        if self.task is None:
            return f"task: unknown, as the loss is a function of your own ({self.name}); pass task= for its metrics"
        why = f", because {self.reason}" if self.reason else ", as passed"
        return f"task: {self.task.name}{why}; loss: {self.name}" + (f"; {self.note}" if self.note else "")


def _has_all(task: Task | None) -> bool:
    """Whether every position has a label: a single class for each example is never left out."""
    if task is None:
        return False
    return task.ignore is None or (task.name == "classification" and task.ignore == IGNORED)


def watched_of(loss: object) -> tuple[Callable[..., Any], ...]:
    """The functions and modules among losses."""
    losses = loss.values() if isinstance(loss, Mapping) else [loss]
    return tuple(one for one in losses if callable(one))
