"""How good a model is on labelled examples."""

from dataclasses import asdict, dataclass
from math import nan, sqrt

import torch
from torch import Tensor, nn

from regraft.examples import Examples, all_indices, batches
from regraft.foundation.showing import html_table, html_text
from regraft.learning.labels import class_logits, label_check
from regraft.learning.learner import Learner, to_device
from regraft.learning.losses import IGNORED, LossFunction, cross_entropy
from regraft.tensors.keeping import kept_modes


@dataclass(frozen=True, repr=False)
class Score:
    """How good a model is on labelled examples.

    accuracy        share of right answers; None where the labels are no class numbers
    standard_error  of the accuracy, √(p(1-p)/count): the spread from the choice of examples, not from training
    count           labels that were compared
    loss            over the whole set, as the loss defines its mean: torch's cross-entropy counts by class weights and
                    leaves out ignored positions; a function of your own is averaged by the examples of each batch
    confusion       confusion[true][predicted] = count, one row and column per class; () where there are no classes
    """

    accuracy: float | None
    standard_error: float | None
    count: int
    loss: float
    confusion: tuple[tuple[int, ...], ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The same as plain data for JSON."""
        return asdict(self) | {"confusion": [list(row) for row in self.confusion]}

    def __repr__(self) -> str:
        return f"<Score: {self}>"

    def _repr_html_(self) -> str:
        rows = [(index, sum(row), row[index]) for index, row in enumerate(self.confusion)]
        return html_table(str(self), ("class", "examples", "right"), rows) if rows else html_text(str(self))

    def __str__(self) -> str:
        if self.accuracy is None or self.standard_error is None:
            return f"loss {self.loss:.4f} (n={self.count})"
        return f"accuracy {self.accuracy:.4f} ± {self.standard_error:.4f} (n={self.count}), loss {self.loss:.4f}"


def score(learner: Learner, examples: Examples, loss: LossFunction, *, batch_size: int) -> Score:
    """The learner's score on all examples, in eval mode, in their own order; modes are left as they were.

    Raises DataError that names the example when a label is none of the classes.
    """
    totals = _Totals()
    with kept_modes(learner.model), torch.no_grad():
        learner.model.eval()
        for indices, inputs, labels in batches(examples, all_indices(examples), batch_size):
            labels = labels.to(learner.device, non_blocking=True)
            outputs = learner.outputs(to_device(inputs, learner.device))
            totals.add(outputs, labels, indices, loss)
    return totals.score()


class _Totals:
    """Sums over batches, kept on the device: nothing waits for the numbers until the end."""

    def __init__(self) -> None:
        self.examples = 0
        self.loss: Tensor | float = 0.0
        self.weight: Tensor | float = 0.0
        self.confusion: Tensor | None = None

    def add(self, outputs: object, labels: Tensor, indices: Tensor, loss: LossFunction) -> None:
        """Count one batch."""
        check = label_check(loss, outputs, labels)
        if check is not None:
            check.look(labels, indices)
        weight = _weight_of(labels, loss)
        self.loss = self.loss + torch.where(weight > 0, loss(outputs, labels).double() * weight, 0.0)
        self.weight = self.weight + weight
        self.examples += len(labels)
        logits = class_logits(outputs, labels)
        if logits is not None:
            classes = logits.shape[1]
            known = (labels >= 0) & (labels < classes)
            pairs = labels[known].long() * classes + logits.argmax(1)[known]
            counts = torch.bincount(pairs, minlength=classes * classes)
            self.confusion = counts if self.confusion is None else self.confusion + counts

    def score(self) -> Score:
        """The numbers, fetched from the device once."""
        loss = float(self.loss) / float(self.weight) if float(self.weight) else nan
        if self.confusion is None or not self.confusion.any():
            return Score(None, None, self.examples, loss)
        classes = round(sqrt(len(self.confusion)))
        table = self.confusion.cpu().reshape(classes, classes)
        count = int(table.sum())
        accuracy = int(table.trace()) / count
        rows = tuple(tuple(row) for row in table.tolist())
        return Score(accuracy, sqrt(accuracy * (1 - accuracy) / count), count, loss, rows)


def _weight_of(labels: Tensor, loss: LossFunction) -> Tensor:
    """What the mean of a batch was divided by, as far as the loss is known; else the number of its examples."""
    if not labels.is_floating_point():
        if loss is cross_entropy:
            return (labels != IGNORED).sum()
        if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) and loss.reduction == "mean":
            known = labels != loss.ignore_index
            return known.sum() if loss.weight is None else loss.weight.to(labels.device)[labels[known]].sum()
    return torch.tensor(len(labels), device=labels.device)
