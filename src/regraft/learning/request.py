"""What the caller asks to be minimised and measured, and the objective that it becomes on the first examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from regraft.errors import Advice, DataError, TrainError
from regraft.labels import IGNORED
from regraft.learning.losses import (
    KnownLoss,
    Loss,
    LossFunction,
    OneLoss,
    balanced_weights,
    known_loss,
    refuse_unknown_losses,
)
from regraft.learning.metrics import GivenMetrics, refuse_unknown_metrics
from regraft.learning.objective import LossPart, Objective, watched_of
from regraft.tasks.classes import Classes
from regraft.tasks.inference import infer_task
from regraft.tasks.kinds import AnyTask, GivenTask, as_task
from regraft.tasks.several import Several, label_parts
from regraft.tasks.task import Task

ClassWeights = str | Sequence[float] | Tensor | None


@final
@dataclass(frozen=True)
class WeightedLoss:
    """A loss in which classes or examples do not count alike: `train(…, loss=WeightedLoss(class_weights="balanced"))`.

    loss             as `train` takes it; None: that of the task
    class_weights    "balanced", or one number for each class, for cross-entropy by name
    label_smoothing  as torch's cross-entropy takes it, for cross-entropy by name
    sample_weights   (count,) a weight for each training example, for losses of torch
    """

    loss: Loss = None
    class_weights: ClassWeights = None
    label_smoothing: float = 0.0
    sample_weights: Any = None


GivenLoss = Loss | WeightedLoss


@final
@dataclass(frozen=True)
class Request:
    """What `train` and `evaluate` are asked for.

    task     a name, a value, or a dictionary for several outputs; None: inferred
    loss     a name, a function, a dictionary for several outputs, or a `WeightedLoss`; None: that of the task
    metrics  names and torchmetrics objects; None: those of the task

    Raises TrainError for unknown names.
    """

    task: GivenTask = None
    loss: GivenLoss = None
    metrics: GivenMetrics = None

    def __post_init__(self) -> None:
        refuse_unknown_losses(self.plain_loss)
        if self.task is not None:
            as_task(self.task)

    @property
    def weights(self) -> WeightedLoss:
        """The loss with its weights."""
        return self.loss if isinstance(self.loss, WeightedLoss) else WeightedLoss(self.loss)

    @property
    def plain_loss(self) -> Loss:
        """The loss without its weights."""
        return self.weights.loss

    def objective(
        self, outputs: object, labels: object, *, every: object = None, model: nn.Module | None = None
    ) -> Objective:
        """The objective for outputs and labels like these.

        every  the labels of all examples, where they are at hand

        Raises DataError where the task is not certain, TrainError for settings that the loss does not have.
        """
        task, reason = self._task(outputs, labels, every, model)
        parts = self._parts(task, outputs, every)
        if task is not None:
            refuse_unknown_metrics(task, self.metrics)
        note = task.note(outputs, labels) if isinstance(task, Task) and isinstance(labels, Tensor) else ""
        made = Objective(task, parts, reason, watched_of(self.plain_loss), note)
        if made.is_own:
            self._refuse_settings("a function of your own")
        for part in parts:
            _refuse_other_loss(part, labels if part.key is None else label_parts(labels)[part.key])
        return made

    def _task(
        self, outputs: object, labels: object, every: object, model: nn.Module | None
    ) -> tuple[AnyTask | None, str]:
        if self.task is not None:
            return _ignoring(as_task(self.task), self.plain_loss), ""
        known = _known_name(self.plain_loss)
        if known is None:
            return _quietly(outputs, labels, every, model)
        task, reason = infer_task(outputs, labels, every=every, loss=known, model=model)
        return _ignoring(task, self.plain_loss), reason

    def _parts(self, task: AnyTask | None, outputs: object, every: object) -> tuple[LossPart, ...]:
        if isinstance(self.plain_loss, Mapping) and not isinstance(task, Several):
            raise TrainError(
                f"The loss is a dictionary of {', '.join(self.plain_loss)}, and the labels are one tensor."
            )
        if isinstance(task, Several):
            return self._parts_of(task)
        if task is None:
            assert callable(self.plain_loss), "other losses have a task"
            return (LossPart(self.plain_loss),)
        loss = self.plain_loss
        assert not isinstance(loss, Mapping), "refused above"
        return (LossPart(self._with_settings(_loss_of(loss, task), loss, task.size(outputs), every), task),)

    def _parts_of(self, task: Several) -> tuple[LossPart, ...]:
        """The losses of several outputs: one function of the user for all, or one loss for each."""
        loss = self.plain_loss
        if callable(loss) and known_loss(loss) is None:
            return (LossPart(loss),)
        self._refuse_settings("several tasks")
        losses = loss if isinstance(loss, Mapping) else dict.fromkeys(task.tasks, loss)
        unknown = [name for name in losses if name not in task.tasks]
        if unknown:
            raise TrainError(f"There are losses for {', '.join(unknown)}, and the tasks are {', '.join(task.tasks)}.")
        return tuple(
            LossPart(_loss_of(losses.get(name), part), part, name, task.weights.get(name, 1.0))
            for name, part in task.tasks.items()
        )

    def _with_settings(
        self, made: KnownLoss | LossFunction, given: OneLoss | None, classes: int, every: object
    ) -> KnownLoss | LossFunction:
        """The loss with class weights and label smoothing, where they are passed."""
        if self.weights.class_weights is None and not self.weights.label_smoothing:
            return made
        if not isinstance(given, str | None) or not isinstance(made, KnownLoss) or made.name != "cross_entropy":
            raise TrainError(
                "class_weights and label_smoothing are settings of cross-entropy by name. Pass them to the "
                "nn.CrossEntropyLoss that you construct, or use them in your own function.",
                advice=[Advice("loss", "cross_entropy", "use them in cross-entropy")],
            )
        assert isinstance(made.module, nn.CrossEntropyLoss), "cross-entropy by name"
        made.module.label_smoothing = self.weights.label_smoothing
        made.module.weight = _class_weights(self.weights.class_weights, classes, every)
        return made

    def _refuse_settings(self, what: str) -> None:
        given = {
            "class_weights": self.weights.class_weights is not None,
            "label_smoothing": bool(self.weights.label_smoothing),
            "sample_weights": self.weights.sample_weights is not None,
        }
        names = [name for name, is_given in given.items() if is_given]
        if names:
            raise TrainError(
                f"{', '.join(names)} cannot be used with {what}: use them in the loss, with weights among the labels."
            )


@final
@dataclass(frozen=True)
class Trained:
    """How `train` has trained a model last.

    task       None where only a loss of the user knows
    loss_name  of the loss
    known      the loss by which it is scored where no other is passed: torch's own, never a function of the user
    classes    the names of the classes, where labels were given as texts
    """

    task: AnyTask | None
    loss_name: str
    known: Loss
    classes: tuple[str, ...] = ()


_TRAINED = "_regraft_trained"  # an attribute of the module: its copies and pickles keep it


def remember(model: nn.Module, objective: Objective, classes: Sequence[str]) -> None:
    """Note on the model by which task and loss it was trained: `save` records it."""
    known: Loss = None
    if not objective.is_own:
        losses = {part.key or "": part.loss.module for part in objective.parts if isinstance(part.loss, KnownLoss)}
        known = losses.get("", losses)
    model.__dict__[_TRAINED] = Trained(objective.task, objective.name, known, tuple(classes))


def remembered(model: nn.Module) -> Trained | None:
    """How `train` has trained this module last; None when it has not."""
    trained = model.__dict__.get(_TRAINED)
    return trained if isinstance(trained, Trained) else None


def _known_name(loss: Loss) -> str | None:
    """The name of a known loss, "" for no loss or several; None for a function of the user."""
    if loss is None or isinstance(loss, Mapping):
        return ""
    known = known_loss(loss)
    return None if known is None else known.name


def _quietly(outputs: object, labels: object, every: object, model: nn.Module | None) -> tuple[AnyTask | None, str]:
    """The task behind a loss of the user where its labels are class numbers: the largest output is the answer.

    Any other task is left open: nobody knows what such a loss makes of the outputs.
    """
    try:
        task, reason = infer_task(outputs, labels, every=every, model=model)
        is_class = isinstance(task, Classes) and isinstance(labels, Tensor) and not labels.is_floating_point()
        if is_class and isinstance(task, Classes):
            task.check(outputs, labels)
    except (DataError, TrainError):
        return None, ""
    return (task, reason) if is_class else (None, "")


def _ignoring(task: AnyTask, loss: Loss) -> AnyTask:
    """The task that leaves out the labels that the loss leaves out."""
    if not isinstance(task, Classes) or loss is None or isinstance(loss, Mapping):
        return task
    known = known_loss(loss)
    mark = None if known is None else known.ignore_index
    return task if mark is None or mark in (IGNORED, task.ignore) else as_task(task, ignore=mark)


def _loss_of(loss: OneLoss | None, task: Task) -> KnownLoss | LossFunction:
    """The loss of a task: its own where none is passed, and by name with the label that the task ignores."""
    if loss is not None and not isinstance(loss, str):
        return known_loss(loss) or loss
    made = known_loss(loss or task.loss)
    assert made is not None, "a name is known"
    if isinstance(task, Classes) and isinstance(made.module, nn.CrossEntropyLoss) and task.ignore is not None:
        made.module.ignore_index = int(task.ignore)
    return made


def _refuse_other_loss(part: LossPart, labels: object) -> None:
    """Raise TrainError for a loss of torch by which the task of a part cannot be learned from such labels."""
    if not isinstance(part.loss, KnownLoss) or part.task is None:
        return
    is_by_class = isinstance(part.task, Classes) and isinstance(labels, Tensor) and not labels.is_floating_point()
    wants_classes = part.loss.name == "cross_entropy"
    if is_by_class != wants_classes and (is_by_class or not isinstance(part.task, Classes)):
        where = "" if part.key is None else f" of {part.key}"
        raise TrainError(
            f"The loss{where} is {part.loss.name}, and the task is {part.task.name}, which is learned by "
            f"{part.task.loss}.",
            advice=[Advice("loss", part.task.loss, "use the loss of the task")] if part.key is None else [],
        )


def _class_weights(weights: ClassWeights, classes: int, every: object) -> Tensor | None:
    """The weight of each class (classes,) float32. Raises TrainError for another number of them."""
    if weights is None:
        return None
    if isinstance(weights, str):
        if weights != "balanced":
            raise TrainError(f'class_weights is {weights!r}, expected "balanced" or one number for each class.')
        if not isinstance(every, Tensor):
            raise DataError(
                'class_weights="balanced" counts all labels, and this data set gives them one by one with its inputs. '
                "Pass the weights as numbers, or a data set whose labels are known: features, or the pair (inputs, "
                "labels)."
            )
        return balanced_weights(every, classes)
    values = torch.as_tensor(weights, dtype=torch.float32)
    if values.shape != (classes,) or not bool((values >= 0).all()):
        raise TrainError(f"class_weights has the shape {tuple(values.shape)}, expected {classes} numbers of 0 or more.")
    return values
