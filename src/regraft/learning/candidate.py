"""One of several candidates in training: its settings, what it has reached, and its own weights."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import final

import torch
from torch import Tensor

from regraft.errors import TrainError
from regraft.examples import Batch
from regraft.learning.averaging import AveragedWeights, statistics_of_batches
from regraft.learning.eager_step import EagerStep, TrainingStep, lower_precision
from regraft.learning.history import Candidate
from regraft.learning.learner import Learner, State, to_device
from regraft.learning.losses import WeightedLabels, all_finite, unweighted
from regraft.learning.optimizers import LearningRate
from regraft.learning.ranks import Ranks
from regraft.learning.rates import Rates
from regraft.learning.scoring import Score
from regraft.tasks.task import LabelCheck
from regraft.tensors.keeping import GeneratorStates, generator_states

CHECK_EVERY = 200  # steps between checks of the losses: a check waits for the device


@final
@dataclass(frozen=True)
class Monitor:
    """By which number of the validation the best epoch is chosen.

    name              "loss", or the name of a metric
    higher_is_better  of it
    """

    name: str = "loss"
    higher_is_better: bool = False

    def badness(self, score: Score) -> float:
        """The number, turned so that less is better; infinite where it is not a number."""
        value = score.value(self.name)
        value = -value if self.higher_is_better else value
        return math.inf if math.isnan(value) else value


@final
@dataclass(frozen=True)
class CandidateSettings:
    """What tells a candidate from the others, and when it stops.

    lr, weight_decay  None: the optimizer's own
    patience          epochs without a better validation after which it stops; None runs all epochs
    monitor           what "better" means
    accumulate        batches for each update
    """

    lr: LearningRate = None
    weight_decay: float | None = None
    patience: int | None = None
    monitor: Monitor = Monitor()
    accumulate: int = 1


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
    monitor: Monitor = Monitor()

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the best validation, from 0; None as long as every one is NaN or infinite."""
        values = list(map(self.monitor.badness, self.scores))
        lowest = min(values, default=math.inf)
        return values.index(lowest) if lowest < math.inf else None

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
    def badness(self) -> float:
        """What is monitored of the weights that stay, less is better; infinite where there is none."""
        kept = self.kept_epoch
        return self.monitor.badness(self.scores[kept]) if self.scores and kept is not None else math.inf

    @property
    def stopped_because(self) -> str:
        """A sentence."""
        back = f"back to epoch {self.kept_epoch}, counted from 0"
        if self.failure:
            return self.failure
        if self._is_out_of_patience:
            return f"no better validation {self.monitor.name} for {self.patience} epochs; {back}"
        text = f"all {len(self.losses)} epochs were run"
        if self.patience is None:
            return text
        name = self.monitor.name
        no_number = f"no validation {name} was a finite number, so patience had no effect and the last weights stay"
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
    rates, average  where the learning rate changes, and where the weights are averaged
    """

    def __init__(self, settings: CandidateSettings, eager: EagerStep) -> None:
        self.settings, self.eager = settings, eager
        self.step: TrainingStep = eager
        self.progress = Progress(settings.patience, monitor=settings.monitor)
        self.rates: Rates | None = None
        self.average: AveragedWeights | None = None
        self.kept: State = {}
        self.own: OwnState | None = None
        self._losses: list[Tensor] = []  # of the present epoch
        self._weights: list[Tensor | int] = []  # what each of them counts

    @property
    def learner(self) -> Learner:
        """What is trained now."""
        return self.eager.learner

    @property
    def ranks(self) -> Ranks:
        """The processes that train it."""
        return self.eager.ranks

    @property
    def adds_gradients(self) -> bool:
        """Whether several batches, or the parts of a batch that other ranks have, make one update."""
        return self.settings.accumulate > 1 or self.ranks.are_several

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
        if self.average is not None:
            self.average.add(learner.parameters)

    def train_on(self, batches: Iterable[Batch], check: LabelCheck | None, epoch: int) -> None:
        """Step through the batches. Raises TrainError at the first check that finds a loss that is not finite."""
        step, losses, weights = self.step, self._losses, self._weights
        for indices, inputs, labels in self._prepared(batches, check):
            losses.append(step(inputs, labels))
            weights.append(self._weight(indices, labels))
            self._after_update()
            if len(losses) % CHECK_EVERY == 0:
                self._refuse_not_finite(epoch)

    def train_on_groups(self, batches: Iterable[Batch], check: LabelCheck | None, epoch: int) -> None:
        """As `train_on`, with one update for each `accumulate` batches of all ranks."""
        prepared = self._prepared(batches, check)
        while group := list(islice(prepared, self.settings.accumulate)):
            loss, weight = self.eager.accumulate(
                [(inputs, labels) for indices, inputs, labels in group if len(indices)]
            )
            self._losses.append(loss)
            self._weights.append(weight)
            self._after_update()
        self._refuse_not_finite(epoch)

    def _prepared(self, batches: Iterable[Batch], check: LabelCheck | None) -> Iterator[Batch]:
        """The batches on the model's device, their labels looked at."""
        device = self.learner.device
        for indices, inputs, labels in batches:
            if check is not None and len(indices):
                check.look(unweighted(labels), indices)
            if device.type == "cpu":
                yield indices, inputs, labels
            else:
                yield indices, to_device(inputs, device), to_device(labels, device)

    def _weight(self, indices: Tensor, labels: object) -> Tensor | int:
        """What the loss of a batch counts among those of the epoch."""
        objective = self.eager.objective
        counts_examples = objective.counts_examples and not isinstance(labels, WeightedLabels)
        return len(indices) if counts_examples else objective.weight(labels)

    def _after_update(self) -> None:
        if self.average is not None:
            self.average.after_update()
        if self.rates is not None:
            self.rates.after_update()

    def refuse_diverged(self, epoch: int) -> None:
        """Raise TrainError where a loss of the epoch, or a weight after it, is not finite, or not that of all ranks."""
        self._refuse_not_finite(epoch)
        if not all_finite(list(self.learner.parameters)):
            raise _diverged(f"The weights are not finite after the last step of epoch {epoch}, counted from 0")
        if self.ranks.are_several:
            frozen = self.learner.frozen_tensors()
            self.ranks.align({name: t for name, t in self.learner.tensors().items() if name not in frozen})

    def finish_epoch(self, score: Score | None) -> None:
        """Record the epoch's mean loss and its validation score; remember the model's weights if they are to stay."""
        weights = torch.stack([torch.as_tensor(weight).double().cpu() for weight in self._weights])
        total = (torch.stack(self._losses).double().cpu() * weights).sum()
        self._losses, self._weights = [], []
        self.progress.losses.append(float(total if self.eager.objective.is_sum else total / weights.sum()))
        if score is not None:
            self.progress.scores.append(score)
        if self.progress.kept_epoch == len(self.progress.losses) - 1:
            self.kept = self.learner.state()
        if self.rates is not None:
            self.rates.after_epoch(None if score is None else self.settings.monitor.badness(score))

    @contextmanager
    def scored_weights(self, epoch: int, batches: Iterable[Batch]) -> Iterator[None]:
        """The model has the weights that are scored and kept: their average, where there is one.

        batches  of the epoch, on which the statistics of BatchNorm are those of the average
        """
        average = self.average
        if average is not None:
            average.after_epoch(epoch)
        if average is None or not average.is_apart(epoch):
            yield
            return
        precision, inputs = self.eager.precision, (inputs for _, inputs, _ in batches)
        with average.in_model(), ExitStack() as stack:
            with lower_precision(precision, self.learner.device):
                stack.enter_context(statistics_of_batches(self.learner, inputs))
            yield

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
            validation_metrics=metrics_by_name(progress.scores),
            kept_epoch=progress.kept_epoch,
            stopped_because=progress.stopped_because,
        )

    def _refuse_not_finite(self, epoch: int) -> None:
        """Raise TrainError for the first loss that is not finite. Waits for the device, so not at each step."""
        bad = (~torch.isfinite(torch.stack(self._losses))).nonzero()
        if len(bad):
            step = int(bad[0])
            if not float(self._weights[step]):
                raise TrainError(
                    f"Step {step} of epoch {epoch}, both counted from 0, has no label: all positions of its examples "
                    "are ignored, or weigh 0, so that its mean loss is 0 / 0.\nLeave such examples out, or take larger "
                    "batches; accumulate=2 adds up the labels of two batches."
                )
            loss = float(self._losses[step])
            raise _diverged(f"The loss is {loss} at step {step} of epoch {epoch}, both counted from 0")


def best_of(runs: Sequence[CandidateRun]) -> CandidateRun:
    """The one whose weights have the best validation."""
    return min(runs, key=lambda run: run.progress.badness)


def metrics_by_name(scores: Sequence[Score]) -> dict[str, tuple[float, ...]]:
    """Name → the metric's value after each epoch."""
    names = dict.fromkeys(name for score in scores for name in score.metrics)
    return {name: tuple(score.metrics[name] for score in scores) for name in names}


def _diverged(what: str) -> TrainError:
    """The error for a loss or for weights that are not finite."""
    return TrainError(
        f"{what}; the weights are those of the last epoch that was kept.\n"
        "Lower the learning rate, clip the gradients (clip_value=1.0), or check the inputs for NaN and infinite values."
    )
