"""One of several candidates in training: its settings, what it has reached, and its own weights."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from regraft.errors import TrainError
from regraft.examples import Batch
from regraft.learning.eager_step import EagerStep, TrainingStep
from regraft.learning.history import Candidate
from regraft.learning.labels import LabelCheck
from regraft.learning.learner import Learner, State, to_device
from regraft.learning.losses import all_finite
from regraft.learning.scoring import Score
from regraft.tensors.keeping import GeneratorStates, generator_states

CHECK_EVERY = 200  # steps between checks of the losses: a check waits for the device


@final
@dataclass(frozen=True)
class Settings:
    """What tells a candidate from the others, and when it stops.

    lr, weight_decay  None: the optimizer's own
    patience          epochs without a lower validation loss after which it stops; None runs all epochs
    """

    lr: float | None = None
    weight_decay: float | None = None
    patience: int | None = None


@final
@dataclass
class Progress:
    """The losses and scores of the finished epochs, and why training stopped early.

    failure  a sentence; "" as long as all losses are numbers
    """

    patience: int | None
    losses: list[float] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    failure: str = ""

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the lowest validation loss, from 0; None as long as every one is NaN or infinite."""
        losses = [_or_infinite(score.loss) for score in self.scores]
        lowest = min(losses, default=math.inf)
        return losses.index(lowest) if lowest < math.inf else None

    @property
    def kept_epoch(self) -> int | None:
        """The epoch whose weights stay, from 0; None before the first.

        With patience it is the best one, but for validation losses that cannot tell which that is. Else it is the last.
        """
        if self.patience is not None and self.best_epoch is not None:
            return self.best_epoch
        return len(self.losses) - 1 if self.losses else None

    @property
    def is_running(self) -> bool:
        """Whether another epoch follows: nothing failed, and the patience has not run out."""
        return not self.failure and not self._is_out_of_patience

    @property
    def validation_loss(self) -> float:
        """That of the weights that stay; infinite where there is none."""
        kept = self.kept_epoch
        return _or_infinite(self.scores[kept].loss) if self.scores and kept is not None else math.inf

    @property
    def stopped_because(self) -> str:
        """A sentence."""
        back = f"back to epoch {self.kept_epoch}, counted from 0"
        if self.failure:
            return self.failure
        if self._is_out_of_patience:
            return f"no better validation loss for {self.patience} epochs; {back}"
        text = f"all {len(self.losses)} epochs were run"
        if self.patience is None:
            return text
        no_number = "no validation loss was a finite number, so patience had no effect and the last weights stay"
        return f"{text}; {back if self.best_epoch is not None else no_number}"

    @property
    def _is_out_of_patience(self) -> bool:
        best = self.best_epoch
        return self.patience is not None and best is not None and len(self.losses) - 1 - best >= self.patience

    def __str__(self) -> str:
        validation = f", validation {self.scores[-1]}" if self.scores else ""
        return f"loss {self.losses[-1]:.4f}{validation}" if self.losses else ""


@final
class OwnState:
    """The weights, buffers and random numbers of one of several candidates, in the model for its turn alone."""

    def __init__(self) -> None:
        self.values: State = {}
        self.generators: GeneratorStates = generator_states()

    def add(self, state: State) -> None:
        """Take these tensors, too: they train from now on."""
        self.values |= {name: values.clone() for name, values in state.items()}

    @contextmanager
    def in_model(self, learner: Learner) -> Iterator[None]:
        """The model has this state in the block, and its former state afterwards."""
        tensors, generators = learner.tensors(), generator_states()
        before = {name: tensors[name].data for name in self.values}
        for name, values in self.values.items():
            tensors[name].data = values
        self.generators.restore()
        try:
            yield
        finally:
            self.generators = generator_states()
            generators.restore()
            for name, values in before.items():
                tensors[name].data = values


