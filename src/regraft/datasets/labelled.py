"""The contract of a data set from disk: examples with labels, class names and stable ids."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import Dataset

from regraft.errors import DataError


class Labelled(Dataset, ABC):
    """A torch data set of (input, label) pairs that knows its classes before any example is decoded.

    labels   (count,) int64
    classes  the classes' names; label i is classes[i]
    ids      a stable name for each example (a path, a row), by which the feature cache knows it again
    notes    what was skipped or assumed, in sentences, for the report
    """

    labels: Tensor
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Any, int]:
        """The input and the label of one example."""


@final
class Chosen(Labelled):
    """Some examples of another data set, in the given order."""

    def __init__(self, whole: Labelled, indices: Tensor) -> None:
        self.whole, self.indices = whole, indices.tolist()
        self.labels = whole.labels[indices]
        self.classes, self.notes = whole.classes, whole.notes
        self.ids = tuple(whole.ids[index] for index in self.indices)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.whole[self.indices[index]]


def stratified_split(labels: Tensor, fraction: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (rest, part) where `part` holds `fraction` of each class, at least one example of each.

    labels  (count,) int64

    Raises DataError when a class has too few examples to be in both parts.
    Deterministic in `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    rest, part = [], []
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        if len(members) < 2:
            raise DataError(
                f"Class {label} has {len(members)} example: it cannot be in training and validation both.\n"
                "Add examples, or give validation data of its own: data.validation = 'folder/'."
            )
        members = members[torch.randperm(len(members), generator=generator)]
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        part.append(members[:count])
        rest.append(members[count:])
    return torch.cat(rest).sort().values, torch.cat(part).sort().values


def pick_per_class(labels: Tensor, count: int, *, seed: int) -> Tensor:
    """Indices of `count` random examples of each class, in the data set's order.

    Raises DataError that names each class with fewer. Deterministic in `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen, short = [], []
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        if len(members) < count:
            short.append(f"class {label} has {len(members)}")
        chosen.append(members[torch.randperm(len(members), generator=generator)][:count])
    if short:
        raise DataError(f"{count} examples of each class were asked for, but " + ", ".join(short) + ".")
    return torch.cat(chosen).sort().values


def check_labels(labels: Sequence[int] | Tensor, classes: int, *, where: str) -> None:
    """Raise DataError when a label is not in 0 … classes - 1, or only one class occurs."""
    values = torch.as_tensor(labels)
    wrong = ((values < 0) | (values >= classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{where}: {len(wrong)} labels are beyond the classes, the first is {int(values[first])} at example "
            f"{first}; expected 0 to {classes - 1}."
        )
    if len(values.unique()) < 2:
        raise DataError(
            f"{where}: all {len(values)} examples are of one class ({int(values[0])}); there is nothing to tell apart."
        )
