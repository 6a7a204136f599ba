"""Functions that a training calls while it runs: at its beginning, after each epoch, at its end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from regraft.learning.history import History


@final
@dataclass(frozen=True)
class EpochEnd:
    """A finished epoch; of several candidates that of the best one so far.

    epoch        counted from 0
    epochs       of the whole training
    numbers      "train_loss", with validation "validation_loss" and each metric as "validation_NAME", and "lr"
    seconds      of the epoch, without its validation
    """

    epoch: int
    epochs: int
    numbers: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class Callback:
    """Override the events that you need. What a method raises ends the training; the kept weights stay in the model."""

    def train_begin(self, settings: Mapping[str, object]) -> None:
        """Before the first epoch, or before the epoch with which a resumed training goes on.

        settings  solver, task, loss and seed, as texts and numbers
        """

    def epoch_end(self, end: EpochEnd) -> None:
        """After each epoch and its validation; where checkpoints are kept, the epoch is among them."""

    def train_end(self, history: History) -> None:
        """After the last epoch; not after an error or an interrupt."""

    def close(self) -> None:
        """At the end in any case."""


GivenCallback = Callback | Callable[[EpochEnd], object]  # a function is called after each epoch


@final
class _Function(Callback):
    def __init__(self, function: Callable[[EpochEnd], object]) -> None:
        self.function = function

    def epoch_end(self, end: EpochEnd) -> None:
        self.function(end)


@final
class Callbacks(Callback):
    """Several, called in their order."""

    def __init__(self, given: Sequence[GivenCallback]) -> None:
        self.each = [one if isinstance(one, Callback) else _Function(one) for one in given]

    def train_begin(self, settings: Mapping[str, object]) -> None:
        """Each in turn."""
        for one in self.each:
            one.train_begin(settings)

    def epoch_end(self, end: EpochEnd) -> None:
        """Each in turn."""
        for one in self.each:
            one.epoch_end(end)

    def train_end(self, history: History) -> None:
        """Each in turn."""
        for one in self.each:
            one.train_end(history)

    def close(self) -> None:
        """Each in turn."""
        for one in self.each:
            one.close()
