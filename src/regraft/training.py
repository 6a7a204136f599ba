"""Train a head on its features, or a whole model on a data set: the same loop, the same batches."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice, product
from typing import Any

import torch
from torch import Tensor, nn

from regraft.errors import Advice, TrainError
from regraft.examples import Examples, TensorExamples
from regraft.foundation.progress import progress_bar
from regraft.learning.batches import Batch, Epoch, Source
from regraft.learning.candidate import Trial
from regraft.learning.eager_step import EagerStep, lower_precision
from regraft.learning.history import Candidate, History, Stage
from regraft.learning.learner import HeadLike, Learner, draws, modes_kept, to_device
from regraft.learning.linear_heads import linear_layer, solve_head
from regraft.learning.losses import LabelCheck, Loss, LossFunction, as_loss, class_count, whole_labels
from regraft.learning.old_keywords import solvers_from
from regraft.learning.optimizers import make_optimizer
from regraft.learning.schedules import Schedule
from regraft.learning.scoring import score
from regraft.learning.solvers import Exact, Solver, Steps, as_list, as_solvers, has_several
from regraft.learning.stages import Stages, schedule_problems
from regraft.learning.traced_step import quicken

__all__ = ["Candidate", "History", "Stage", "train"]

BAR_S = 0.25  # between moves of the progress bar
TOGETHER = 16  # batches that wait in memory while several trials take them one after the other


def train(
    model_or_head: nn.Module | HeadLike,
    data: Any,
    *,
    validation: Any = None,
    loss: Loss = "cross_entropy",
    solver: Solver | Sequence[Solver] | None = None,
    seed: int = 0,
    **old: Any,
) -> History:
    """Train a head on its features, or a whole model on a data set, in place.

    data        what `cache_features` returned, for a head; for a model anything with (input, label) pairs
    validation  examples of the same kind, scored after each epoch
    loss        "cross_entropy", "mean_squared_error", or a function (outputs, labels) → mean of the batch
    solver      `regraft.Steps(…)` for gradient steps, `regraft.Exact(…)` for the optimum of a linear head. None chooses
                `Exact()` for a head that is one linear layer on features in memory under cross-entropy, and `Steps()`
                for any other. Of a list the first that can train the head. `history.notes` names the choice and why
    seed        of the batches and of dropout
    old         `epochs=`, `lr=` and the other arguments of `Steps` and `Exact` by themselves: deprecated

    The same seed gives the same batches and random numbers, so two runs end in equal weights: on the CPU with as many
    threads (another number sums in another order), on a GPU where its operators are deterministic. So do a head on
    features and its whole model on their data set, where the frozen layers give a row the same bits in every batch:
    some round it by its index in the batch (`trunk.cut.row_rounding`) or by the batch's size (a smaller last batch).
    With batches of the same composition as those of `cache_features` (see `order`) the weights are always equal. A data
    set that draws at random decides for itself. Features larger than memory are read in an order of their own.

    Raises before anything changes: TrainError for options that make no sense, a schedule that cannot be followed or a
    head without trainable parameters, DataError for empty data, labels beyond the classes, or one class only. Whatever
    ends training early — a loss that is not a number (TrainError names epoch and step), Ctrl-C — leaves the weights of
    the last finished epoch, with `patience` of the best one. Raises TrainError when a frozen tensor has changed.
    """
    old_form = bool(old) or isinstance(solver, str)
    solvers = solvers_from(solver, old) if old_form else as_solvers(solver)
    steps = next((given for given in solvers if isinstance(given, Steps)), Steps())
    learner = Learner(model_or_head)
    for examples in (data, validation):
        learner.refuse_features(examples)
    _check_options(model_or_head, solvers, steps.schedule, has_validation=validation is not None)
    loss_function = as_loss(loss)
    source = partial(Source, order=steps.order, batch_size=steps.batch_size, seed=seed)
    stages = Stages(model_or_head, data, validation, steps.schedule, epochs=steps.epochs, source=source)

    with modes_kept(learner.model), stages:
        parameters = stages.open_all()
        if not parameters:
            raise TrainError(
                "There is nothing to train: all parameters are frozen. Leave the new layers out of freeze()."
            )
        # A schedule's optimizers are made while all is open that will ever train. Without one they can wait: torch's
        # first optimizer of a process imports its compiler, two seconds that an exact solution has no use for.
        trials = _trials(stages.learner, parameters, steps, loss_function) if steps.schedule is not None else []
        with _random_state_kept(stages.learner.device):
            stages.prove()
            stages.enter(0)
            check = _try_out(stages.learner, stages.source.examples, loss_function, steps.precision)
            chosen, layer, note = _choose(solvers, stages.learner, stages.source.examples, loss_function)
            torch.manual_seed(seed)
            if isinstance(chosen, Exact) and layer is not None and isinstance(stages.source.examples, TensorExamples):
                history = solve_head(
                    stages.learner, layer, stages.source.examples, stages.held_out, loss_function,
                    as_list(chosen.weight_decay), batch_size=steps.batch_size, notes=[note],
                )  # fmt: skip
            else:
                trials = trials or _trials(stages.learner, parameters, steps, loss_function)
                owner = isinstance(steps.optimizer, str | None) if steps.traced else None
                history = _descend(trials, stages, loss_function, check, owner, [note])
        stages.check_frozen()
    return history


def _choose(
    solvers: Sequence[Solver], learner: Learner, examples: Examples, loss: LossFunction
) -> tuple[Solver, nn.Linear | None, str]:
    """The first solver that can train this head by this loss, the layer to solve, and the reason in a sentence.

    Raises TrainError where there is none.
    """
    reason = "as passed" if len(solvers) == 1 else ""
    for solver in solvers:
        if isinstance(solver, Steps):
            return solver, None, f"solver: {solver}, {reason}"
        try:
            layer = linear_layer(learner, examples, loss)
        except TrainError as error:
            reason = f"because {error}"
        else:
            return solver, layer, f"solver: {solver}, because the head is one linear layer under cross-entropy"
    raise TrainError(
        f"regraft.Exact finds the optimum of a single linear layer under cross-entropy. It cannot be used {reason}.",
        advice=[Advice("solver", Steps(), "train by gradient steps")],
    )


def _trials(learner: Learner, parameters: Sequence[nn.Parameter], steps: Steps, loss: LossFunction) -> list[Trial]:
    """One for each pair (lr, weight decay): its optimizer is made of all parameters that will ever train."""
    trials = []
    for lr, weight_decay in product(as_list(steps.lr), as_list(steps.weight_decay)):
        optimizer = make_optimizer(steps.optimizer, parameters, lr=lr, weight_decay=weight_decay)
        eager = EagerStep(
            learner, loss, optimizer, clip_value=steps.clip_value, clip_norm=steps.clip_norm, precision=steps.precision
        )
        trials.append(Trial(learner, steps.patience, lr=lr, weight_decay=weight_decay, eager=eager))
    return trials


def _descend(
    trials: list[Trial], stages: Stages, loss: LossFunction, check: LabelCheck | None, owns_update: bool | None,
    notes: list[str],
) -> History:  # fmt: skip
    """Run the epochs, leave the best trial's weights in the model, and tell."""
    seconds: list[float] = []
    if len(trials) > 1:
        for trial in trials:
            trial.values, trial.draws = {}, draws(stages.learner.device)
    first = stages.source.epoch(0)
    with _best_kept(trials), progress_bar("training", stages.epochs * len(first.indices)) as advance:
        for number in range(stages.epochs):
            running = [trial for trial in trials if trial.is_running()]
            if not running:
                break
            if number in stages:
                notes += _begin_stage(running, stages, number, owns_update)
            began = time.perf_counter()
            epoch = stages.source.epoch(number) if number else first
            _run_epoch(running, epoch, check, number, advance)
            seconds.append(time.perf_counter() - began)
            check = None
            for trial in (trial for trial in running if not trial.failed):
                with trial.in_model():
                    held_out, batch_size = stages.held_out, stages.source.batch_size
                    judged = score(trial.learner, held_out, loss, batch_size=batch_size) if held_out else None
                    trial.note_epoch(judged)
            advance(0, note=min(trials, key=Trial.rank).told())
    best = min(trials, key=Trial.rank)
    if not best.losses:
        raise TrainError("No candidate could be trained:\n" + "\n".join(trial.failed for trial in trials))
    candidates = [trial.candidate() for trial in trials] if len(trials) > 1 else []
    return best.history(seconds, candidates, stages.begun, [*notes, *stages.notes()])


