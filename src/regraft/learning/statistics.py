"""Sums over batches from which the usual metrics follow: counts of classes, of yes and no, of squared differences."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import exp, nan
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from regraft.tasks.classes import MOST_CLASSES, Classes
from regraft.tasks.multilabel import Multilabel
from regraft.tasks.task import Task

HIGHER_IS_BETTER: Mapping[str, bool] = {
    "accuracy": True,
    "balanced_accuracy": True,
    "precision": True,
    "recall": True,
    "f1": True,
    "mean_iou": True,
    "perplexity": False,
    "mean_absolute_error": False,
    "mean_squared_error": False,
    "r2": True,
}


@final
@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised.

    precision  share of its predictions that are right; 0.0 where it was never predicted
    recall     share of its positions that were recognised; 0.0 where there is none
    f1         harmonic mean of both
    support    positions of the class
    """

    precision: float
    recall: float
    f1: float
    support: int


class Statistics(ABC):
    """Sums over batches, kept on the device until `values` is asked for."""

    names: tuple[str, ...]  # of the metrics that follow

    @abstractmethod
    def add(self, scores: Tensor, labels: Tensor) -> None:
        """Count the rows of a batch, as `Task.pairs` gives them."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Count what the other has counted, of other rows of the same task."""

    @abstractmethod
    def values(self) -> dict[str, float]:
        """Each metric's value; NaN where nothing was counted."""

    def per_class(self) -> tuple[ClassScore, ...]:
        """The score of each class or label; () where there are none."""
        return ()

    def is_mixed(self) -> Tensor | None:
        """Of each class or label, whether some positions have it and others do not; None where that is not counted."""
        return None


def statistics_of(task: Task, size: int, *, wanted: Collection[object] = ()) -> Statistics:
    """Empty sums for a task whose outputs have so many classes, labels or numbers.

    wanted  names of metrics: perplexity is summed only where it is among them
    """
    if isinstance(task, Classes):
        return ClassStatistics(size, has_surprise="perplexity" in wanted)
    return LabelStatistics(task) if isinstance(task, Multilabel) else NumberStatistics()


@final
class ClassStatistics(Statistics):
    """Of one class for each position; the table is kept for up to 1,000 classes."""

    def __init__(self, classes: int, *, has_surprise: bool = True) -> None:
        self.classes, self.has_table, self.has_surprise = classes, classes <= MOST_CLASSES, has_surprise
        self.count, self.right, self.surprise = 0, torch.zeros(()), torch.zeros((), dtype=torch.float64)
        self.table: Tensor | None = None
        self.names = ("accuracy", "perplexity")
        if self.has_table:
            self.names += ("balanced_accuracy", "precision", "recall", "f1", "mean_iou")

    def add(self, scores: Tensor, labels: Tensor) -> None:
        """Logits (count, classes) and class numbers (count,)."""
        predicted = scores.argmax(1)
        self.count += len(labels)
        self.right = self.right.to(labels.device) + (predicted == labels).sum()
        if self.has_surprise:
            self.surprise = self.surprise.to(labels.device) + F.cross_entropy(scores.float(), labels, reduction="sum")
        if self.has_table:
            counts = torch.bincount(labels * self.classes + predicted, minlength=self.classes**2)
            self.table = _added(self.table, counts)

    def merge(self, other: Self) -> None:
        """Sums of sums."""
        self.count += other.count
        self.right, self.surprise = self.right + other.right, self.surprise + other.surprise
        self.table = _added(self.table, other.table)

    def confusion(self) -> Tensor | None:
        """(classes, classes) int64 on the CPU: rows are true, columns predicted; None where it is not kept."""
        return None if self.table is None else self.table.cpu().reshape(self.classes, self.classes)

    def values(self) -> dict[str, float]:
        """Means over classes leave out those that neither occur nor are predicted, as scikit-learn's do."""
        if not self.count:
            return dict.fromkeys(self.names, nan)
        values = {"accuracy": float(self.right) / self.count, "perplexity": _exp(float(self.surprise) / self.count)}
        confusion = self.confusion()
        if confusion is None:
            return values
        hits, support, predicted = confusion.diagonal().double(), confusion.sum(1), confusion.sum(0)
        occurs, either = support > 0, (support + predicted) > 0
        recall = hits / support.clamp(min=1)
        return values | {
            "balanced_accuracy": float(recall[occurs].mean()),
            "precision": float((hits / predicted.clamp(min=1))[either].mean()),
            "recall": float(recall[either].mean()),
            "f1": float((2 * hits / (support + predicted).clamp(min=1))[either].mean()),
            "mean_iou": float((hits / (support + predicted - hits).clamp(min=1))[either].mean()),
        }

    def is_mixed(self) -> Tensor | None:
        """Classes that occur, and not everywhere."""
        support = None if self.table is None else self.table.reshape(self.classes, -1).sum(1)
        return None if support is None else (support > 0) & (support < self.count)

    def per_class(self) -> tuple[ClassScore, ...]:
        """Of each class, in order."""
        confusion = self.confusion()
        if confusion is None:
            return ()
        return _class_scores(confusion.diagonal(), confusion.sum(1), confusion.sum(0))


