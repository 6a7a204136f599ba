"""Metrics by name or as torchmetrics objects, computed over whole sets."""

import warnings
from collections.abc import Mapping, Sequence
from math import nan
from types import ModuleType
from typing import Any, final

import torch
from torch import Tensor

from regraft.errors import TrainError
from regraft.foundation.wording import near_names
from regraft.labels import Labels
from regraft.learning.ranks import TRAIN_ALONE
from regraft.learning.statistics import HIGHER_IS_BETTER, ClassScore, ClassStatistics, Statistics, statistics_of
from regraft.tasks.classes import Classes
from regraft.tasks.kinds import AnyTask
from regraft.tasks.multilabel import Multilabel
from regraft.tasks.several import Several
from regraft.tasks.task import Task

Metric = Any  # a name, or a torchmetrics.Metric
GivenMetrics = Sequence[Metric] | Mapping[str, Any] | None

_CLASS_NAMES = {"auroc": "AUROC", "f1": "F1Score", "r2": "R2Score", "mean_iou": "JaccardIndex"}
BY_CLASS = ("auroc", "average_precision")  # the mean over those classes that occur, and not everywhere


@final
class MetricSet:
    """The metrics of one task over a set: batches are added, then the values are asked for.

    metrics  names and torchmetrics objects; None: those of the task. Objects are copied
    """

    def __init__(self, task: Task, metrics: GivenMetrics) -> None:
        self.task, self.are_asked = task, metrics is not None
        given = task.metrics if metrics is None else metrics
        self.wanted = dict(given) if isinstance(given, Mapping) else {name_of(metric): metric for metric in given}
        self.statistics: Statistics | None = None
        self.objects: dict[str, Any] = {}

    def add(self, outputs: object, labels: Labels) -> None:
        """Count a batch; labels that give no pairs (probabilities of classes) are left out."""
        pairs = self.task.pairs(outputs, labels)
        if pairs is None:
            return
        scores, targets = pairs
        if self.statistics is None:
            self._begin(self.task.size(outputs), scores.device)
        assert self.statistics is not None, "just begun"
        self.statistics.add(scores, targets)
        if self.objects and len(targets):
            values = self.task.activate(scores)
            for name, metric in self.objects.items():
                self._update(name, metric, scores, values, targets)

    def merge(self, statistics: Statistics | None, objects: Mapping[str, Any]) -> None:
        """Count what the set of another process has counted. Raises TrainError for a metric that cannot be merged."""
        if statistics is None:
            return
        if self.statistics is None:
            self.statistics, self.objects = statistics, dict(objects)
            return
        self.statistics.merge(statistics)
        for name, metric in objects.items():
            mine = self.objects[name]
            if not metric.update_called or not mine.update_called:
                self.objects[name] = metric if metric.update_called else mine
                continue
            try:
                mine.merge_state(metric)
            except (RuntimeError, TypeError, ValueError) as error:
                raise TrainError(
                    f"The metric {name} ({type(mine).__name__}) cannot be computed by several processes: {error}\n"
                    "Leave it out of the metrics of train, and call evaluate with it after training.",
                    advice=[TRAIN_ALONE],
                ) from error

    def values(self) -> dict[str, float]:
        """Name → value, in the order in which they were asked for; those of the task only where there are pairs."""
        if self.statistics is None:
            return dict.fromkeys(self.wanted, nan) if self.are_asked else {}
        known, is_mixed = self.statistics.values(), self.statistics.is_mixed()
        return {
            name: _value_of(
                name, self.objects[name], is_mixed if isinstance(metric, str) and metric in BY_CLASS else None
            )
            if name in self.objects
            else known[metric]
            for name, metric in self.wanted.items()
        }

    def per_class(self) -> tuple[ClassScore, ...]:
        """Precision, recall, F1 and support of each class or label."""
        return self.statistics.per_class() if self.statistics is not None else ()

    def confusion(self) -> Tensor | None:
        """(classes, classes) int64; None for another task, or too many classes."""
        return self.statistics.confusion() if isinstance(self.statistics, ClassStatistics) else None

    def _begin(self, size: int, device: torch.device) -> None:
        self.statistics = statistics_of(self.task, size, wanted=self.wanted.values())
        for name, metric in self.wanted.items():
            if not isinstance(metric, str) or metric not in self.statistics.names:  # objects compare as metrics
                made = constructed(metric, self.task, size) if isinstance(metric, str) else metric.clone()
                made.sync_on_compute = False  # by itself it would wait for other processes of torch.distributed
                made._to_sync = False
                self.objects[name] = made.to(device)

    def _update(self, name: str, metric: Any, scores: Tensor, values: Tensor, targets: Tensor) -> None:
        kind = type(metric).__name__
        if kind == "Perplexity":  # applies softmax itself
            values, targets = scores[None], targets[None]
        elif kind.startswith("Binary"):
            values, targets = _of_one_column(values), targets.reshape(-1)
        try:
            metric.update(values, targets)
        except (ValueError, RuntimeError, TypeError) as error:
            raise TrainError(
                f"The metric {name} ({kind}) cannot take outputs {tuple(values.shape)} and labels "
                f"{tuple(targets.shape)} of the task {self.task.name}: {error}"
            ) from error


