"""The contract of a task: what outputs and labels mean, and which loss, check and metrics belong to them."""

from abc import ABC, abstractmethod

from torch import Tensor

from regraft.tasks.outputs import logits_of


class LabelCheck(ABC):
    """Refuses labels that a task cannot learn from."""

    @abstractmethod
    def look(self, labels: object, indices: Tensor | None = None) -> None:
        """Raise DataError when a label cannot be used; it names the first such example.

        labels   of some examples
        indices  (batch,) their indices in the data set; None: they are the whole data set in its own order
        """

    def merge(self, other: "LabelCheck") -> None:  # noqa: B027  # most checks remember nothing
        """Take what another process has seen of the same data set."""

    def finish(self) -> None:  # noqa: B027  # most checks have nothing to say at the end
        """Raise DataError when all labels seen teach nothing."""


class Task(ABC):
    """What the outputs of a model mean. All tasks are frozen values: equal settings, equal tasks.

    name     "classification", "multilabel", "regression" …
    loss     the name of the loss that trains it where no other is passed
    metrics  the names of those that are computed where no others are passed
    ignore   the label of a position that has none: neither the loss nor a metric sees it. None: every position has one
    """

    name: str
    loss: str
    metrics: tuple[str, ...]
    ignore: float | None

    @abstractmethod
    def check(self, outputs: object, labels: object) -> LabelCheck:
        """The check for labels like these. Raises DataError when their type or shape does not fit the outputs."""

    @abstractmethod
    def aligned(self, outputs: object, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and labels in the form that torch's losses take: (batch, classes, …) and (batch, …), for instance."""

    @abstractmethod
    def counted(self, labels: Tensor) -> Tensor:
        """The labels that the loss looks at: those that `aligned` gives, but for dimensions of size 1."""

    @abstractmethod
    def spread(self, weights: Tensor, labels: Tensor) -> Tensor:
        """The weight of its example for each loss of a label, in a line, in the order of `aligned`.

        weights  (batch,) of the examples
        """

    def fitted(self, outputs: object, labels: object) -> Tensor:
        """The outputs at the positions of the labels: enlarged, where a task allows coarser outputs."""
        return logits_of(outputs)

    def note(self, outputs: object, labels: object) -> str:
        """What `fitted` changes, in a few words; "" for nothing."""
        return ""

    @abstractmethod
    def pairs(self, outputs: object, labels: Tensor) -> tuple[Tensor, Tensor] | None:
        """The outputs and the labels of all positions that have one, one row each: what a metric compares.

        Logits (count, classes) and class numbers (count,), or numbers of one shape. None where the labels give no such
        pairs.
        """

    @abstractmethod
    def activate(self, rows: Tensor) -> Tensor:
        """Rows of outputs, as `pairs` gives them, as a reader takes them: probabilities, or the numbers themselves."""

    @abstractmethod
    def probabilities(self, outputs: object) -> Tensor:
        """The outputs as a reader takes them: softmax along the class axis, sigmoid, or the numbers themselves."""

    @abstractmethod
    def size(self, outputs: object) -> int:
        """How many classes, labels or numbers the outputs have for each position."""


def example_of(row: int, indices: Tensor | None) -> int:
    """The number of the example in this row of a batch."""
    return row if indices is None else int(indices[row])


def first_row(wrong: Tensor) -> int:
    """The first row of a (batch, …) mask with something wrong in it."""
    return int(wrong.reshape(len(wrong), -1).any(1).nonzero()[0, 0])