@final
class LabelStatistics(Statistics):
    """Of yes or no for each label: yes where the probability is above one half. Labels of -1 are not known."""

    names = ("accuracy", "precision", "recall", "f1")

    def __init__(self, task: Multilabel) -> None:
        self.task = task
        self.counts: Tensor | None = None  # (4, labels): hits, support, predicted, right; (5th: known)

    def add(self, scores: Tensor, labels: Tensor) -> None:
        """Outputs (count, labels) and labels (count, labels) of 0, 1 and -1."""
        known = labels >= 0
        yes, predicted = labels == 1, (self.task.activate(scores) > 0.5) & known
        rows = [yes & predicted, yes, predicted, (yes == predicted) & known, known]
        self.counts = _added(self.counts, torch.stack([row.sum(0) for row in rows]))

    def merge(self, other: Self) -> None:
        """Sums of sums."""
        self.counts = _added(self.counts, other.counts)

    def values(self) -> dict[str, float]:
        """`accuracy` is the share of single labels that are right; the others are means over the labels."""
        if self.counts is None:
            return dict.fromkeys(self.names, nan)
        hits, support, predicted, right, known = self.counts.cpu().double()
        values = [
            right.sum() / known.sum(),
            (hits / predicted.clamp(min=1)).mean(),
            (hits / support.clamp(min=1)).mean(),
            (2 * hits / (support + predicted).clamp(min=1)).mean(),
        ]
        return dict(zip(self.names, map(float, values), strict=True))

    def is_mixed(self) -> Tensor | None:
        """Labels that some examples have and others have not."""
        return None if self.counts is None else (self.counts[1] > 0) & (self.counts[1] < self.counts[4])

    def per_class(self) -> tuple[ClassScore, ...]:
        """Of each label, in order."""
        if self.counts is None:
            return ()
        hits, support, predicted, _, _ = self.counts.cpu()
        return _class_scores(hits, support, predicted)


@final
class NumberStatistics(Statistics):
    """Of numbers, each target by itself: differences, and the spread of the labels.

    The spread is merged batch by batch (Chan et al., "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979), so that large labels cost no digits.
    """

    names = ("mean_absolute_error", "mean_squared_error", "r2")

    def __init__(self) -> None:
        self.count = 0
        self.absolute = self.squared = self.mean = self.spread = torch.zeros((), dtype=torch.float64)

    def add(self, scores: Tensor, labels: Tensor) -> None:
        """Numbers and labels (count,) or (count, targets)."""
        if not len(labels):
            return
        values, labels = scores.double().cpu(), labels.double().cpu()
        batch = NumberStatistics()
        batch.count, batch.mean = len(labels), labels.mean(0)
        batch.absolute, batch.squared = (values - labels).abs().sum(0), (values - labels).square().sum(0)
        batch.spread = (labels - batch.mean).square().sum(0)
        self.merge(batch)

    def merge(self, other: "NumberStatistics") -> None:
        """The other's sums, with the spread between both means."""
        if not other.count:
            return
        self.absolute, self.squared = self.absolute + other.absolute, self.squared + other.squared
        apart, total = other.mean - self.mean, self.count + other.count
        self.spread = self.spread + other.spread + apart.square() * (self.count * other.count / total)
        self.mean, self.count = self.mean + apart * (other.count / total), total

    def values(self) -> dict[str, float]:
        """Means over the targets; R² is NaN where a target has one value only."""
        if not self.count:
            return dict.fromkeys(self.names, nan)
        explained = torch.where(self.spread > 0, 1 - self.squared / self.spread, nan)
        values = [(self.absolute / self.count).mean(), (self.squared / self.count).mean(), explained.mean()]
        return dict(zip(self.names, map(float, values), strict=True))


def _added(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    return right if left is None else left if right is None else left + right


def _class_scores(hits: Tensor, support: Tensor, predicted: Tensor) -> tuple[ClassScore, ...]:
    def ratio(part: Tensor, whole: Tensor) -> list[float]:
        shares: list[float] = (part.double() / whole.clamp(min=1)).tolist()
        return shares

    columns = ratio(hits, predicted), ratio(hits, support), ratio(2 * hits, support + predicted), support.tolist()
    return tuple(ClassScore(*row) for row in zip(*columns, strict=True))


def _exp(value: float) -> float:
    return exp(value) if value < 700 else float("inf")  # beyond it a float overflows
