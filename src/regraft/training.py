"""Train a head on its features, or a whole model on a data set: the same loop, the same batches."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from regraft.errors import TrainError
from regraft.examples import Examples, as_examples, gather_ahead
from regraft.learners import HeadLike, Learner, State, modes_kept, resident, to_device
from regraft.losses import LabelCheck, Loss, LossFunction, all_finite, as_loss, class_count, whole_labels
from regraft.optimizers import Optimizer, make_optimizer
from regraft.progress import progress_bar
from regraft.scoring import Score, score
from regraft.stepping import EagerStep, lower_precision

Order = Callable[[int], Sequence[Tensor | np.ndarray]]

LOOK_EVERY = 200  # steps between looks at the losses: a look waits for the device


@dataclass(frozen=True)
class History:
    """What training did, one entry per epoch that was run.

    train_loss           mean loss over the epoch's examples, each measured before its step
    validation_loss      after the epoch; empty without validation examples
    validation_accuracy  after the epoch; None where the labels are no class numbers
    seconds              of the epoch, without its validation
    best_epoch           the epoch with the lowest validation loss, counted from 1; None without validation
    stopped_because      a sentence
    """

    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...] = ()
    validation_accuracy: tuple[float | None, ...] = ()
    seconds: tuple[float, ...] = ()
    best_epoch: int | None = None
    stopped_because: str = ""

    @property
    def epochs(self) -> int:
        """Epochs that were run."""
        return len(self.train_loss)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        return asdict(self) | {"epochs": self.epochs}


def train(
    head: nn.Module | HeadLike,
    features: Any,
    *,
    validation: Any = None,
    loss: Loss = "cross_entropy",
    optimizer: Optimizer = "adamw",
    lr: float | None = None,
    weight_decay: float | None = None,
    epochs: int = 20,
    batch_size: int = 32,
    patience: int | None = None,
    clip_value: float | None = None,
    clip_norm: float | None = None,
    precision: str = "float32",
    order: Order | None = None,
    seed: int = 0,
) -> History:
    """Train the head on its features, in place; a whole model on a plain data set goes the same way.

    features      what `cache_features` gave, for a head; for a model anything with (input, label) pairs
    validation    examples of the same kind, scored after each epoch
    loss          "cross_entropy", "mean_squared_error", or a function (outputs, labels) → mean of the batch
    optimizer     "sgd" (plain), "adam", "adamw", a function of the parameters, or a torch optimiser
    lr            None: 0.01 for "sgd", 0.001 for the others
    weight_decay  None: the optimiser's own default
    patience      stop after so many epochs without a better validation loss, and go back to the best epoch's weights
    clip_value    limit each gradient to ± this; clip_norm: limit the length of all gradients together
    precision     "float32", or "bfloat16" for the arithmetic of forward and backward (weights stay float32)
    order         epoch (from 0) → its batches, each an array of indices; None shuffles by `seed` and `batch_size`
    seed          of the batches and of dropout

    The same seed gives the same batches and draws, so a head on features and its whole model on their data set end in
    the same weights, and so do two runs: always on the CPU, on a GPU where its operators are deterministic. Where the
    data set itself draws at random, it decides.

    Raises before anything changes: TrainError for options that make no sense or a head without trainable parameters,
    DataError for empty data, labels beyond the classes, or one class only. Whatever ends training early — a loss that
    is not a number (TrainError names epoch and step), Ctrl-C — leaves the weights of the last finished epoch, with
    `patience` of the best one. Raises TrainError when a frozen tensor has moved.
    """
    _check_options(
        epochs=epochs, batch_size=batch_size, patience=patience, lr=lr,
        clip_value=clip_value, clip_norm=clip_norm, validation=validation,
    )  # fmt: skip
    learner = Learner(head)
    if not learner.parameters:
        raise TrainError("There is nothing to train: all parameters are frozen. Leave the new layers out of freeze().")
    examples = resident(as_examples(features), learner.device)
    held_out = None if validation is None else resident(as_examples(validation), learner.device)
    loss_function = as_loss(loss)
    order = order or shuffled(len(examples), batch_size, seed)
    moved_by = make_optimizer(optimizer, learner.parameters, lr=lr, weight_decay=weight_decay)
    step = EagerStep(
        learner, loss_function, moved_by, clip_value=clip_value, clip_norm=clip_norm, precision=precision
    )  # fmt: skip
    run = _Run(learner, patience)
    with modes_kept(learner.model), _random_state_kept(learner.device):
        check = _try_out(learner, examples, loss_function, precision)
        frozen = learner.frozen_digests()
        torch.manual_seed(seed)
        with _back_on_failure(run), progress_bar("training", epochs) as advance:
            for epoch in range(epochs):
                began = time.perf_counter()
                batches = _as_batches(order(epoch), len(examples))
                mean_loss = _run_epoch(step, examples, batches, check, epoch)
                seconds, check = time.perf_counter() - began, None
                judged = score(learner, held_out, loss_function, batch_size=batch_size) if held_out else None
                run.note(mean_loss, judged, seconds)
                advance(note=f"loss {mean_loss:.4f}" + (f", validation {judged}" if judged else ""))
                if run.is_out_of_patience():
                    break
        learner.restore(run.kept)
    _refuse_moved(frozen, learner.frozen_digests())
    return run.history(epochs)


def shuffled(count: int, batch_size: int, seed: int) -> Order:
    """Epoch → all examples in a new random order, as batches; any epoch's order can be had by itself.

    The last batch is smaller where the count asks for it. A single last example joins the batch before it: BatchNorm
    cannot normalise one example.
    """

    def order(epoch: int) -> Sequence[Tensor]:
        permutation = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(count))
        batches = list(permutation.split(batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1 and batch_size > 1:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    return order


@final
@dataclass
class _Run:
    """What has happened so far, and the weights to go back to."""

    learner: Learner
    patience: int | None
    losses: list[float] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    kept: State = field(default_factory=dict)
    kept_epoch: int = 0

    def keep(self) -> None:
        """Remember the weights as they are now."""
        self.kept, self.kept_epoch = self.learner.state(), len(self.losses)

    def note(self, loss: float, judged: Score | None, seconds: float) -> None:
        """One epoch is finished."""
        self.losses.append(loss)
        self.seconds.append(seconds)
        if judged:
            self.scores.append(judged)
            best = self.scores[self.best_epoch - 1].loss if self.best_epoch else float("inf")
            if judged.loss < best:
                self.best_epoch = len(self.losses)
        if self.patience is None or self.best_epoch == len(self.losses):
            self.keep()

    def is_out_of_patience(self) -> bool:
        """Whether the validation loss has not fallen for too long."""
        return self.patience is not None and len(self.losses) - (self.best_epoch or 0) >= self.patience

    def history(self, epochs: int) -> History:
        """The record of a run that ended by itself."""
        if self.is_out_of_patience():
            reason = f"no better validation loss for {self.patience} epochs; back to epoch {self.kept_epoch}"
        else:
            reason = f"all {epochs} epochs were run" + (f"; back to epoch {self.kept_epoch}" if self.patience else "")
        return History(
            train_loss=tuple(self.losses),
            validation_loss=tuple(judged.loss for judged in self.scores),
            validation_accuracy=tuple(judged.accuracy for judged in self.scores),
            seconds=tuple(self.seconds),
            best_epoch=self.best_epoch,
            stopped_because=reason,
        )


@contextmanager
def _back_on_failure(run: _Run) -> Iterator[None]:
    """Whatever ends the block early leaves the weights that the run kept last."""
    run.keep()
    try:
        yield
    except BaseException:
        run.learner.restore(run.kept)
        raise


def _run_epoch(
    step: EagerStep, examples: Examples, batches: Sequence[Tensor], check: LabelCheck | None, epoch: int
) -> float:
    """Mean loss over the examples of one pass; raises TrainError at the first step whose loss is no number."""
    step.learner.model.train()
    device = step.learner.device
    losses: list[Tensor] = []
    for indices, inputs, labels in gather_ahead(examples, batches):
        if check is not None:
            check.look(labels, indices)
        losses.append(step(to_device(inputs, device), labels.to(device, non_blocking=True)))
        if len(losses) % LOOK_EVERY == 0:
            _refuse_not_finite(losses, epoch)
    if check is not None:
        check.finish()
    _refuse_not_finite(losses, epoch)
    if not all_finite(list(step.learner.parameters)):
        raise _diverged(f"The weights are no longer numbers after the last step of epoch {epoch + 1}")
    counts = torch.tensor([len(batch) for batch in batches], dtype=torch.float64)
    return float((torch.stack(losses).double().cpu() * counts).sum() / counts.sum())


def _refuse_not_finite(losses: list[Tensor], epoch: int) -> None:
    """Raise TrainError for the first loss that is no number. Waits for the device, so not at each step."""
    bad = (~torch.isfinite(torch.stack(losses))).nonzero()
    if len(bad):
        step = int(bad[0])
        raise _diverged(f"The loss is {float(losses[step])} at step {step + 1} of epoch {epoch + 1}")


def _diverged(what: str) -> TrainError:
    """The error for arithmetic that left the numbers."""
    return TrainError(
        f"{what}; the weights are those of the last epoch that was kept.\n"
        "Lower the learning rate, limit the gradients (clip_value=1.0), or look for inputs that are not numbers."
    )


def _try_out(learner: Learner, examples: Examples, loss: LossFunction, precision: str) -> LabelCheck | None:
    """Run two examples forward, before anything changes, so that what cannot work is told now.

    Returns the check that the first epoch's labels must pass, or None where all labels were at hand and passed.
    """
    indices = torch.arange(min(2, len(examples)))
    inputs, labels = examples.gather(indices)
    labels = labels.to(learner.device)
    learner.model.eval()
    with torch.no_grad(), lower_precision(precision, learner.device):
        outputs = learner.outputs(to_device(inputs, learner.device))
        classes = class_count(outputs, labels)
        check = LabelCheck(classes) if classes else None
        known = whole_labels(examples)
        if check is not None:
            check.look(labels, indices)
            if known is not None:
                check.look(known)
                check.finish()
        value = loss(outputs, labels)
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise TrainError(f"The loss gives {shape}, expected one number for the batch: take its mean.")
    return check if known is None else None


def _as_batches(order: Sequence[Tensor | np.ndarray], count: int) -> list[Tensor]:
    """An epoch's batches as int64 tensors. Raises TrainError for none, an empty one, or an index that is no example."""
    batches = [torch.as_tensor(batch, dtype=torch.int64) for batch in order]
    if not batches or not all(len(batch) for batch in batches):
        raise TrainError("The order has no batch, or one without examples: each epoch needs arrays of indices.")
    every = torch.cat(batches)
    if int(every.min()) < 0 or int(every.max()) >= count:
        raise TrainError(
            f"The order names example {int(every.max() if int(every.min()) >= 0 else every.min())}; "
            f"there are {count}: 0 to {count - 1}."
        )
    return batches


def _check_options(**options: Any) -> None:
    """Raise one TrainError that tells every option that makes no sense."""
    problems = [
        f"{name} is {options[name]}, expected at least 1"
        for name in ("epochs", "batch_size", "patience")
        if options[name] is not None and options[name] < 1
    ]
    problems += [
        f"{name} is {options[name]}, expected a number above 0"
        for name in ("lr", "clip_value", "clip_norm")
        if options[name] is not None and not options[name] > 0
    ]
    if options["patience"] is not None and options["validation"] is None:
        problems.append("patience waits for a better validation loss: give validation examples")
    if problems:
        raise TrainError("Training cannot start: " + "; ".join(problems) + ".")


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    """The caller's random draws go on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _refuse_moved(before: dict[str, str], after: dict[str, str]) -> None:
    """Raise TrainError when a frozen tensor is not what it was."""
    moved = [name for name, digest in before.items() if after.get(name) != digest]
    if moved:
        raise TrainError(
            f"{len(moved)} frozen tensors changed while training: {', '.join(moved[:10])}.\n"
            "A frozen BatchNorm in train mode moves its statistics. Freeze with regraft.freeze, which keeps frozen "
            "layers in eval mode, not with requires_grad alone."
        )
