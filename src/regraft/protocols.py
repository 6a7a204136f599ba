"""Protocols on one cache: cross-validation, several seeds, and scores against the number of labels."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import nan, sqrt
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regraft.errors import DataError, TrainError
from regraft.evaluating import Score, evaluate
from regraft.labels import Labels
from regraft.learning.learner import Learner
from regraft.learning.request import Request, WeightedLoss
from regraft.training import train


@dataclass(frozen=True)
class Spread:
    """The mean of several values with its standard error.

    standard_error  standard deviation / √count, over the folds; NaN for one value
    """

    mean: float
    standard_error: float
    values: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.standard_error:.4f}"


@dataclass(frozen=True)
class CrossValidation:
    """The scores of a cross-validation.

    scores  of each repeat, seed and fold, on the examples that were left out of training
    folds   of each repeat
    """

    scores: tuple[Score, ...]
    folds: int

    def spread(self, name: str = "loss") -> Spread:
        """Mean and standard error of the loss or a metric.

        The error is that of one round of folds (standard deviation / √folds), averaged over repeats and seeds: these
        use the same examples again, and do not make it smaller.
        """
        values = np.array([score.value(name) for score in self.scores]).reshape(-1, self.folds)
        errors = values.std(1, ddof=1) / sqrt(self.folds)
        return Spread(float(values.mean()), float(errors.mean()), tuple(map(float, values.reshape(-1))))

    @property
    def metrics(self) -> dict[str, Spread]:
        """Loss and each metric."""
        return {name: self.spread(name) for name in ("loss", *self.scores[0].metrics)}

    def __str__(self) -> str:
        return ", ".join(f"{name} {spread}" for name, spread in self.metrics.items()) + f" ({len(self.scores)} runs)"


@dataclass(frozen=True)
class LearningCurve:
    """Scores on the same examples after training on more and more labels.

    counts  of labels, for each point
    scores  of each point: one for each seed
    """

    counts: tuple[int, ...]
    scores: tuple[tuple[Score, ...], ...] = field(default=())

    def spread(self, name: str = "loss") -> tuple[Spread, ...]:
        """Mean and standard error over the seeds, for each count."""
        return tuple(spread_of(np.array([score.value(name) for score in point])) for point in self.scores)

    def __str__(self) -> str:
        name = "accuracy" if "accuracy" in self.scores[0][0].metrics else "loss"
        return "\n".join(
            f"{count:>8} labels  {name} {s}" for count, s in zip(self.counts, self.spread(name), strict=True)
        )


def cross_validate(
    model_or_head: nn.Module,
    data: object,
    *,
    folds: int = 5,
    repeats: int = 1,
    seeds: Sequence[int] = (0,),
    groups: object = None,
    splitter: object = None,
    metrics: Any = None,
    before_each: Callable[[nn.Module, int], None] | None = None,
    **training: Any,
) -> CrossValidation:
    """Train on all folds but one, score on that one, for each fold: all from one cache.

    data         features, or any examples; each is scored once in each repeat
    folds        scikit-learn's StratifiedKFold where labels are one class per example, else KFold, both shuffled
    repeats      of the whole, with other folds
    seeds        of batches, dropout and folds; each repeat is run with each seed on the same folds
    groups       (count,) examples of one group (a patient, a speaker) are in one fold: GroupKFold
    splitter     any other of scikit-learn's: `splitter.split(X, y, groups)`; folds and repeats are then its own
    metrics      as in `train`
    before_each  called with the model and the seed before each training, to set other initial weights
    training     arguments of `train`: task, loss, solver …

    Before each training the weights are those that were given; afterwards, too. Raises DataError for fewer examples of
    a class than folds, TrainError without scikit-learn.
    """
    learner = Learner(model_or_head)
    examples = learner.examples(data, classes=training.get("classes", ()), pad=training.get("pad"))
    labels, scores, count = examples.labels, list[Score](), 0
    with initial_weights(learner) as reset:
        for repeat in range(repeats):
            parts = list(_folds(labels, len(examples), folds, repeat, groups, splitter))
            count = len(parts)
            for seed in seeds:
                for rest, left_out in parts:
                    reset()
                    if before_each is not None:
                        before_each(learner.model, seed)
                    train(model_or_head, examples.subset(rest), seed=seed, metrics=metrics, **_of_fold(training, rest))
                    scores.append(
                        evaluate(model_or_head, examples.subset(left_out), metrics=metrics, **_asked(training))
                    )
    return CrossValidation(tuple(scores), count)


def learning_curve(
    model_or_head: nn.Module,
    data: object,
    test: object,
    *,
    counts: Sequence[int],
    seeds: Sequence[int] = (0, 1, 2),
    metrics: Any = None,
    before_each: Callable[[nn.Module, int], None] | None = None,
    **training: Any,
) -> LearningCurve:
    """Train on more and more of the labels, and score on the same examples: all from one cache.

    data         features or examples of which the first `count` of a random order are used; where labels are one class
                 per example, in equal proportions of the classes as far as possible
    test         the examples that are scored
    counts       of labels, ascending; a smaller count is a part of a larger one
    seeds        of the order, the batches and dropout: one training each
    before_each  as in `cross_validate`
    training     arguments of `train`: task, loss, solver …

    Before each training the weights are those that were given; afterwards, too.
    """
    learner = Learner(model_or_head)
    examples = learner.examples(data, classes=training.get("classes", ()), pad=training.get("pad"))
    wrong = [count for count in counts if not 1 <= count <= len(examples)]
    if wrong or not counts:
        raise DataError(f"counts has {wrong}, expected numbers of labels from 1 to {len(examples)}.")
    labels, points = examples.labels, list[tuple[Score, ...]]()
    with initial_weights(learner) as reset:
        for count in counts:
            point = []
            for seed in seeds:
                reset()
                if before_each is not None:
                    before_each(learner.model, seed)
                chosen = _order(labels, len(examples), seed)[:count]
                train(model_or_head, examples.subset(chosen), seed=seed, metrics=metrics, **_of_fold(training, chosen))
                point.append(evaluate(model_or_head, test, metrics=metrics, **_asked(training)))
            points.append(tuple(point))
    return LearningCurve(tuple(counts), tuple(points))


@contextmanager
def initial_weights(learner: Learner) -> Iterator[Callable[[], None]]:
    """A function that gives the model its present weights back; so does the end of the block."""
    before = learner.state()
    try:
        yield lambda: learner.restore(before)
    finally:
        learner.restore(before)


def spread_of(values: np.ndarray) -> Spread:
    """Mean and standard error of independent values."""
    error = float(values.std(ddof=1)) / sqrt(len(values)) if len(values) > 1 else nan
    return Spread(float(values.mean()), error, tuple(map(float, values)))


def _of_fold(training: dict[str, Any], indices: Tensor) -> dict[str, Any]:
    """The arguments of `train`, with the weights of these examples alone."""
    loss = training.get("loss")
    if not isinstance(loss, WeightedLoss) or loss.sample_weights is None:
        return training
    return {**training, "loss": replace(loss, sample_weights=torch.as_tensor(loss.sample_weights)[indices])}


def _asked(training: dict[str, Any]) -> dict[str, Any]:
    """The arguments that `evaluate` shares with `train`; task and loss are those of the training."""
    asked: dict[str, Any] = {name: training[name] for name in ("classes", "pad") if name in training}
    loss = Request(loss=training.get("loss")).plain_loss
    return {**asked, "loss": loss, "task": training.get("task")} if callable(loss) else asked


def _class_numbers(labels: Labels) -> np.ndarray | None:
    """One class per example as (count,) integers; None for any other labels."""
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point():
        return None
    return labels.cpu().numpy()


def _folds(
    labels: Labels, count: int, folds: int, repeat: int, groups: Any, splitter: Any
) -> Iterator[tuple[Tensor, Tensor]]:
    """(rest, left out) for each fold, int64."""
    classes, places = _class_numbers(labels), np.zeros((count, 1))
    if splitter is None:
        model_selection = _scikit_learn()
        if groups is not None:
            splitter = model_selection.GroupKFold(folds, shuffle=True, random_state=repeat)
        elif classes is not None:
            _refuse_rare(classes, folds)
            splitter = model_selection.StratifiedKFold(folds, shuffle=True, random_state=repeat)
        else:
            splitter = model_selection.KFold(folds, shuffle=True, random_state=repeat)
    try:
        for rest, left_out in splitter.split(places, classes, groups):
            yield torch.from_numpy(rest), torch.from_numpy(left_out)
    except ValueError as error:  # scikit-learn's own sentence
        raise DataError(f"The examples cannot be divided into folds: {error}") from error


def _refuse_rare(classes: np.ndarray, folds: int) -> None:
    numbers, counts = np.unique(classes, return_counts=True)
    rare = [f"class {number} has {count}" for number, count in zip(numbers, counts, strict=True) if count < folds]
    if rare:
        raise DataError(
            f"{folds} folds need {folds} examples of each class, and {', '.join(rare[:5])}. Use fewer folds, or pass "
            "splitter=sklearn.model_selection.KFold(…)."
        )


def _order(labels: Labels, count: int, seed: int) -> Tensor:
    """A random order of the examples; of one class per example, each beginning of it has the classes in proportion."""
    order = np.random.default_rng(seed).permutation(count)
    classes = _class_numbers(labels)
    if classes is None:
        return torch.from_numpy(order)
    shares = np.empty(count)  # of its class that stand before an example
    for number in np.unique(classes):
        members = np.flatnonzero(classes[order] == number)
        shares[members] = (np.arange(len(members)) + 0.5) / len(members)
    return torch.from_numpy(order[shares.argsort(kind="stable")])


def _scikit_learn() -> ModuleType:
    try:
        from sklearn import model_selection as library
    except ImportError as error:
        raise TrainError("Folds are made by scikit-learn: pip install scikit-learn") from error
    folds: ModuleType = library
    return folds
