"""Tasks by name."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Literal

from regraft.errors import TrainError
from regraft.foundation.wording import listed, near_names
from regraft.tasks.classes import Classes
from regraft.tasks.multilabel import Multilabel
from regraft.tasks.regression import Regression
from regraft.tasks.several import Several
from regraft.tasks.task import Task

TASKS: dict[str, Classes | Multilabel | Regression] = {
    "classification": Classes(),
    "multilabel": Multilabel(),
    "regression": Regression(),
    "token-classification": Classes("token-classification", class_axis=-1),
    "segmentation": Classes("segmentation", metrics=("accuracy", "mean_iou"), enlarges=True),
    "language-model": Classes("language-model", class_axis=-1, shift=1, metrics=("accuracy", "perplexity")),
    "masked-language-model": Classes("masked-language-model", class_axis=-1, metrics=("accuracy", "perplexity")),
}
TaskName = Literal[
    "classification", "multilabel", "regression", "token-classification", "segmentation", "language-model",
    "masked-language-model",
]  # fmt: skip
AnyTask = Task | Several
GivenTask = TaskName | AnyTask | Mapping[str, TaskName | Task] | None


def as_task(task: str | AnyTask | Mapping[str, str | Task], **settings: object) -> AnyTask:
    """The task of this name, or as it is; a dictionary gives a task for each part of the outputs.

    task      "classification", "multilabel", "regression", "token-classification", "segmentation", "language-model"
              (the labels are the token ids: each position learns the next one), "masked-language-model"
    settings  of the task: `ignore=255`, the label of positions that have none; `class_axis=-1`, where the classes are

    Raises TrainError for an unknown name or setting.

    >>> as_task("segmentation", ignore=255).ignore
    255
    """
    if isinstance(task, Mapping):
        return Several({name: _single(part, settings) for name, part in task.items()})
    if isinstance(task, Several):
        return task
    return _single(task, settings)


def _single(task: str | Task, settings: Mapping[str, Any]) -> Task:
    if isinstance(task, str) and task not in TASKS:
        raise TrainError(f"There is no task {task!r}. {near_names(task, TASKS)}")
    made = TASKS[task] if isinstance(task, str) else task
    if not settings:
        return made
    if not isinstance(made, Classes | Multilabel | Regression):
        raise TrainError(f"A {type(made).__name__} takes no settings here: construct it with them.")
    known = [field.name for field in fields(made)]
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise TrainError(f"The task {made.name} has no setting {listed(unknown)}. {near_names(unknown[0], known)}")
    return replace(made, **settings)