def _begin_stage(trials: list[Trial], stages: Stages, number: int, owns_update: bool | None) -> list[str]:
    """Let the trials go on with what this stage trains, by the quickest step that is proven; which it is, in words."""
    if number:  # the first one has begun, for the options were tried out on it
        with _random_state_kept(stages.learner.device):
            stages.enter(number)
    for trial in trials:
        trial.begin(stages.learner)
    stages.learner.model.train()
    return _quicken(trials, stages.source.epoch(number), stages.epochs_of(number), owns_update)


def _quicken(trials: list[Trial], epoch: Epoch, epochs: int, owns_update: bool | None) -> list[str]:
    """Give each trial the quickest step that is proven equal to its eager one; which it is, in a sentence."""
    if owns_update is None:
        return ["eager step, as asked"]
    notes = []
    for trial in trials:
        assert trial.eager is not None, "trials begin with the eager step"
        with trial.in_model():
            trial.step = quick = quicken(trial.eager, epoch, epochs, owns_update=owns_update)
            notes.append(quick.note)
    return list(dict.fromkeys(notes))


def _run_epoch(
    trials: list[Trial], epoch: Epoch, check: LabelCheck | None, number: int, advance: Callable[..., None]
) -> None:
    """Each trial steps through all batches, which are fetched once. One that fails among several is left behind."""
    trials[0].learner.model.train()
    batches = _counted(epoch, advance)
    for piece in [batches] if len(trials) == 1 else _pieces(batches, TOGETHER):
        for trial in (trial for trial in trials if not trial.failed):
            with trial.in_model(), trial.failing(alone=len(trials) == 1):
                trial.run(piece, check, number)
    if check is not None:
        check.finish()
    for trial in (trial for trial in trials if not trial.failed):
        with trial.in_model(), trial.failing(alone=len(trials) == 1):
            trial.finish_epoch(number)