def metric_sets(task: AnyTask | None, metrics: GivenMetrics) -> dict[str, tuple[str, MetricSet]]:
    """Prefix → (name of the part, its metrics): one set, or one for each part of several tasks; none without a task.

    metrics  of several tasks a dictionary by the names of the parts; None: those of each task
    """
    if task is None:
        if metrics:
            raise TrainError("Metrics need a task: pass task= to say what the outputs of your own loss mean.")
        return {}
    if not isinstance(task, Several):
        return {"": ("", MetricSet(task, metrics))}
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TrainError(f"Metrics of several tasks are a dictionary by their names: {', '.join(task.tasks)}.")
    return {f"{name}.": (name, MetricSet(part, (metrics or {}).get(name))) for name, part in task.tasks.items()}


def refuse_unknown_metrics(task: AnyTask, metrics: GivenMetrics) -> None:
    """Raise TrainError for a name that the task has no metric for, before anything is trained."""
    for _, one in metric_sets(task, metrics).values():
        known = statistics_of(one.task, 2).names
        for metric in one.wanted.values():
            if isinstance(metric, str) and metric not in known:
                constructed(metric, one.task, 2)


def name_of(metric: Metric) -> str:
    """A metric's name: that of a torchmetrics object is the name of its class."""
    return metric if isinstance(metric, str) else type(metric).__name__


def higher_is_better(name: str, metrics: GivenMetrics, task: AnyTask | None) -> bool:
    """Whether more is better of the metric by which the best epoch is chosen. Raises TrainError where nobody says."""
    if name in HIGHER_IS_BETTER or name.rpartition(".")[2] in HIGHER_IS_BETTER:
        return HIGHER_IS_BETTER[name.rpartition(".")[2]]
    sets = metric_sets(task, metrics)
    for prefix, (_, one) in sets.items():
        metric = one.wanted.get(name.removeprefix(prefix))
        if metric is not None:
            made = constructed(metric, one.task, 2) if isinstance(metric, str) else metric
            if made.higher_is_better is not None:
                return bool(made.higher_is_better)
            raise TrainError(f"Nothing says whether more is better of {name}: set `higher_is_better` in its class.")
    names = ["loss", *(prefix + other for prefix, (_, one) in sets.items() for other in one.wanted)]
    raise TrainError(f"There is no metric {name!r} to monitor. {near_names(name, names)} Add it to metrics=[…].")


def constructed(name: str, task: Task, size: int) -> Any:
    """The torchmetrics object of this name for a task: "auroc" is MulticlassAUROC, MultilabelAUROC or BinaryAUROC.

    Raises TrainError for a name that torchmetrics does not have, or where it is not installed.
    """
    library = torchmetrics()
    stem = _CLASS_NAMES.get(name) or "".join(word.capitalize() for word in name.split("_"))
    average = {"average": "none"} if name in BY_CLASS else {}
    if isinstance(task, Classes):
        home, prefix, settings = library.classification, "Multiclass", {"num_classes": size, **average}
    elif isinstance(task, Multilabel) and size == 1:
        home, prefix, settings = library.classification, "Binary", {"ignore_index": -1}
    elif isinstance(task, Multilabel):
        home, prefix, settings = (
            library.classification,
            "Multilabel",
            {"num_labels": size, "ignore_index": -1, **average},
        )
    else:
        home, prefix, settings = library.regression, "", {}
    kind = getattr(home, prefix + stem, None)
    if kind is None:
        known = [*HIGHER_IS_BETTER, *BY_CLASS, "cohen_kappa", "matthews_corr_coef"]
        raise TrainError(
            f"There is no metric {name!r} for the task {task.name}. {near_names(name, known)} Or pass a torchmetrics "
            "object."
        )
    return kind(**settings)


def torchmetrics() -> ModuleType:
    """The library. Raises TrainError where it cannot be imported."""
    try:
        import torchmetrics as library
        import torchmetrics.classification
        import torchmetrics.regression
    except (ImportError, RuntimeError) as error:  # RuntimeError: of a torchvision built for another torch
        raise TrainError(f"This metric is computed by torchmetrics, which cannot be imported: {error}") from error
    return library


def _of_one_column(values: Tensor) -> Tensor:
    """The probability of yes: the last of one or two columns."""
    return values[:, -1] if values.ndim == 2 and values.shape[1] <= 2 else values


def _value_of(name: str, metric: Any, is_mixed: Tensor | None) -> float:
    """The metric's value. Of one by class the mean over the classes for which it is defined."""
    if not metric.update_called:
        return nan
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # classes that do not occur: left out below
        value = metric.compute()
    if is_mixed is not None:
        value = value.reshape(-1)[is_mixed].mean()
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TrainError(f"The metric {name} gives a {type(value).__name__}, expected one number.") from error
