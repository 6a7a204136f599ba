"""Losses by name, and labels that fit them."""

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from regraft.errors import DataError, TrainError
from regraft.foundation.wording import counted, near_names

LossFunction = Callable[[Any, Tensor], Tensor]
Loss = str | LossFunction

IGNORED = -100  # torch's mark for a position without a label, in outputs with several positions per example


def cross_entropy(outputs: Any, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits (batch, classes, …) and class numbers (batch, …) or probabilities."""
    logits = logits_of(outputs)
    if logits.ndim < 2 or logits.shape[1] < 2:
        raise TrainError(
            f"Cross-entropy needs one output per class; the model gives the shape {tuple(logits.shape)}.\n"
            "Give the model one output per class, two for yes or no; for numbers use loss='mean_squared_error'."
        )
    if logits.ndim == 2 and not labels.is_floating_point() and _is_slow_by_rows(logits):
        columns = F.log_softmax(logits.t().contiguous(), 0)
        return F.nll_loss(columns.t(), labels.long())
    return F.cross_entropy(logits, labels if labels.is_floating_point() else labels.long())


def _is_slow_by_rows(logits: Tensor) -> bool:
    """Whether torch takes these rows number by number: it has vectors of 16 on the CPU and cannot fill one.

    (200, 10): 52 µs by rows, 9 by columns with the transposing; (4096, 10): 1,300 and 100. Equal but for rounding.
    """
    return logits.device.type == "cpu" and logits.shape[1] < 16 and logits.numel() >= 1024


def mean_squared_error(outputs: Any, labels: Tensor) -> Tensor:
    """Mean squared difference of outputs and labels of the same shape; outputs (batch, 1) fit labels (batch,)."""
    values = logits_of(outputs)
    if values.numel() != labels.numel():
        raise TrainError(
            f"The squared difference needs labels of the outputs' shape: outputs {tuple(values.shape)}, "
            f"labels {tuple(labels.shape)}. For class numbers use loss='cross_entropy'."
        )
    return F.mse_loss(values, labels.to(values.dtype).reshape(values.shape))


LOSSES: dict[str, LossFunction] = {"cross_entropy": cross_entropy, "mean_squared_error": mean_squared_error}


def as_loss(loss: Loss) -> LossFunction:
    """The loss function of that name, or the function as it is: `loss(outputs, labels)` → scalar mean of the batch."""
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise TrainError(
            f"There is no loss {loss!r}. {near_names(loss, LOSSES)}\nOr give a function of outputs, labels."
        )
    return LOSSES[loss]


def logits_of(outputs: Any) -> Tensor:
    """The tensor among a model's outputs that carries its answer: the output itself, or what is named `logits`."""
    logits = find_logits(outputs)
    if logits is None:
        raise TrainError(
            f"The model gives a {type(outputs).__name__} without a tensor named `logits`.\n"
            "Give a loss that takes these outputs: loss=lambda outputs, labels: …"
        )
    return logits


def find_logits(outputs: Any) -> Tensor | None:
    """The same as `logits_of`, or None where there is no such tensor."""
    if isinstance(outputs, Tensor):
        return outputs
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    return logits if isinstance(logits, Tensor) else None


def class_count(outputs: Any, labels: Tensor) -> int:
    """Number of classes that these outputs tell apart; 0 where the labels are no class numbers for them."""
    logits = find_logits(outputs)
    return logits.shape[1] if logits is not None and are_classes(logits, labels) else 0


def are_classes(logits: Tensor, labels: Tensor) -> bool:
    """Whether the labels are class numbers for these logits: whole numbers, one for each vector of logits."""
    whole = not labels.is_floating_point() and not labels.is_complex()
    return whole and logits.ndim == labels.ndim + 1 and logits.shape[1] > 1


@final
class LabelCheck:
    """Refuses labels that a classifier with so many classes cannot learn."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.seen: set[int] = set()

    def look(self, labels: Tensor, indices: Tensor | None = None) -> None:
        """Raise DataError when a label is none of the classes; it names the first such example.

        labels   (batch,) or (batch, …) whole numbers
        indices  (batch,) the examples' places in the data set; None: they are the data set in its own order
        """
        outside = (labels < 0) | (labels >= self.classes)
        if labels.ndim > 1:
            outside &= labels != IGNORED
        if outside.any():
            place = outside.reshape(len(labels), -1).any(1).nonzero()[0, 0]
            example = int(place if indices is None else indices[place])
            label = int(labels[place][outside[place]].reshape(-1)[0])
            raise DataError(
                f"Example {example} has the label {label}, and the model has {counted(self.classes, 'output')}: "
                f"labels go from 0 to {self.classes - 1}. {counted(int(outside.sum()), 'label', 'is/are')} outside.\n"
                "Give the model as many outputs as there are classes, or number the classes from 0."
            )
        if len(self.seen) < 2:
            self.seen |= {int(labels.min()), int(labels.max())}

    def finish(self) -> None:
        """Raise DataError when all labels seen were the same: there is nothing to tell apart."""
        if len(self.seen) == 1:
            raise DataError(
                f"All examples have the label {self.seen.pop()}: with one class only there is nothing to learn.\n"
                "Check the folders or the labels; shuffling or splitting may have left out the others."
            )


def all_finite(values: list[Tensor]) -> bool:
    """Whether no value is infinite or not a number."""
    return all(bool(torch.isfinite(value).all()) for value in values)