def _counted(batches: Iterable[Batch], advance: Callable[..., None]) -> Iterator[Batch]:
    """The batches as they come; the bar moves a few times a second."""
    moved, count = time.perf_counter(), 0
    for batch in batches:
        yield batch
        count += 1
        if time.perf_counter() - moved > BAR_S:
            advance(count)
            moved, count = time.perf_counter(), 0
    advance(count)


def _pieces(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """The batches, so many at a time."""
    while piece := list(islice(batches, size)):
        yield piece


@contextmanager
def _best_kept(trials: list[Trial]) -> Iterator[None]:
    """However the block ends, the model has afterwards the weights that the best trial kept."""
    try:
        yield
    finally:
        best = min(trials, key=Trial.rank)
        best.learner.restore(best.kept)


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


def _check_options(
    head: nn.Module | HeadLike, solvers: Sequence[Solver], schedule: Schedule | None, *, has_validation: bool
) -> None:
    """Raise one TrainError with every reason why the solvers cannot train this head, or not without validation."""
    problems = [] if schedule is None else schedule_problems(head, schedule)
    if not has_validation:
        if any(isinstance(given, Steps) and given.patience is not None for given in solvers):
            problems.append("patience waits for a lower validation loss: pass validation examples")
        if any(has_several(given) for given in solvers):
            problems.append("several lr or weight_decay are compared by validation loss: pass validation examples")
    if problems:
        raise TrainError("Training cannot start: " + "; ".join(problems) + ".")


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    """The caller's random draws go on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
