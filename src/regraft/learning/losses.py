"""Losses by name, and the outputs that they are computed from."""

from collections.abc import Callable, Mapping
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regraft.errors import Advice, TrainError
from regraft.foundation.wording import near_names

LossFunction = Callable[[Any, Tensor], Tensor]
LossName = Literal["cross_entropy", "mean_squared_error"]
Loss = LossName | LossFunction

_TRAINED_BY: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
IGNORED = -100  # torch's mark for a position without a label, in outputs with several positions per example


def cross_entropy(outputs: object, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits and class numbers, or probabilities of the shape of the logits.

    outputs  logits (batch, classes, …) for labels (batch, …), or (batch, …, classes) as token models give them

    Raises TrainError where the shapes do not decide which axis is that of the classes.
    """
    logits = logits_of(outputs)
    if not labels.is_floating_point():
        logits = with_classes_first(logits, labels)
    if logits.ndim < 2 or logits.shape[1] < 2:
        raise TrainError(
            f"Cross-entropy needs one output per class; the model returns the shape {tuple(logits.shape)}.\n"
            "Give the model one output per class, two for yes or no.",
            advice=[Advice("loss", "mean_squared_error", "learn numbers instead of classes")],
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


def mean_squared_error(outputs: object, labels: Tensor) -> Tensor:
    """Mean squared difference of outputs and labels of the same shape; outputs (batch, 1) fit labels (batch,)."""
    values = logits_of(outputs)
    if values.numel() != labels.numel():
        raise TrainError(
            f"The squared difference needs labels of the outputs' shape: outputs {tuple(values.shape)}, "
            f"labels {tuple(labels.shape)}.",
            advice=[Advice("loss", "cross_entropy", "learn class numbers")],
        )
    return F.mse_loss(values, labels.to(values.dtype).reshape(values.shape))


LOSSES: dict[str, LossFunction] = {"cross_entropy": cross_entropy, "mean_squared_error": mean_squared_error}


def as_loss(loss: Loss) -> LossFunction:
    """The loss function of that name, or the function as it is: `loss(outputs, labels)` → scalar mean of the batch.

    torch's own cross-entropy with its default arguments is "cross_entropy".
    """
    if callable(loss):
        return cross_entropy if _is_plain_cross_entropy(loss) else loss
    if loss not in LOSSES:
        raise TrainError(
            f"There is no loss {loss!r}. {near_names(loss, LOSSES)}\nOr pass a function of outputs and labels."
        )
    return LOSSES[loss]


def remember_loss(model: nn.Module, loss: Loss) -> None:
    """Note by which loss the model was trained, for as long as the module lives: `save` records it."""
    if isinstance(loss, nn.CrossEntropyLoss) or loss in (cross_entropy, F.cross_entropy):
        _TRAINED_BY[model] = "cross_entropy"
    else:
        _TRAINED_BY[model] = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)


def remembered_loss(model: nn.Module) -> str | None:
    """The name of the loss by which `train` has trained this module last; None when it has not."""
    return _TRAINED_BY.get(model)


def logits_of(outputs: object) -> Tensor:
    """The tensor among a model's outputs that carries its answer: the output itself, or what is named `logits`."""
    logits = find_logits(outputs)
    if logits is None:
        raise TrainError(
            f"The model returns a {type(outputs).__name__} without a tensor named `logits`.\n"
            "Pass a function of outputs and labels as the loss."
        )
    return logits


def find_logits(outputs: object) -> Tensor | None:
    """The same as `logits_of`, or None where there is no such tensor."""
    if isinstance(outputs, Tensor):
        return outputs
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    return logits if isinstance(logits, Tensor) else None


def with_classes_first(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits as (batch, classes, …), for class numbers (batch, …).

    The shapes tell where the classes are: behind the batch, as torch's losses expect, or last, as token models give
    them. Raises TrainError where both would fit.
    """
    second, last = class_axes(logits, labels)
    if second and last:
        raise TrainError(
            f"The outputs have the shape {tuple(logits.shape)} and the labels {tuple(labels.shape)}: the classes may "
            "be on the second or on the last axis.\nPass a function as the loss that moves them to the second axis: "
            "lambda outputs, labels: cross_entropy(outputs.movedim(-1, 1), labels)."
        )
    return logits.movedim(-1, 1) if last else logits


def class_axes(logits: Tensor, labels: Tensor) -> tuple[bool, bool]:
    """Whether the second and the last axis of the logits can be that of the classes for these class numbers."""
    if logits.ndim != labels.ndim + 1:
        return False, False
    second = logits.shape[:1] == labels.shape[:1] and logits.shape[2:] == labels.shape[1:]
    return second, logits.ndim > 2 and logits.shape[:-1] == labels.shape


def _is_plain_cross_entropy(loss: LossFunction) -> bool:
    """Whether this is torch's cross-entropy of class numbers, without weights, smoothing or another mark to ignore."""
    if loss is F.cross_entropy:
        return True
    if type(loss) is not nn.CrossEntropyLoss or loss.weight is not None:
        return False
    return (loss.ignore_index, loss.reduction, loss.label_smoothing) == (IGNORED, "mean", 0)


def all_finite(values: list[Tensor]) -> bool:
    """Whether no value is infinite or not a number."""
    return all(bool(torch.isfinite(value).all()) for value in values)
