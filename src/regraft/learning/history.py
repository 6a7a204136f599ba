"""What training did: plain frozen data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from regraft.errors import TrainError
from regraft.foundation.showing import html_table
from regraft.foundation.wording import counted
from regraft.learning.optimizers import LearningRate


@dataclass(frozen=True)
class Candidate:
    """One of several ways of training that were compared by their validation loss.

    lr               None: the optimizer's own, or an exact solution, which has none
    weight_decay     None: the optimizer's own
    train_loss       as in `History`
    validation_loss  as in `History`, and so the others that begin with "validation"
    kept_epoch       whose weights it ended with, counted from 0; None where no epoch was finished
    stopped_because  a sentence; a candidate whose loss left the numbers says so here and is no error
    """

    lr: LearningRate
    weight_decay: float | None
    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...] = ()
    validation_accuracy: tuple[float | None, ...] = ()
    validation_metrics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    kept_epoch: int | None = None
    stopped_because: str = ""


@dataclass(frozen=True)
class Stage:
    """What trains from an epoch on, and on which features.

    epoch              its first epoch, counted from 0 as in the schedule
    layers             the patterns that the schedule gives: what trains in addition from here on
    parameters         how many values train
    leaves             what crosses at its cut; empty without cached features
    bytes_per_example  of what crosses
    bytes, seconds     of the features that were computed for this stage alone; 0 where it takes the given ones
    note               why no such features were kept, where they could have been; else ""
    """

    epoch: int
    layers: tuple[str, ...]
    parameters: int
    leaves: tuple[str, ...] = ()
    bytes_per_example: int = 0
    bytes: int = 0
    seconds: float = 0.0
    note: str = ""

    def __str__(self) -> str:
        own = f"{self.bytes:,} bytes of features, computed in {self.seconds:.1f} s" if self.bytes else self.note
        cut = f" from {', '.join(self.leaves)} ({self.bytes_per_example:,} bytes per example)" if self.leaves else ""
        text = f"epoch {self.epoch}: {' | '.join(self.layers)} trains, {self.parameters:,} values in all{cut}"
        return f"{text}; {own}" if own else text


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C in a training that has finished an epoch.

    history  of the finished epochs, whose weights the model has
    """

    def __init__(self, text: str, history: "History") -> None:
        super().__init__(text)
        self.history = history


@dataclass(frozen=True, repr=False)
class History:
    """What training did, one entry per epoch that was run; of several candidates, that of the best one.

    train_loss           over the epoch's examples, as `validation_loss` is over its own: a batch counts by what its
                         mean is divided by. Each batch is measured before its step. A loss of your own, and several
                         tasks with weights or positions without labels, count by examples
    validation_loss      after the epoch; empty without validation examples
    validation_accuracy  after the epoch; None where the labels are no class numbers
    validation_metrics   name → value after each epoch
    monitor              by which the best epoch is chosen: "loss", or the name of a metric
    task                 the name of the task; "" where only a loss of the user knows
    seconds              of the epoch, without its validation; of all candidates together
    best_epoch           the epoch with the best validation, counted from 0; None without validation
    stopped_because      a sentence
    solver               "steps" (gradient descent) or "lbfgs" (the exact optimum: one entry for the whole solution)
    lr, weight_decay     of the weights that stayed; None: the optimizer's own
    candidates           all that were compared, where there were several
    stages               what trained from which epoch on, where there was a schedule
    notes                sentences: which training step ran and why, which solver was chosen and why
    """

    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...] = ()
    validation_accuracy: tuple[float | None, ...] = ()
    validation_metrics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    monitor: str = "loss"
    task: str = ""
    seconds: tuple[float, ...] = ()
    best_epoch: int | None = None
    stopped_because: str = ""
    solver: str = "steps"
    lr: LearningRate = None
    weight_decay: float | None = None
    candidates: tuple[Candidate, ...] = ()
    stages: tuple[Stage, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def epochs(self) -> int:
        """Epochs that were run."""
        return len(self.train_loss)

    def __repr__(self) -> str:
        best = f"; best epoch {self.best_epoch}" if self.best_epoch is not None else ""
        last = f", last training loss {self.train_loss[-1]:.4g}" if self.train_loss else ""
        return f"<History of {counted(self.epochs, 'epoch')}{last}{best}; {self.stopped_because or 'not ended'}>"

    def _repr_html_(self) -> str:
        columns = {"training loss": self.train_loss, "validation loss": self.validation_loss}
        columns |= {"validation accuracy": tuple(value for value in self.validation_accuracy if value is not None)}
        named = {name: values for name, values in columns.items() if values}
        rows = [
            (epoch, *(f"{values[epoch]:.4g}" if epoch < len(values) else "" for values in named.values()))
            for epoch in range(self.epochs)
        ]
        return html_table(repr(self)[1:-1], ("epoch", *named), rows)

    def plot(self, axes: Any = None) -> Any:
        """Draw the losses over the epochs with matplotlib, and the validation accuracy below them.

        axes  two of matplotlib's Axes, or one for the losses alone; by default a new figure
        returns  the axes that were drawn into

        Raises TrainError when matplotlib is not installed.
        """
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise TrainError("history.plot() draws with matplotlib: pip install matplotlib") from error
        accuracies = [value for value in self.validation_accuracy if value is not None]
        if axes is None:
            _, axes = pyplot.subplots(2 if accuracies else 1, sharex=True, squeeze=False)
            axes = [row[0] for row in axes]
        drawn = list(axes) if isinstance(axes, Iterable) else [axes]
        _draw(drawn[0], "loss", {"training": self.train_loss, "validation": self.validation_loss})
        drawn[0].legend()
        if len(drawn) > 1 and accuracies:
            _draw(drawn[1], "accuracy", {"validation": accuracies})
        for each in drawn if self.best_epoch is not None else ():
            each.axvline(self.best_epoch, linestyle=":", color="gray")
        drawn[-1].set_xlabel("epoch")
        return drawn

    def to_dict(self) -> dict[str, object]:
        """The same as plain data for JSON."""
        return asdict(self) | {"epochs": self.epochs}


def _draw(axes: Any, label: str, curves: Mapping[str, Sequence[float]]) -> None:
    for name, values in curves.items():
        if values:
            axes.plot(range(len(values)), values, label=name)
    axes.set_ylabel(label)
