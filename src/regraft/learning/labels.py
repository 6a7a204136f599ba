"""Labels that fit outputs and loss, and those that are refused."""

from abc import ABC, abstractmethod
from typing import final

from torch import Tensor

from regraft.errors import Advice, DataError
from regraft.foundation.wording import counted
from regraft.learning.losses import IGNORED, LossFunction, class_axes, cross_entropy, find_logits, with_classes_first

PROBABILITY_ATOL = 1e-3  # of a row's sum: probabilities of many classes in bfloat16 or float16 round by less


def class_logits(outputs: object, labels: Tensor) -> Tensor | None:
    """The logits as (batch, classes, …), where the labels are class numbers for them and the class axis is certain."""
    logits = find_logits(outputs)
    if logits is None or labels.is_floating_point() or labels.is_complex():
        return None
    second, last = class_axes(logits, labels)
    if second == last:
        return None
    logits = with_classes_first(logits, labels)
    return logits if logits.shape[1] > 1 else None


class LabelCheck(ABC):
    """Refuses labels that a loss cannot learn from."""

    @abstractmethod
    def look(self, labels: Tensor, indices: Tensor | None = None) -> None:
        """Raise DataError when a label cannot be used; it names the first such example.

        labels   of some examples
        indices  (batch,) their indices in the data set; None: they are the whole data set in its own order
        """

    def finish(self) -> None:  # noqa: B027  # most checks have nothing to say at the end
        """Raise DataError when all labels seen teach nothing."""


def label_check(loss: LossFunction, outputs: object, labels: Tensor) -> LabelCheck | None:
    """The check for labels like these under cross-entropy; None for any other loss, which knows its own labels.

    Raises DataError when labels of this type and shape do not fit the outputs.
    """
    logits = find_logits(outputs)
    if loss is not cross_entropy or logits is None or logits.ndim < 2 or logits.shape[1] < 2:
        return None  # the loss itself refuses outputs that are not logits
    if labels.is_floating_point():
        if labels.shape == logits.shape:
            return ProbabilityCheck()
    elif any(class_axes(logits, labels)):
        return ClassCheck(with_classes_first(logits, labels).shape[1])
    raise _misfit(logits, labels)


@final
class ClassCheck(LabelCheck):
    """Refuses class numbers beyond the classes, and data sets of one class."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.seen: set[int] = set()

    def look(self, labels: Tensor, indices: Tensor | None = None) -> None:
        """Raise DataError when a label is none of the classes; with several positions per example -100 marks none."""
        outside = (labels < 0) | (labels >= self.classes)
        if labels.ndim > 1:
            outside &= labels != IGNORED
        if outside.any():
            row = int(outside.reshape(len(labels), -1).any(1).nonzero()[0, 0])
            label = int(labels[row][outside[row]].reshape(-1)[0])
            raise DataError(
                f"Example {_index(row, indices)} has the label {label}, and the model has "
                f"{counted(self.classes, 'output')}: labels go from 0 to {self.classes - 1}. "
                f"{counted(int(outside.sum()), 'label', 'is/are')} outside.\n"
                "Give the model as many outputs as there are classes, or number the classes from 0."
            )
        if len(self.seen) < 2:
            self.seen |= {int(labels.min()), int(labels.max())}

    def finish(self) -> None:
        """Raise DataError when all labels seen were the same."""
        if len(self.seen) == 1:
            raise DataError(
                f"All examples have the label {self.seen.pop()}: with one class only there is nothing to learn.\n"
                "Check the folders or the labels; shuffling or splitting may have left out the others."
            )


@final
class ProbabilityCheck(LabelCheck):
    """Refuses rows that are not probabilities, such as several labels per example written as 0 and 1."""

    def look(self, labels: Tensor, indices: Tensor | None = None) -> None:
        """Raise DataError for a row with negative values, or whose sum is not 1."""
        sums = labels.double().sum(1)
        wrong = ((sums - 1).abs() > PROBABILITY_ATOL) | (labels < 0).any(1)
        if wrong.any():
            row = int(wrong.reshape(len(labels), -1).any(1).nonzero()[0, 0])
            total = float(sums[row][wrong[row]].reshape(-1)[0])
            raise DataError(
                f"The labels of example {_index(row, indices)} are not probabilities: their sum is {total:g}, expected "
                "1 and no negative value.\nFor several labels per example pass "
                "torch.nn.functional.binary_cross_entropy_with_logits as the loss."
            )


def _index(row: int, indices: Tensor | None) -> int:
    return row if indices is None else int(indices[row])


def _misfit(logits: Tensor, labels: Tensor) -> DataError:
    """The error for labels whose type or shape does not fit the logits."""
    text = (
        f"The labels have the type {labels.dtype} and the shape {tuple(labels.shape)}, and the outputs have the shape "
        f"{tuple(logits.shape)}. Cross-entropy takes whole numbers of the shape {(len(logits), *logits.shape[2:])}, or "
        "probabilities of the shape of the outputs.\n"
    )
    if labels.shape == logits.shape:
        return DataError(
            text + "For one class per example pass labels.argmax(1). For several labels per example pass "
            "labels.float(), and torch.nn.functional.binary_cross_entropy_with_logits as the loss."
        )
    if labels.is_floating_point():
        numbers = Advice("loss", "mean_squared_error", "learn numbers instead of classes")
        return DataError(text + "Convert class numbers with labels.long().", advice=[numbers])
    return DataError(text + "Give each example one class number, for example with labels.reshape(len(labels)).")
