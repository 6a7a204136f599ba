"""Losses by name, torch's own, and those of the user: how each is computed, and what its mean is divided by."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regraft.errors import TrainError
from regraft.foundation.wording import near_names
from regraft.labels import IGNORED

LossFunction = Callable[[Any, Any], Tensor]
LossName = Literal["cross_entropy", "binary_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber"]
OneLoss = LossName | LossFunction
Loss = OneLoss | Mapping[str, OneLoss] | None

LOSSES: dict[str, Callable[..., nn.Module]] = {
    "cross_entropy": nn.CrossEntropyLoss,
    "binary_cross_entropy": nn.BCEWithLogitsLoss,
    "mean_squared_error": nn.MSELoss,
    "mean_absolute_error": nn.L1Loss,
    "huber": nn.HuberLoss,
}
_NAMES: dict[type[nn.Module], str] = {
    nn.CrossEntropyLoss: "cross_entropy",
    nn.NLLLoss: "cross_entropy",
    nn.BCEWithLogitsLoss: "binary_cross_entropy",
    nn.MSELoss: "mean_squared_error",
    nn.L1Loss: "mean_absolute_error",
    nn.HuberLoss: "huber",
    nn.SmoothL1Loss: "huber",
}
_FUNCTIONS: dict[Callable[..., Tensor], type[nn.Module]] = {
    F.cross_entropy: nn.CrossEntropyLoss,
    F.nll_loss: nn.NLLLoss,
    F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    F.mse_loss: nn.MSELoss,
    F.l1_loss: nn.L1Loss,
    F.huber_loss: nn.HuberLoss,
    F.smooth_l1_loss: nn.SmoothL1Loss,
}


class WeightedLabels(NamedTuple):
    """Labels with the weight of each example.

    labels   one tensor, as the task takes it
    weights  (batch,) float
    """

    labels: Any
    weights: Tensor


def unweighted(labels: object) -> Any:
    """The labels without the weights of their examples."""
    return labels.labels if isinstance(labels, WeightedLabels) else labels


@final
@dataclass(frozen=True)
class KnownLoss:
    """One of torch's losses with its settings, applied to aligned outputs and labels.

    module  of torch; it is the user's own where one was passed, so that a setting changed in it is seen
    """

    module: Any  # an nn.Module of those in _NAMES

    @property
    def name(self) -> str:
        """As in LOSSES."""
        return _NAMES[type(self.module)]

    @property
    def settings(self) -> str:
        """All settings, class weights among them."""
        module = self.module
        own = {name: value for name, value in vars(module).items() if not name.startswith("_") and name != "training"}
        values = sorted((own | dict(module.named_buffers())).items())
        return f"{type(module).__name__}{ {name: v.tolist() if isinstance(v, Tensor) else v for name, v in values} }"

    @property
    def is_sum(self) -> bool:
        """Whether the loss of a batch is a sum, not a mean."""
        return bool(self.module.reduction == "sum")

    @property
    def is_plain(self) -> bool:
        """Whether this is cross-entropy without class weights, smoothing or a mark of its own to ignore."""
        loss = self.module
        if type(loss) is not nn.CrossEntropyLoss or loss.weight is not None:
            return False
        return (loss.ignore_index, loss.reduction, loss.label_smoothing) == (IGNORED, "mean", 0)

    @property
    def ignore_index(self) -> int | None:
        """The class number that this loss leaves out; None for a loss that leaves none out."""
        return self.module.ignore_index if isinstance(self.module, nn.CrossEntropyLoss | nn.NLLLoss) else None

    @property
    def counts_labels(self) -> bool:
        """Whether each label counts 1 in the mean, but for those that are ignored."""
        return not self.is_sum and self.module.reduction == "mean" and getattr(self.module, "weight", None) is None

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, as torch computes it."""
        if self.is_plain and outputs.ndim == 2 and not labels.is_floating_point() and _is_slow_by_rows(outputs):
            columns = F.log_softmax(outputs.t().contiguous(), 0)
            return F.nll_loss(columns.t(), labels, ignore_index=IGNORED)
        value: Tensor = self.module(outputs, labels)
        return value

    def weights(self, labels: Tensor) -> Tensor | None:
        """What each label counts in the mean; None where each counts 1."""
        loss = self.module
        if not isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) or labels.is_floating_point():
            return None
        known = labels != loss.ignore_index
        if loss.weight is None:
            return known
        return loss.weight.to(labels.device)[labels.masked_fill(~known, 0)] * known

    def total_weight(self, labels: Tensor) -> Tensor | int:
        """What the mean of a batch is divided by."""
        weights = self.weights(labels)
        if weights is not None:
            return weights.sum()
        is_probabilities = isinstance(self.module, nn.CrossEntropyLoss)
        return labels.numel() // labels.shape[1] if is_probabilities else labels.numel()

    def weighted(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """The weighted mean of a batch: Σ weight · loss / Σ weight, over all labels.

        weights  (losses,) of each label
        """
        single: Any = copy.copy(self.module)
        single.reduction = "none"
        losses, counts = single(outputs, labels), self.weights(labels)
        each = weights.to(losses.dtype).reshape(losses.shape)
        total: Tensor = (losses * each).sum() / (each if counts is None else each * counts).sum()
        return total


def _is_slow_by_rows(logits: Tensor) -> bool:
    """Whether torch takes these rows number by number: it has vectors of 16 on the CPU and cannot fill one.

    (200, 10): 52 µs by rows, 9 by columns with the transposing; (4096, 10): 1,300 and 100. Equal but for rounding.
    """
    return logits.device.type == "cpu" and logits.shape[1] < 16 and logits.numel() >= 1024


def known_loss(loss: OneLoss | str) -> KnownLoss | None:
    """The loss of this name, or what a module or function of torch is; None for a function or module of the user.

    Raises TrainError for an unknown name.
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise TrainError(
                f"There is no loss {loss!r}. {near_names(loss, LOSSES)}\nOr pass a function of outputs and labels."
            )
        return KnownLoss(LOSSES[loss]())
    if type(loss) in _NAMES:
        return KnownLoss(loss)
    if isinstance(loss, partial) and loss.func in _FUNCTIONS and not loss.args:
        return KnownLoss(_FUNCTIONS[loss.func](**loss.keywords))
    return KnownLoss(_FUNCTIONS[loss]()) if loss in _FUNCTIONS else None


def refuse_unknown_losses(loss: Loss) -> None:
    """Raise TrainError for a loss that there is not."""
    for one in loss.values() if isinstance(loss, Mapping) else [loss]:
        if one is not None and not isinstance(one, str) and not callable(one):
            raise TrainError(f"The loss is {one!r}, expected a name or a function of outputs and labels.")
        if one is not None:
            known_loss(one)


def name_of_loss(loss: OneLoss) -> str:
    """The name by which a loss is recorded."""
    known = known_loss(loss)
    if known is not None:
        return known.name
    return str(getattr(loss, "__name__", type(loss).__name__))


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """A weight for each class, count / (classes · count of the class), as scikit-learn's "balanced": (classes,).

    labels  class numbers; others are left out. A class without examples gets 0
    """
    known = labels[(labels >= 0) & (labels < classes)].long()
    counts = torch.bincount(known.reshape(-1), minlength=classes).double()
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0).float()


def all_finite(values: Sequence[Tensor]) -> bool:
    """Whether no value is infinite or not a number."""
    return all(bool(torch.isfinite(value).all()) for value in values)
