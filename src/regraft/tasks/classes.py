"""Tasks with one class for each position: of an example, a token, a pixel, the next token."""

from dataclasses import dataclass
from typing import Any, TypeGuard, final

import torch.nn.functional as F
from torch import Tensor

from regraft.errors import Advice, DataError
from regraft.foundation.wording import counted
from regraft.labels import IGNORED
from regraft.tasks.outputs import logits_of
from regraft.tasks.task import LabelCheck, Task, example_of, first_row

PROBABILITY_ATOL = 1e-3  # of a row's sum: probabilities of many classes in bfloat16 or float16 round by less
COARSEST = range(2, 65)  # pixels of a mask, along each axis, for one output
MOST_CLASSES = 1000  # of a confusion matrix and of metrics by class; a vocabulary has more


@final
@dataclass(frozen=True)
class Classes(Task):
    """One class for each position. The outputs have one score for each class: logits, before any softmax.

    class_axis  of the outputs: 1 for (batch, classes, …), -1 for (batch, …, classes)
    ignore      the label of positions without one; -100, with which sequences of labels are padded, is always one, too
    shift       how many positions later an output's label stands: 1 for a causal language model, whose labels are the
                token ids themselves
    enlarges    outputs (batch, classes, height, width) of fewer pixels than the masks are brought to their size
    """

    name: str = "classification"
    class_axis: int = 1
    ignore: float | None = IGNORED
    shift: int = 0
    metrics: tuple[str, ...] = ("accuracy",)
    loss: str = "cross_entropy"
    enlarges: bool = False

    def check(self, outputs: object, labels: object) -> LabelCheck:
        """Class numbers within the classes, or probabilities of the shape of the outputs."""
        logits = self.fitted(outputs, labels)
        self._refuse_no_classes(logits)
        if not isinstance(labels, Tensor):
            raise DataError(
                f"The labels are a {type(labels).__name__}, and the task {self.name} takes one tensor of class numbers."
            )
        if labels.is_floating_point():
            if labels.shape == logits.shape:
                return ProbabilityCheck(self.class_axis)
        elif not labels.is_complex() and labels.shape == self._positions(logits):
            return ClassCheck(logits.shape[self.class_axis], ignored=(IGNORED, self.ignore), positions=labels.ndim > 1)
        raise _misfit(self, logits, labels)

    def aligned(self, outputs: object, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (batch, classes, …) and labels (batch, …); classes last: a row (count, classes) for each position."""
        logits = self.fitted(outputs, labels)
        self._refuse_no_classes(logits)
        if labels.is_floating_point():
            return logits.movedim(self.class_axis, 1), self.counted(labels)
        labels = self.counted(labels)
        if self.shift:
            logits = logits[:, : -self.shift]
        if self.class_axis == -1 and logits.ndim > 2:
            return logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
        return logits, labels

    def counted(self, labels: Tensor) -> Tensor:
        """Class numbers (batch, …) without those that no output stands for; probabilities (batch, classes, …)."""
        if labels.is_floating_point():
            return labels.movedim(self.class_axis, 1)
        numbers = labels.long()
        if self.ignore is not None and self.ignore != IGNORED:
            numbers = numbers.masked_fill(numbers == IGNORED, int(self.ignore))
        return numbers[:, self.shift :] if self.shift else numbers

    def spread(self, weights: Tensor, labels: Tensor) -> Tensor:
        """The weight of its example for each position."""
        seen = self.counted(labels)
        positions = seen[:, 0] if labels.is_floating_point() else seen
        return weights.repeat_interleave(positions.numel() // len(weights))

    def fitted(self, outputs: object, labels: object) -> Tensor:
        """The logits; with `enlarges`, where masks have a whole number of pixels for each output, one for each pixel.

        Bilinear, as in the loss of SegFormer in transformers.
        """
        logits = logits_of(outputs)
        if not self._are_finer(labels, logits):
            return logits
        return F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)

    def note(self, outputs: object, labels: object) -> str:
        """Which size is brought to which."""
        logits = logits_of(outputs)
        if not self._are_finer(labels, logits):
            return ""
        sizes = [" × ".join(map(str, tensor.shape[-2:])) for tensor in (logits, labels)]
        return f"the outputs of {sizes[0]} are enlarged to the {sizes[1]} of the masks (bilinear)"

    def _are_finer(self, labels: object, logits: Tensor) -> TypeGuard[Tensor]:
        """Whether the labels are masks to whose size the logits are enlarged."""
        if not self.enlarges or self.class_axis != 1 or not isinstance(labels, Tensor):
            return False
        if (logits.ndim, labels.ndim) != (4, 3) or logits.shape[-2:] == labels.shape[-2:]:
            return False
        sizes = [*zip(logits.shape[-2:], labels.shape[-2:], strict=True)]
        return any(all(-(-full // step) == coarse for coarse, full in sizes) for step in COARSEST)

    def answers(self, outputs: object, labels: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """The predicted classes, the labels and whether each position has a label, all (batch, …).

        None for probabilities as labels.
        """
        if labels.is_floating_point():
            return None
        logits = self.fitted(outputs, labels)
        if self.shift:
            logits, labels = logits[:, : -self.shift], labels[:, self.shift :]
        known = (labels >= 0) & (labels < logits.shape[self.class_axis])
        if self.ignore is not None:
            known &= labels != self.ignore
        return logits.argmax(self.class_axis), labels, known

    def pairs(self, outputs: object, labels: Tensor) -> tuple[Tensor, Tensor] | None:
        """Logits (count, classes) and class numbers (count,) of the positions that have a label."""
        answers = self.answers(outputs, labels)
        if answers is None:
            return None
        _, labels, known = answers
        scores = self.fitted(outputs, labels).movedim(self.class_axis, -1)
        if self.shift:
            scores = scores[:, : -self.shift]
        return scores[known], labels[known].long()

    def activate(self, rows: Tensor) -> Tensor:
        """The softmax of each row, float32."""
        return rows.float().softmax(1)

    def probabilities(self, outputs: object) -> Tensor:
        """The softmax along the class axis, float32, of the shape of the outputs."""
        return logits_of(outputs).float().softmax(self.class_axis)

    def size(self, outputs: object) -> int:
        """The number of classes."""
        return logits_of(outputs).shape[self.class_axis]

    def _positions(self, logits: Tensor) -> tuple[int, ...]:
        """The shape of class numbers for these logits."""
        sizes = list(logits.shape)
        del sizes[self.class_axis]
        return tuple(sizes)

    def _refuse_no_classes(self, logits: Tensor) -> None:
        if logits.ndim < 2 or logits.shape[self.class_axis] < 2:
            raise DataError(
                f"The task {self.name} needs one output per class; the model returns the shape {tuple(logits.shape)}.\n"
                "Give the model one output per class, two for yes or no.",
                advice=[
                    Advice("task", "multilabel", "learn yes or no by one output"),
                    Advice("task", "regression", "learn numbers instead of classes"),
                ],
            )


@final
class ClassCheck(LabelCheck):
    """Refuses class numbers beyond the classes, and data sets of one class.

    ignored    the labels of positions that have none
    positions  whether an example has several positions: with one alone, a label to ignore is a mistake
    """

    def __init__(
        self, classes: int, *, ignored: tuple[float | None, ...] = (IGNORED,), positions: bool = False
    ) -> None:
        self.classes, self.ignored, self.positions = classes, ignored, positions
        self.seen: set[int] = set()

    def look(self, labels: Any, indices: Tensor | None = None) -> None:
        """Raise DataError when a label is none of the classes."""
        outside = (labels < 0) | (labels >= self.classes)
        for mark in self._marks():
            outside = outside & (labels != mark)
        if outside.any():
            row = first_row(outside)
            label = int(labels[row][outside[row]].reshape(-1)[0])
            raise DataError(
                f"Example {example_of(row, indices)} has the label {label}, and the model has "
                f"{counted(self.classes, 'output')}: labels go from 0 to {self.classes - 1}. "
                f"{counted(int(outside.sum()), 'label', 'is/are')} outside.\n"
                "Give the model as many outputs as there are classes, or number the classes from 0. Positions without "
                f"a label take {IGNORED}, or the ignore_index of the nn.CrossEntropyLoss that you pass."
            )
        if len(self.seen) < 2:
            self.seen |= self._extremes(labels)

    def merge(self, other: LabelCheck) -> None:
        """Labels that another process has seen."""
        if isinstance(other, ClassCheck):
            self.seen |= other.seen

    def finish(self) -> None:
        """Raise DataError when all labels seen were the same, or there was none."""
        if len(self.seen) == 1:
            raise DataError(
                f"All examples have the label {self.seen.pop()}: with one class only there is nothing to learn.\n"
                "Check the folders or the labels; shuffling or splitting may have left out the others."
            )
        if not self.seen:
            raise DataError("No position has a label: all are marked as ignored, so there is nothing to learn.")

    def _marks(self) -> list[float]:
        return [mark for mark in self.ignored if mark is not None and (self.positions or mark != IGNORED)]

    def _extremes(self, labels: Tensor) -> set[int]:
        """The lowest and the highest label among those that are not ignored."""
        for mark in self._marks():
            labels = labels[labels != mark]
        return {int(labels.min()), int(labels.max())} if len(labels) else set()


@final
class ProbabilityCheck(LabelCheck):
    """Refuses rows that are not probabilities, such as several labels per example written as 0 and 1."""

    def __init__(self, class_axis: int = 1) -> None:
        self.class_axis = class_axis

    def look(self, labels: Any, indices: Tensor | None = None) -> None:
        """Raise DataError for a row with negative values, or whose sum is not 1."""
        sums = labels.double().sum(self.class_axis)
        wrong = ((sums - 1).abs() > PROBABILITY_ATOL) | (labels < 0).any(self.class_axis)
        if wrong.any():
            row = first_row(wrong)
            total = float(sums[row][wrong[row]].reshape(-1)[0])
            raise DataError(
                f"The labels of example {example_of(row, indices)} are not probabilities: their sum is {total:g}, "
                "expected 1 and no negative value.",
                advice=[
                    Advice("task", "multilabel", "learn several labels per example"),
                    Advice("task", "regression", "learn numbers"),
                ],
            )


def _misfit(task: Classes, logits: Tensor, labels: Tensor) -> DataError:
    """The error for labels whose type or shape does not fit the logits."""
    text = (
        f"The labels have the type {labels.dtype} and the shape {tuple(labels.shape)}, and the outputs have the shape "
        f"{tuple(logits.shape)} with {counted(logits.shape[task.class_axis], 'class/classes')}. The task {task.name} "
        f"takes whole numbers of the shape {task._positions(logits)}, or probabilities of the shape of the outputs."
    )
    if labels.shape == logits.shape:
        several = Advice("task", "multilabel", "learn several labels per example")
        return DataError(text + "\nFor one class per example pass labels.argmax(1).", advice=[several])
    if labels.is_floating_point():
        numbers = Advice("task", "regression", "learn numbers instead of classes")
        return DataError(text + "\nConvert class numbers with labels.long().", advice=[numbers])
    if logits.ndim > 2:
        return DataError(text + "\nBring outputs and labels to one size: resize images and masks alike.")
    return DataError(text + "\nGive each position one class number, for example with labels.reshape(len(labels)).")
