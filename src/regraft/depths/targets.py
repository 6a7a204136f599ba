"""Labels as the targets of a ridge, and what its predictions are worth: classes, several labels at once, or numbers."""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from regraft.depths.ridge import LeftOut, class_blocks, single_blocks
from regraft.errors import DataError
from regraft.foundation.wording import counted, near_names, shape_text


class Targets(ABC):
    """What is learnt.

    kind     "classification", "multilabel" or "regression"
    score    the name of the score: "accuracy", "labels right" or "explained"
    values   (count, outputs) float64
    blocks   rows that are left out together, as `predict_left_out` takes them
    chance   the score of a guess that looks at no feature
    outputs  how many outputs a head has for them
    """

    kind: str
    score: str
    values: Tensor
    blocks: list[Tensor]
    chance: float
    outputs: int

    def __len__(self) -> int:
        return len(self.values)

    @property
    def variance(self) -> float:
        """The mean squared error of the targets' mean."""
        return float((self.values - self.values.mean(0)).square().sum(1).mean())

    @abstractmethod
    def scores(self, left_out: LeftOut) -> Tensor:
        """The score of each example (count,) float64, whose mean is the score."""


@final
class ClassTargets(Targets):
    """One class for each example: the score is accuracy."""

    kind, score = "classification", "accuracy"

    def __init__(self, labels: Tensor) -> None:
        self.labels: Tensor
        known, self.labels = torch.unique(labels.reshape(-1).long(), return_inverse=True)
        if len(known) < 2:
            raise DataError("All examples are of one class: with one class only there is nothing to learn.")
        self.outputs = len(known)
        self.values = torch.nn.functional.one_hot(self.labels, self.outputs).double()
        self.blocks = class_blocks(self.labels)
        self.chance = float(torch.bincount(self.labels).max()) / len(labels)

    def scores(self, left_out: LeftOut) -> Tensor:
        """1 where the largest prediction is that of the example's class."""
        return (left_out.predictions.argmax(1) == self.labels).double()


@final
class LabelTargets(Targets):
    """Any number of labels for each example, as columns of 0 and 1: the score is the part of them that is right."""

    kind, score = "multilabel", "labels right"

    def __init__(self, labels: Tensor) -> None:
        self.values = labels.double()
        self.outputs = labels.shape[1]
        self.blocks = single_blocks(len(labels))
        shares = self.values.mean(0)
        self.chance = float(torch.maximum(shares, 1 - shares).mean())

    def scores(self, left_out: LeftOut) -> Tensor:
        """The part of the example's labels on whose side of ½ the prediction is."""
        return ((left_out.predictions > 0.5) == (self.values > 0.5)).double().mean(1)


@final
class NumberTargets(Targets):
    """Numbers: each column counts by its own variance, and the score is the explained part of it."""

    kind, score = "regression", "explained"

    def __init__(self, labels: Tensor) -> None:
        values = labels.double().reshape(len(labels), -1)
        spread = values.std(0, correction=0)
        if not bool((spread > 0).all()):
            raise DataError("All examples have the same label: there is nothing to learn.")
        self.values = (values - values.mean(0)) / spread
        self.outputs = values.shape[1]
        self.blocks = single_blocks(len(values))
        self.chance = 0.0

    def scores(self, left_out: LeftOut) -> Tensor:
        """1 less the example's squared error, in parts of the variance."""
        return 1 - left_out.errors / self.variance


KINDS: dict[str, type[ClassTargets] | type[LabelTargets] | type[NumberTargets]] = {
    each.kind: each for each in (ClassTargets, LabelTargets, NumberTargets)
}


def targets_of(labels: object, task: str | None = None) -> Targets:
    """The targets that labels stand for.

    labels  (count,) whole numbers: classes · (count, several) of 0 and 1: several labels at once · fractions: numbers
    task    "classification", "multilabel" or "regression"; None decides by the labels' type and shape

    Raises DataError for labels that are none of these, are not finite, or are all the same.
    """
    if not isinstance(labels, Tensor):
        raise DataError(f"The labels are a {type(labels).__name__}; advice takes one tensor, a label for each example.")
    labels = labels.detach().cpu()
    if labels.is_complex() or labels.ndim not in (1, 2) or len(labels) < 4:
        raise DataError(
            f"{counted(len(labels), 'label')} of shape {shape_text(labels.shape[1:])} and type {labels.dtype}: expected"
            " four or more, each one class number, a row of 0 and 1, or numbers."
        )
    if labels.is_floating_point() and not bool(labels.isfinite().all()):
        raise DataError("A label is not a finite number.")
    if task is not None and task not in KINDS:
        raise DataError(f"There is no advice for the task {task!r}. {near_names(task, KINDS)}")
    return KINDS[task or _kind_of(labels)](labels)


def _kind_of(labels: Tensor) -> str:
    """What the labels stand for, by their type and shape."""
    is_row = labels.ndim == 2 and labels.shape[1] > 1
    if is_row and bool(((labels == 0) | (labels == 1)).all()):
        return "multilabel"
    return "regression" if labels.is_floating_point() or is_row else "classification"
