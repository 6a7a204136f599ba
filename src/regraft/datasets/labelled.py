"""The contract of a data set from disk: examples with labels, class names and stable ids."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor
from torch.utils.data import Dataset

from regraft.contracts.preparation import Preparation
from regraft.errors import DataError
from regraft.foundation.wording import counted, near_names
from regraft.labels import class_names
from regraft.tasks.kinds import GivenTask, TaskName

TargetTask = TaskName | Literal["several"]


@dataclass(frozen=True)
class Target:
    """What the labels of examples are.

    task         the name of the task; None leaves it to the data, where these are certain. "several": one for each part
    classes      names of the classes, or of the labels of which several may apply, in the order of the model's outputs;
                 () for numbers; None leaves them to the data
    columns      of a table; () takes the column that has one of the known names
    separator    between the labels of a cell, where several may apply
    mask_values  the value of a mask's pixels for each class; () for the numbers of the classes themselves
    parts        of several tasks: what each column is. The model has an output of each column's name
    """

    task: TargetTask | None = None
    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    separator: str | None = None
    mask_values: tuple[int, ...] = ()
    parts: tuple["Target", ...] = ()

    @property
    def given_task(self) -> GivenTask:
        """The task as `train` takes it: a name, or the names by column."""
        if not self.parts:
            assert self.task != "several", "it has parts"
            return self.task
        return {part.columns[0]: part.given_task for part in self.parts}  # type: ignore[misc]  # a part has one task


UNDECIDED = Target()


class Labelled(Dataset[Any], ABC):
    """A torch data set of (input, label) pairs that knows its labels' meaning before any example is decoded.

    labels       of all examples, (count, …); None where they are read or have a length of their own
    classes      the names of the classes; label i is classes[i]. () for numbers
    target       what the labels are, as further data of the same task are opened
    preparation  how the inputs are made
    ids          a stable name for each example (a path, a row), by which the feature cache knows it again
    notes        what was skipped or assumed, in sentences, for the report
    are_images   whether the inputs are images that the input contract prepared
    """

    labels: Tensor | None
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    target: Target = Target("classification")
    preparation: Preparation = Preparation()
    notes: tuple[str, ...] = ()
    are_images: bool = False

    def __len__(self) -> int:
        return len(self.ids if self.labels is None else self.labels)

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The input and the label of one example."""

    def content_ids(self, indices: Sequence[int] | None = None) -> list[str] | None:
        """A text for each example (all, or those at `indices`) that changes whenever its input does.

        Known without decoding, so that a filled cache is used without it. None where only the input itself can tell.
        """
        return None

    def label_of(self, index: int) -> Any:
        """The label of one example, without its input where that can be left unread."""
        return self[index][1]

    def class_numbers(self) -> Tensor | None:
        """(count,) int64, one class for each example; None for labels of any other kind."""
        return self.labels if self.target.task == "classification" else None

    def _resemble(self, other: "Labelled") -> None:
        """Take over all that does not depend on which examples there are."""
        self.classes, self.target, self.preparation = other.classes, other.target, other.preparation
        self.notes, self.are_images = other.notes, other.are_images


@final
class Chosen(Labelled):
    """Some examples of another data set, in the given order."""

    def __init__(self, whole: Labelled, indices: Tensor) -> None:
        self._resemble(whole)
        self.whole, self.indices = whole, indices.tolist()
        self.labels = None if whole.labels is None else whole.labels[indices]
        self.ids = tuple(whole.ids[index] for index in self.indices)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.whole[self.indices[index]]

    def label_of(self, index: int) -> Any:
        """That in the other data set."""
        return self.whole.label_of(self.indices[index])

    def content_ids(self, indices: Sequence[int] | None = None) -> list[str] | None:
        """Those of the other data set."""
        return self.whole.content_ids(self.indices if indices is None else [self.indices[index] for index in indices])


def refuse_unknown_classes(names: Iterable[str], known: Sequence[str], *, prefix: str) -> None:
    """Raise DataError that lists each name that is not a class of the training data.

    prefix  what stands before each name in the message: the folder or the table
    """
    unknown = [name for name in class_names(names) if name not in known]
    if unknown:
        lines = [f"{prefix}{name} is not a class of the training data. {near_names(name, known)}" for name in unknown]
        raise DataError("\n".join(lines))


def stratified_split(labels: Tensor, fraction: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (rest, part) where `part` holds `fraction` of each class, at least one example of each.

    labels  (count,) int64

    Raises DataError when a class has too few examples to be in both parts.
    Deterministic in `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    rest, part = [], []
    for label in torch.unique(labels).tolist():
        members = (labels == label).nonzero().flatten()
        if len(members) < 2:
            raise DataError(
                f"Class {label} has {len(members)} example: it cannot be in training and validation both.\n"
                "Add examples, or use other data for validation: data.validation = 'folder/'."
            )
        members = members[torch.randperm(len(members), generator=generator)]
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        part.append(members[:count])
        rest.append(members[count:])
    return torch.cat(rest).sort().values, torch.cat(part).sort().values


def random_split(count: int, fraction: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (rest, part) of `count` examples where `part` holds this fraction of them, at least one.

    Raises DataError when there are too few examples for both parts. Deterministic in `seed`.
    """
    if count < 2:
        raise DataError(f"There is {count} example: it cannot be in training and validation both.")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    part, rest = order.split([(size := min(max(1, round(fraction * count)), count - 1)), count - size])
    return rest.sort().values, part.sort().values


def pick_per_class(labels: Tensor, count: int, *, seed: int) -> Tensor:
    """Indices of `count` random examples of each class, in the data set's order.

    Raises DataError that names each class with fewer. Deterministic in `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen, short = [], []
    for label in torch.unique(labels).tolist():
        members = (labels == label).nonzero().flatten()
        if len(members) < count:
            short.append(f"class {label} has {len(members)}")
        chosen.append(members[torch.randperm(len(members), generator=generator)][:count])
    if short:
        raise DataError(f"{count} examples of each class were asked for, but " + ", ".join(short) + ".")
    return torch.cat(chosen).sort().values


def check_labels(labels: Sequence[int] | Tensor, classes: int, *, where: str, several: bool = True) -> None:
    """Raise DataError when there is no label, one is not in 0 … classes - 1, or, with `several`, all are the same."""
    values = torch.as_tensor(labels)
    if len(values) == 0:
        raise DataError(f"{where} holds no examples.")
    wrong = ((values < 0) | (values >= classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{where}: {counted(len(wrong), 'label', 'is/are')} beyond the classes, the first is {int(values[first])} "
            f"at example {first}; expected 0 to {classes - 1}."
        )
    if several and len(torch.unique(values)) < 2:
        raise DataError(
            f"{where}: all {len(values)} examples are of one class ({int(values[0])}). Expected two classes or more."
        )
