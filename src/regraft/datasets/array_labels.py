"""Labels in arrays: what their type and shape say, and their values."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regraft.contracts.text import IGNORED
from regraft.datasets.labelled import Target, check_labels, refuse_unknown_classes
from regraft.errors import Advice, DataError
from regraft.foundation.wording import near_names
from regraft.tasks.kinds import TaskName

Names = tuple[str, ...] | None


def labels_from(path: Path, labels: np.ndarray, own: Names, target: Target) -> tuple[Tensor, Target]:
    """The labels of an array, and what they are.

    own     the classes that the file names, in the order of its labels
    target  with the task where it is known, and for further data with the training data's classes

    Raises DataError for labels that do not fit the task, and where they leave the task open.
    """
    task = target.task or _task_of(path, labels)
    if task not in MAKERS:
        raise DataError(f"{path}: the task {task} takes no array of labels. {near_names(task, MAKERS)}")
    return MAKERS[task](path, labels, own, replace(target, task=task))


def _task_of(path: Path, labels: np.ndarray) -> TaskName:
    """The task, where type and shape of the labels leave no doubt."""
    is_yes_no = labels.dtype.kind in "iubf" and bool(np.isin(labels, (0, 1)).all())
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        return "classification"
    if labels.ndim == 2 and labels.shape[1] > 1 and is_yes_no:
        return "multilabel"
    if labels.dtype.kind == "f" and labels.ndim in (1, 2) and not is_yes_no:
        return "regression"
    raise DataError(
        f"{_described(path, labels)}; expected integers of shape (n,), one class for each example, floats to predict, "
        "or rows of 0 and 1 where several labels may apply.",
        advice=[
            Advice("task", "token-classification", "take integers of shape (n, tokens) for a class at each token"),
            Advice("task", "segmentation", "take integers of shape (n, height, width) for a class at each pixel"),
            Advice("task", "regression", "predict them as numbers"),
        ],
    )


def _classes(path: Path, labels: np.ndarray, own: Names, target: Target) -> tuple[Tensor, Target]:
    """Class numbers of examples or of each of their positions; -100 is a position without a class."""
    per_example = target.task == "classification"
    if labels.dtype.kind not in "iu" or per_example != (labels.ndim == 1):
        positions = "one for each example" if per_example else "one for each position"
        raise DataError(f"{_described(path, labels)}; {target.task} needs integers, {positions}.")
    known, values = target.classes, torch.from_numpy(labels.astype(np.int64))
    names = own or (known if known is not None else _numbered(_count(labels)))
    present = values if per_example else values[values != IGNORED]
    check_labels(present, len(names), where=str(path), several=known is None)
    if known is not None:
        values = _of_known_classes(path, values, own, known)
    return values, replace(target, classes=tuple(known if known is not None else names))


def _of_known_classes(path: Path, labels: Tensor, own: Names, known: Sequence[str]) -> Tensor:
    """The labels as numbers of the training data's classes. Raises DataError when these are not known by number."""
    if own is not None:
        refuse_unknown_classes(own, known, prefix=f"{path}: ")
        numbers = torch.tensor([*(known.index(name) for name in own), IGNORED])
        return numbers[torch.where(labels == IGNORED, len(own), labels)]
    if tuple(known) != _numbered(len(known)):
        raise DataError(
            f"{path}: the labels are numbers, and the training data's classes have names: {', '.join(known[:5])}.\n"
            "Add an array `classes` with the name of each label."
        )
    return labels


def _yes_no(path: Path, labels: np.ndarray, own: Names, target: Target) -> tuple[Tensor, Target]:
    """Rows of 0 and 1."""
    if labels.ndim != 2 or not np.isin(labels, (0, 1)).all():
        raise DataError(f"{_described(path, labels)}; several labels for an example are rows of 0 and 1.")
    names = tuple(own or target.classes or _numbered(labels.shape[1]))
    if len(names) != labels.shape[1] or (target.classes and names != target.classes):
        raise DataError(
            f"{path} has {labels.shape[1]} columns of labels, {', '.join(names)}; expected "
            f"{', '.join(target.classes or names)}."
        )
    return torch.from_numpy(labels.astype(np.float32)), replace(target, classes=names)


def _numbers(path: Path, labels: np.ndarray, own: Names, target: Target) -> tuple[Tensor, Target]:
    """Numbers to predict."""
    if labels.ndim not in (1, 2) or labels.dtype.kind not in "iuf" or not np.isfinite(labels).all():
        raise DataError(f"{_described(path, labels)}; regression needs finite numbers, one or a row for each example.")
    return torch.from_numpy(labels.astype(np.float32)), replace(target, classes=())


MAKERS: dict[str, Callable[[Path, np.ndarray, Names, Target], tuple[Tensor, Target]]] = {
    "classification": _classes,
    "token-classification": _classes,
    "segmentation": _classes,
    "multilabel": _yes_no,
    "regression": _numbers,
}


def _described(path: Path, labels: np.ndarray) -> str:
    return f"{path}: labels are {labels.dtype} of shape {labels.shape}"


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(str(label) for label in range(count))


def _count(labels: np.ndarray) -> int:
    return int(labels.max()) + 1 if labels.size else 0