@final
class CandidateRun:
    """A candidate in training.

    step  the step that runs; the eager one until a faster one is proven equal
    kept  the weights to return to: those of `progress.kept_epoch`
    own   its weights between its turns; None where it is the only candidate
    """

    def __init__(self, settings: Settings, eager: EagerStep) -> None:
        self.settings, self.eager = settings, eager
        self.step: TrainingStep = eager
        self.progress = Progress(settings.patience)
        self.kept: State = {}
        self.own: OwnState | None = None
        self._losses: list[Tensor] = []  # of the present epoch
        self._counts: list[int] = []

    @property
    def learner(self) -> Learner:
        """What is trained now."""
        return self.eager.learner

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """The model has this candidate's weights, and its random numbers continue where they stopped."""
        if self.own is None:
            yield
        else:
            with self.own.in_model(self.learner):
                yield

    def begin(self, learner: Learner) -> None:
        """Start, or continue with a learner that trains more than the one before; the optimizer's state continues.

        The tensors that begin to train are remembered as they are, to return to.
        """
        added = {name: values for name, values in learner.state().items() if name not in self.kept}
        self.kept |= added
        if self.own is not None:
            self.own.add(added)
        self.eager.learner = learner
        self.step = self.eager

    def train_on(self, batches: Iterable[Batch], check: LabelCheck | None, epoch: int) -> None:
        """Step through the batches. Raises TrainError at the first check that finds a loss that is not finite."""
        step, device, losses, counts = self.step, self.learner.device, self._losses, self._counts
        for indices, inputs, labels in batches:
            if check is not None:
                check.look(labels, indices)
            if device.type != "cpu":
                inputs, labels = to_device(inputs, device), labels.to(device, non_blocking=True)
            losses.append(step(inputs, labels))
            counts.append(len(indices))
            if len(losses) % CHECK_EVERY == 0:
                self._refuse_not_finite(epoch)

    def refuse_diverged(self, epoch: int) -> None:
        """Raise TrainError where a loss of the epoch, or a weight after it, is not finite."""
        self._refuse_not_finite(epoch)
        if not all_finite(list(self.learner.parameters)):
            raise _diverged(f"The weights are not finite after the last step of epoch {epoch}, counted from 0")

    def finish_epoch(self, score: Score | None) -> None:
        """Record the epoch's mean loss and its validation score; remember its weights if they are to stay."""
        counts = torch.tensor(self._counts, dtype=torch.float64)
        mean = (torch.stack(self._losses).double().cpu() * counts).sum() / counts.sum()
        self._losses, self._counts = [], []
        self.progress.losses.append(float(mean))
        if score is not None:
            self.progress.scores.append(score)
        if self.progress.kept_epoch == len(self.progress.losses) - 1:
            self.kept = self.learner.state()

    @contextmanager
    def failing(self, *, alone: bool) -> Iterator[None]:
        """A diverging loss is an error for a single candidate, and the end of one among several."""
        try:
            yield
        except TrainError as error:
            if alone:
                raise
            self.progress.failure = error.text.partition(";")[0] + "."

    def summary(self) -> Candidate:
        """The record of one candidate among several."""
        progress = self.progress
        return Candidate(
            lr=self.settings.lr,
            weight_decay=self.settings.weight_decay,
            train_loss=tuple(progress.losses),
            validation_loss=tuple(score.loss for score in progress.scores),
            validation_accuracy=tuple(score.accuracy for score in progress.scores),
            kept_epoch=progress.kept_epoch,
            stopped_because=progress.stopped_because,
        )

    def _refuse_not_finite(self, epoch: int) -> None:
        """Raise TrainError for the first loss that is not finite. Waits for the device, so not at each step."""
        bad = (~torch.isfinite(torch.stack(self._losses))).nonzero()
        if len(bad):
            step = int(bad[0])
            loss = float(self._losses[step])
            raise _diverged(f"The loss is {loss} at step {step} of epoch {epoch}, both counted from 0")


def best_of(runs: Sequence[CandidateRun]) -> CandidateRun:
    """The one whose weights have the lowest validation loss."""
    return min(runs, key=lambda run: run.progress.validation_loss)


def _or_infinite(loss: float) -> float:
    """The loss, and infinity for one that is not a number."""
    return math.inf if math.isnan(loss) else loss


def _diverged(what: str) -> TrainError:
    """The error for a loss or for weights that are not finite."""
    return TrainError(
        f"{what}; the weights are those of the last epoch that was kept.\n"
        "Lower the learning rate, clip the gradients (clip_value=1.0), or check the inputs for NaN and infinite values."
    )
