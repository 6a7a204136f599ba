"""How good a model is on labelled examples."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import nan, sqrt
from typing import Any

import torch
from torch import Tensor

from regraft.examples import Examples, all_indices, batches
from regraft.foundation.showing import html_table, html_text
from regraft.learning.learner import Learner, to_device
from regraft.learning.losses import unweighted
from regraft.learning.metrics import GivenMetrics, metric_sets
from regraft.learning.objective import LossPart, Objective
from regraft.learning.ranks import ALONE, Ranks
from regraft.learning.request import Request
from regraft.learning.statistics import ClassScore, Statistics
from regraft.tasks.classes import Classes
from regraft.tasks.outputs import find_output
from regraft.tasks.several import label_parts
from regraft.tensors.keeping import kept_modes
from regraft.tensors.trees import tensors_of


@dataclass(frozen=True, repr=False)
class Score:
    """How good a model is on labelled examples.

    accuracy        share of right answers among all positions; None where the labels are no class numbers
    standard_error  of the accuracy: the spread from the choice of examples, not from training. √(p(1-p)/count) for one
                    label per example; positions of one example are not counted as independent
    count           labels that were compared; examples where they are no class numbers
    loss            over the whole set, as the loss defines its mean: cross-entropy counts by class weights and leaves
                    out ignored positions; a function of your own is averaged by the examples of each batch
    confusion       confusion[true][predicted] = count, one row and column per class; () where there are no classes, or
                    more than 1,000
    metrics         name → value, over the whole set; of several tasks "part.name"
    per_class       precision, recall, F1 and support of each class or label; () where there are none
    """

    accuracy: float | None
    standard_error: float | None
    count: int
    loss: float
    confusion: tuple[tuple[int, ...], ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    per_class: tuple[ClassScore, ...] = ()

    def value(self, name: str) -> float:
        """The loss, or the metric of this name."""
        return self.loss if name == "loss" else self.metrics.get(name, nan)

    def to_dict(self) -> dict[str, object]:
        """The same as plain data for JSON."""
        return asdict(self) | {"confusion": [list(row) for row in self.confusion]}

    def __repr__(self) -> str:
        return f"<Score: {self}>"

    def _repr_html_(self) -> str:
        rows = [(index, sum(row), row[index]) for index, row in enumerate(self.confusion)]
        return html_table(str(self), ("class", "examples", "right"), rows) if rows else html_text(str(self))

    def __str__(self) -> str:
        more = "".join(f", {name} {value:.4f}" for name, value in self.metrics.items() if name != "accuracy")
        if self.accuracy is None or self.standard_error is None:
            share = f", accuracy {self.metrics['accuracy']:.4f}" if "accuracy" in self.metrics else ""
            return f"loss {self.loss:.4f} (n={self.count}){share}{more}"
        return f"accuracy {self.accuracy:.4f} ± {self.standard_error:.4f} (n={self.count}), loss {self.loss:.4f}{more}"


def score(
    learner: Learner, examples: Examples, asked: Objective | Request, *, batch_size: int, metrics: GivenMetrics = None,
    ranks: Ranks = ALONE,
) -> Score:  # fmt: skip
    """The learner's score on all examples, in eval mode, in their own order; modes are left as they were.

    asked   a request becomes an objective on the first batch
    ranks   each process scores every so many-th batch by an objective, and all return the score of all batches

    Raises DataError that names the example when a label does not fit the task.
    """
    if ranks.are_several and isinstance(asked, Objective):
        return _score_by_ranks(learner, examples, asked, batch_size, metrics, ranks)
    totals = _totals(learner, examples, asked, all_indices(examples), batch_size, metrics)
    assert totals is not None, "there are examples"
    return totals.score()


def _score_by_ranks(
    learner: Learner, examples: Examples, objective: Objective, batch_size: int, metrics: GivenMetrics, ranks: Ranks
) -> Score:
    mine = all_indices(examples).split(batch_size)[ranks.rank :: ranks.count]
    totals = _totals(learner, examples, objective, torch.cat(mine), batch_size, metrics) if mine else None
    every = _Totals(objective, metrics)
    for counted in ranks.gathered(None if totals is None else totals.counted()):
        if counted is not None:
            every.merge(counted)
    return ranks.from_first(every.score())


def _totals(
    learner: Learner, examples: Examples, asked: Objective | Request, order: Tensor, batch_size: int,
    metrics: GivenMetrics,
) -> "_Totals | None":  # fmt: skip
    """Sums over the examples of `order` (count,) int64; None where there are none."""
    totals: _Totals | None = None
    with kept_modes(learner.model), torch.no_grad():
        learner.model.eval()
        for indices, inputs, labels in batches(examples, order, batch_size):
            labels = to_device(unweighted(labels), learner.device)
            outputs = learner.outputs(to_device(inputs, learner.device))
            totals = totals or _Totals(_made(asked, outputs, labels, examples, learner), metrics)
            totals.add(outputs, labels, indices)
    return totals


def _made(
    asked: Objective | Request, outputs: object, labels: object, examples: Examples, learner: Learner
) -> Objective:
    """The objective; that of a request for these outputs and labels."""
    if isinstance(asked, Objective):
        return asked
    every = None if examples.labels is None else unweighted(examples.labels)
    return asked.objective(outputs, labels, every=every, model=learner.model)


@dataclass(frozen=True)
class _Counted:
    """What one of several processes has counted, see `_Totals`. `sets` holds statistics and metrics by prefix."""

    examples: int
    losses: list[Tensor | float]
    weights: list[Tensor | float]
    answers: Tensor | None
    sets: dict[str, tuple[Statistics | None, dict[str, Any]]]


class _Totals:
    """Sums over batches, kept on the device: nothing waits for the numbers until the end."""

    def __init__(self, objective: Objective, metrics: GivenMetrics) -> None:
        self.objective = objective
        self.sets = metric_sets(objective.task, metrics)
        self.examples = 0
        self.losses: list[Tensor | float] = [0.0] * len(objective.parts)
        self.weights: list[Tensor | float] = [0.0] * len(objective.parts)
        self.answers: Tensor | None = None  # of the examples: Σ right, Σ count, Σ right², Σ right · count, Σ count²

    def add(self, outputs: object, labels: object, indices: Tensor) -> None:
        """Count one batch."""
        task = self.objective.task
        if task is not None and not self.objective.is_own:
            task.check(outputs, labels).look(labels, indices)
        for number, part in enumerate(self.objective.parts):
            value = part.value(outputs, labels).double()
            weight = torch.as_tensor(1 if part.is_sum else part.weight(labels), device=value.device)
            self.losses[number] = self.losses[number] + torch.where(weight > 0, value * weight, 0.0)
            self.weights[number] = self.weights[number] + weight
        self.examples += len(tensors_of(labels)[0])
        if isinstance(task, Classes):
            self._count_answers(task, outputs, labels)
        for part_name, one in self.sets.values():
            if part_name:
                one.add(find_output(outputs, part_name), label_parts(labels)[part_name])
            else:
                one.add(outputs, labels)

    def counted(self) -> "_Counted":
        """What was counted, without the objective: for another process."""
        sets = {prefix: (one.statistics, one.objects) for prefix, (_, one) in self.sets.items()}
        return _Counted(self.examples, self.losses, self.weights, self.answers, sets)

    def merge(self, other: "_Counted") -> None:
        """Count what another process has counted; its tensors are on the CPU."""
        self.examples += other.examples
        self.losses = [mine + theirs for mine, theirs in zip(self.losses, other.losses, strict=True)]
        self.weights = [mine + theirs for mine, theirs in zip(self.weights, other.weights, strict=True)]
        if other.answers is not None:
            self.answers = other.answers if self.answers is None else self.answers + other.answers
        for prefix, (statistics, objects) in other.sets.items():
            self.sets[prefix][1].merge(statistics, objects)

    def score(self) -> Score:
        """The numbers, fetched from the device once."""
        loss = sum(map(_mean, self.objective.parts, self.losses, self.weights))
        values = {
            prefix + name: value for prefix, (_, one) in self.sets.items() for name, value in one.values().items()
        }
        single = self.sets[""][1] if "" in self.sets else None
        per_class = () if single is None else single.per_class()
        sums = None if self.answers is None else self.answers.cpu().tolist()
        if sums is None or not sums[1] or single is None:
            return Score(None, None, self.examples, loss, metrics=values, per_class=per_class)
        table = single.confusion()
        rows = () if table is None else tuple(tuple(row) for row in table.tolist())
        right, count, right_squared, both, count_squared = sums
        accuracy = right / count
        spread = right_squared - 2 * accuracy * both + accuracy**2 * count_squared
        error = sqrt(max(0.0, spread)) / count
        return Score(accuracy, error, int(count), loss, rows, values, per_class)

    def _count_answers(self, task: Classes, outputs: Any, labels: Any) -> None:
        answers = task.answers(outputs, labels)
        if answers is None:
            return
        predicted, targets, known = (tensor.reshape(len(labels), -1) for tensor in answers)
        right, count = ((predicted == targets) & known).sum(1).double(), known.sum(1).double()
        products = [right, count, right * right, right * count, count * count]
        sums = torch.stack([product.sum() for product in products])
        self.answers = sums if self.answers is None else self.answers + sums


def _mean(part: LossPart, loss: Tensor | float, weight: Tensor | float) -> float:
    """The loss of the set by one part: NaN where no label counts."""
    if part.is_sum:
        return float(loss)
    return float(loss) / float(weight) if float(weight) else nan
