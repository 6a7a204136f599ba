"""One way of training a head among several that share the same batches: its own weights, optimiser and record."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from regraft.errors import TrainError
from regraft.learning.batches import Batch
from regraft.learning.eager_step import EagerStep, Step
from regraft.learning.history import Candidate, History, Stage
from regraft.learning.learner import Learner, State, draws, set_draws, to_device
from regraft.learning.losses import LabelCheck, all_finite
from regraft.learning.scoring import Score

LOOK_EVERY = 200  # steps between looks at the losses: a look waits for the device


@final
@dataclass
class Trial:
    """What has happened so far, and the weights to go back to.

    lr, weight_decay  as they were asked for; None: the optimiser's own
    best_epoch        with the lowest validation loss, kept_epoch that of the kept weights; from 0, None for none yet
    values            where this trial's weights and moving buffers lie; None while it is the only one
    eager             its plain step with its optimiser; `step` is the one that runs
    failed            why it stopped early; "" while all is well
    """

    learner: Learner
    patience: int | None
    lr: float | None = None
    weight_decay: float | None = None
    values: State | None = None
    eager: EagerStep | None = None
    step: Step | None = None
    losses: list[float] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    best_epoch: int | None = None
    kept: State = field(default_factory=dict)
    kept_epoch: int | None = None
    failed: str = ""
    draws: list[Tensor] = field(default_factory=list)
    running: list[Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """This trial's weights are the model's, and its random draws go on where they stopped."""
        if self.values is None:
            yield
            return
        theirs, device = self.learner.tensors(), self.learner.device
        before = {name: theirs[name].data for name in self.values}
        for name, values in self.values.items():
            theirs[name].data = values
        if self.draws:
            set_draws(self.draws, device)
        try:
            yield
        finally:
            self.draws = draws(device)
            for name, values in before.items():
                theirs[name].data = values

    def run(self, batches: Iterable[Batch], check: LabelCheck | None, epoch: int) -> None:
        """Step through the batches. Raises TrainError at the first look that finds a loss that is no number."""
        assert self.step is not None, "a trial runs after its step is chosen"
        step, device, running, counts = self.step, self.learner.device, self.running, self.counts
        for indices, inputs, labels in batches:
            if check is not None:
                check.look(labels, indices)
            if device.type != "cpu":
                inputs, labels = to_device(inputs, device), labels.to(device, non_blocking=True)
            running.append(step(inputs, labels))
            counts.append(len(indices))
            if len(running) % LOOK_EVERY == 0:
                self._refuse_not_finite(epoch)

    def finish_epoch(self, epoch: int) -> None:
        """Note the mean loss over the epoch's examples; raises TrainError where loss or weights left the numbers."""
        self._refuse_not_finite(epoch)
        if not all_finite(list(self.learner.parameters)):
            raise _diverged(f"The weights are no longer numbers after the last step of epoch {epoch}, counted from 0")
        counts = torch.tensor(self.counts, dtype=torch.float64)
        self.losses.append(float((torch.stack(self.running).double().cpu() * counts).sum() / counts.sum()))
        self.running, self.counts = [], []

    @contextmanager
    def failing(self, *, alone: bool) -> Iterator[None]:
        """A loss that is no number is an error when the trial is alone, and the trial's end among several."""
        try:
            yield
        except TrainError as error:
            if alone:
                raise
            self.failed = str(error).partition(";")[0] + "."

    def begin(self, learner: Learner) -> None:
        """Go on with a learner that trains more than the one before, or start with the first one.

        What did not move until now is remembered, to go back to; the optimiser's state goes on.
        """
        assert self.eager is not None, "a trial has its optimiser when it begins"
        further = {name: values for name, values in learner.state().items() if name not in self.kept}
        self.kept |= further
        if self.values is not None:
            self.values |= {name: values.clone() for name, values in further.items()}
        self.learner = self.eager.learner = learner
        self.step = self.eager

    def keep(self) -> None:
        """Remember the weights as they are now in the model."""
        self.kept, self.kept_epoch = self.learner.state(), len(self.losses) - 1 if self.losses else None

    def note_epoch(self, judged: Score | None) -> None:
        """One epoch is finished and, with validation, judged."""
        if judged:
            best = math.inf if self.best_epoch is None else self.scores[self.best_epoch].loss
            self.scores.append(judged)
            if judged.loss < best:
                self.best_epoch = len(self.losses) - 1
        if self.patience is None or self.best_epoch == len(self.losses) - 1:
            self.keep()

    def rank(self) -> float:
        """The validation loss of the weights that are kept: the lower the better; infinite where there is none."""
        return self.scores[self.kept_epoch].loss if self.scores and self.kept_epoch is not None else math.inf

    def is_running(self) -> bool:
        """Whether it goes on: nothing failed, and the validation loss has fallen lately."""
        return not self.failed and not self._is_out_of_patience()

    def told(self) -> str:
        """Where it stands, for the progress bar."""
        judged = f", validation {self.scores[-1]}" if self.scores else ""
        return f"loss {self.losses[-1]:.4f}{judged}" if self.losses else ""

    def stopped_because(self) -> str:
        """A sentence."""
        if self.failed:
            return self.failed
        if self._is_out_of_patience():
            return f"no better validation loss for {self.patience} epochs; {self._back()}"
        return f"all {len(self.losses)} epochs were run{f'; {self._back()}' if self.patience else ''}"

    def candidate(self) -> Candidate:
        """What is told of one among several."""
        return Candidate(
            self.lr, self.weight_decay, tuple(self.losses), tuple(judged.loss for judged in self.scores),
            tuple(judged.accuracy for judged in self.scores), self.kept_epoch, self.stopped_because(),
        )  # fmt: skip

    def history(
        self, seconds: Sequence[float], candidates: Sequence[Candidate], stages: Sequence[Stage], notes: Sequence[str]
    ) -> History:
        """The record of the run whose weights stay."""
        return History(
            train_loss=tuple(self.losses),
            validation_loss=tuple(judged.loss for judged in self.scores),
            validation_accuracy=tuple(judged.accuracy for judged in self.scores),
            seconds=tuple(seconds[: len(self.losses)]),
            best_epoch=self.best_epoch,
            stopped_because=self.stopped_because(),
            lr=self.lr,
            weight_decay=self.weight_decay,
            candidates=tuple(candidates),
            stages=tuple(stages),
            notes=tuple(notes),
        )

    def _back(self) -> str:
        kept = "the first weights" if self.kept_epoch is None else f"epoch {self.kept_epoch}, counted from 0"
        return f"back to {kept}"

    def _is_out_of_patience(self) -> bool:
        best = -1 if self.best_epoch is None else self.best_epoch
        return self.patience is not None and len(self.losses) - 1 - best >= self.patience

    def _refuse_not_finite(self, epoch: int) -> None:
        """Raise TrainError for the first loss that is no number. Waits for the device, so not at each step."""
        bad = (~torch.isfinite(torch.stack(self.running))).nonzero()
        if len(bad):
            step = int(bad[0])
            raise _diverged(
                f"The loss is {float(self.running[step])} at step {step} of epoch {epoch}, both counted from 0"
            )


def _diverged(what: str) -> TrainError:
    """The error for arithmetic that left the numbers."""
    return TrainError(
        f"{what}; the weights are those of the last epoch that was kept.\n"
        "Lower the learning rate, limit the gradients (clip_value=1.0), or look for inputs that are not numbers."
    )
