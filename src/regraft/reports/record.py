"""The record of one run: what the steps gave, and what the report and metrics.json need beside it."""

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import torch
from torch import nn

from regraft.cuts.cut import Cut
from regraft.depths.depth_advice import DepthAdvice
from regraft.evaluating import Score
from regraft.jobs.studies import Study
from regraft.learning.history import History, Stage
from regraft.plan import Plan
from regraft.reports.calibration import Calibration, calibration_of
from regraft.reports.confusion import ClassRow, Confusion, confusion_of
from regraft.reports.outcomes import Outcomes
from regraft.reports.task_results import TaskResult

T = TypeVar("T")
TRAIN = "train"
PARTS = ("test", "validation", TRAIN)  # the order in which they are shown; the first gives the main result


@dataclass(frozen=True)
class Baseline:
    """What answers reach that do not look at the example.

    name      the class that is most frequent among the training examples
    majority  accuracy of always answering that class
    chance    accuracy of answering any class by chance
    """

    name: str
    majority: float
    chance: float


@dataclass(frozen=True)
class Parameters:
    """How many parameters (elements, not tensors) a model has, and how many are frozen or trained."""

    total: int
    frozen: int
    trained: int


@dataclass(frozen=True)
class Variant:
    """One way of training among several that are compared.

    accuracy, standard_error   mean over the seeds and its standard error
    seconds                    mean duration; None: not measured
    points                     the accuracy of each seed
    note                       what the reader should know: "same weights as uncached"
    """

    name: str
    accuracy: float
    standard_error: float
    seconds: float | None = None
    points: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class RunRecord:
    """One run of regraft. Every part but the title may be absent; the report leaves that section out.

    title       the job's name
    date        when it ended, as it shall be read: "2026-11-22 01:40 UTC"
    command     the command line or the job's text that does the same again
    versions    name → version, of what can change the numbers
    machine     processor, cores, accelerator, in words
    checkpoint  its path, as the user named it
    files       the checkpoint's files: name → SHA-256 in hexadecimal
    frozen      names of the frozen layers
    cost        what caching costs and when it pays, in one or two sentences; "" for a run without a cache
    scores      by part: "test", "validation"
    classes     class names, in the order of the confusion matrix
    seconds     part of the run ("reading", "features", "training" …) → seconds, in order of use
    notes       what was skipped, cast, resized or assumed: a sentence each
    counts      part of the data → how many examples each class has there, in the order of `classes`
    outcomes    the answers for the examples of the main part, one by one
    advice      how many layers to reuse, where it was asked for
    result      the same for other labels than one class for each example
    studies     cross-validation and learning curves
    comparison  several ways of training side by side; empty for an ordinary run
    """

    title: str
    date: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    checkpoint: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    plan: Plan | None = None
    frozen: tuple[str, ...] = ()
    parameters: Parameters | None = None
    cut: Cut | None = None
    cost: str = ""
    history: History | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    comparison: tuple[Variant, ...] = ()
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outcomes: Outcomes | None = None
    advice: DepthAdvice | None = None
    result: TaskResult | None = None
    studies: tuple[Study, ...] = ()

    @property
    def accuracies(self) -> dict[str, Score]:
        """The scores that have an accuracy, the main one first: numbers as labels have none."""
        scores = {part: self.scores[part] for part in PARTS if part in self.scores}
        return {part: score for part, score in scores.items() if score.accuracy is not None}

    @property
    def shown_scores(self) -> dict[str, Score]:
        """The scores of all parts, the main one first, whatever their task."""
        return {part: self.scores[part] for part in PARTS if part in self.scores}

    @property
    def confusion(self) -> Confusion | None:
        """That of the main score; None where there is none, and for a language model, whose classes are all tokens."""
        if self.result is not None and self.result.task == "language-model":
            return None
        matrix = next((score.confusion for score in self.accuracies.values()), None)
        return confusion_of(matrix, self.classes) if matrix else None

    @property
    def baseline(self) -> Baseline | None:
        """What an answer without looking at the example would reach on the main part; None without classes."""
        main = next((score for part, score in self.accuracies.items() if part != TRAIN), None)
        if main is None or not main.confusion or self.result is not None:
            return None
        counts = [sum(row) for row in main.confusion]
        trained = [*(self.counts.get(TRAIN) or counts), *[0] * len(counts)][: len(counts)]
        most = trained.index(max(trained))
        name = self.classes[most] if most < len(self.classes) else str(most)
        return Baseline(name, counts[most] / (sum(counts) or 1), 1 / len(counts))

    @property
    def calibration(self) -> Calibration | None:
        """How far the probabilities of the answers can be believed; None without answers."""
        if self.outcomes is None or not self.outcomes.names:
            return None
        rights = [self.outcomes.is_right(index) for index in range(len(self.outcomes.names))]
        return calibration_of(self.outcomes.probability, rights)

    def metrics(self) -> dict[str, object]:
        """The record's numbers under stable names, for metrics.json."""
        names = ("accuracy", "standard_error", "count", "loss")
        scores = {
            part: {name: getattr(score, name) for name in names} | {"metrics": dict(score.metrics)}
            for part, score in self.shown_scores.items()
        }
        return scores | {
            "seconds": dict(self.seconds),
            "epochs": self.history.epochs if self.history else 0,
            "cut": _if_given(self.cut, lambda cut: _cut_metrics(cut, self.cost)),
            "frozen": list(self.frozen),
            "parameters": _if_given(self.parameters, asdict),
            "history": _if_given(self.history, _history_metrics),
            "notes": list(self.notes),
            "classes": list(self.classes),
            "counts": {part: list(counts) for part, counts in self.counts.items()},
            "per_class": _if_given(self.confusion, _table_metrics),
            "confusion": next((list(map(list, score.confusion)) for score in self.accuracies.values()), None),
            "baseline": _if_given(self.baseline, asdict),
            "advice": _if_given(self.advice, DepthAdvice.to_dict),
            "calibration": _if_given(self.calibration, asdict),
            "result": _if_given(self.result, TaskResult.to_dict),
            "studies": [study.to_dict() for study in self.studies],
        }


