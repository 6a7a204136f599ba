"""The contract of another library's data: (input, label) pairs whose labels and ids are known before they are read."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

from torch import Tensor
from torch.utils.data import Dataset

from regraft.labels import Labels, subset_of
from regraft.tensors.trees import Inputs

Pair = tuple[Inputs, object]  # the input of an example, and its label as the other library has it


class Source(Dataset[Pair], ABC):
    """A torch data set of (input, label) pairs over the data of another library.

    labels   of all examples as columns, where they are known without reading an input; else None
    classes  the names of the classes; label i is classes[i]. () for numbers
    """

    labels: Labels | None = None
    classes: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> list[Pair]:
        """The (input, label) pairs at these indices."""

    def __getitem__(self, index: int) -> Pair:
        return self.__getitems__([index])[0]

    def content_ids(self, indices: Sequence[int] | None = None) -> list[str] | None:
        """A text for each example (all, or those at `indices`) that changes whenever its input does.

        Known without reading an input. None where only the input itself can tell.
        """
        return None

    def subset(self, indices: Tensor) -> "Source":
        """The examples at `indices` (count,) int64, in this order."""
        return _Picked(self, indices)


@final
class _Picked(Source):
    """Some examples of another source."""

    def __init__(self, whole: Source, indices: Tensor) -> None:
        self.whole, self.indices, self.classes = whole, indices.tolist(), whole.classes
        self.labels = None if whole.labels is None else subset_of(whole.labels, indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, indices: Sequence[int]) -> list[Pair]:
        return self.whole.__getitems__([self.indices[index] for index in indices])

    def content_ids(self, indices: Sequence[int] | None = None) -> list[str] | None:
        """Those of the other source."""
        return self.whole.content_ids(self.indices if indices is None else [self.indices[index] for index in indices])


def range_of(count: int, indices: Sequence[int] | None) -> Sequence[int]:
    """The indices, or all of them."""
    return range(count) if indices is None else indices