def parameters_of(model: nn.Module) -> Parameters:
    """How many values the model's parameters hold, and how many of them are trained."""
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Parameters(total=total, frozen=total - trained, trained=trained)


def machine_text() -> str:
    """The processor, its cores and the accelerator, in words."""
    accelerator = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{accelerator}"


def dtype_text(dtype: torch.dtype) -> str:
    """torch.float32 → "float32"."""
    return str(dtype).removeprefix("torch.")


def _if_given(value: T | None, metrics_of: Callable[[T], object]) -> object:
    return None if value is None else metrics_of(value)


def _cut_metrics(cut: Cut, cost: str) -> dict[str, object]:
    leaves = [
        {
            "name": leaf.name,
            "shape": list(leaf.shape),
            "dtype": dtype_text(leaf.dtype),
            "bytes_per_example": leaf.bytes_per_example,
        }
        for leaf in cut.leaves
    ]
    numbers = {
        "bytes_per_example": cut.bytes_per_example,
        "work_saved": cut.work_saved,
        "row_rounding": cut.row_rounding,
    }
    return {"leaves": leaves, **numbers, "cost": cost}


def _history_metrics(history: History) -> dict[str, object]:
    return {
        "train_loss": list(history.train_loss),
        "validation_loss": list(history.validation_loss),
        "validation_accuracy": known_accuracies(history),
        "best_epoch": history.best_epoch,
        "stopped": history.stopped_because,
        "stages": [_stage_metrics(stage) for stage in history.stages],
    }


def score_text(score: Score) -> str:
    """The accuracy with its standard error where there is one, and each metric; the loss where there is none."""
    values = dict(score.metrics) or {"loss": score.loss}
    shown = []
    if score.accuracy is not None and score.standard_error is not None:
        shown, values = [f"accuracy {score.accuracy:.4f} ± {score.standard_error:.4f}"], dict(score.metrics)
        values.pop("accuracy", None)
    return ", ".join([*shown, *(f"{name} {value:.4g}" for name, value in values.items())])


def known_accuracies(history: History) -> list[float]:
    """The accuracy after each epoch; empty where the labels are no class numbers."""
    return [accuracy for accuracy in history.validation_accuracy if accuracy is not None]


def _table_metrics(confusion: Confusion) -> list[dict[str, object]]:
    return [_class_metrics(score) for score, _ in confusion.table]


def _class_metrics(score: ClassRow) -> dict[str, object]:
    values = {"precision": score.precision, "recall": score.recall, "f1": score.f1, "support": score.count}
    return {"class": score.name, **values}


def _stage_metrics(stage: Stage) -> dict[str, object]:
    values = asdict(stage)
    return {"first_epoch": values.pop("epoch"), **values}
