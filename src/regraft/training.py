"""Train a head on its features, or a whole model on a data set: the same loop, the same batches."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import nn

from regraft.errors import Advice, TrainError
from regraft.examples import Examples, TensorExamples, as_examples
from regraft.learning.batches import BatchSource
from regraft.learning.candidate import CandidateRun, Settings
from regraft.learning.descent import descend
from regraft.learning.eager_step import EagerStep
from regraft.learning.history import Candidate, History, Stage
from regraft.learning.learner import Learner
from regraft.learning.linear_heads import linear_layer, solve_head
from regraft.learning.losses import Loss, LossFunction, as_loss, remember_loss
from regraft.learning.old_keywords import solvers_from
from regraft.learning.optimizers import make_optimizer
from regraft.learning.schedules import Schedule
from regraft.learning.solvers import Exact, Solver, Steps, as_list, as_solvers, needs_of_validation
from regraft.learning.stages import Stages, schedule_problems
from regraft.learning.traced_step import trace_step
from regraft.learning.trying import try_out
from regraft.tensors.keeping import kept_generators, kept_modes

__all__ = ["Candidate", "History", "Stage", "train"]


def train(
    model_or_head: nn.Module,
    data: object,
    *,
    validation: object = None,
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
    some round it by its index in the batch (`features.cut.row_rounding`) or by the batch's size (a smaller last batch).
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
    learner, data = Learner(model_or_head), as_examples(data)
    validation = None if validation is None else as_examples(validation)
    for examples in (data, validation):
        if examples is not None:
            learner.refuse_features(examples)
    _check_options(model_or_head, solvers, steps.schedule, has_validation=validation is not None)
    source = partial(BatchSource, order=steps.order, batch_size=steps.batch_size, seed=seed)
    stages = Stages(model_or_head, data, validation, steps.schedule, epochs=steps.epochs, source=source)
    with kept_modes(learner.model), stages:
        history = _train(stages, solvers, steps, as_loss(loss), seed)
        stages.check_frozen()
    remember_loss(learner.model, loss)
    return history


def _train(stages: Stages, solvers: Sequence[Solver], steps: Steps, loss: LossFunction, seed: int) -> History:
    """Try the options out, then train by the first solver that can."""
    parameters = stages.unfreeze_all()
    if not parameters:
        raise TrainError("There is nothing to train: all parameters are frozen. Unfreeze the new layers.")
    # A schedule's optimizers are made while all is open that will ever train. Without one they can wait: torch's
    # first optimizer of a process imports its compiler, two seconds that an exact solution has no use for.
    runs = _candidates(stages.learner, parameters, steps, loss) if steps.schedule is not None else []
    with kept_generators():
        stages.prove()
        stages.enter(0)
        examples = stages.source.examples
        check = try_out(stages.learner, examples, loss, steps.precision)
        solver, layer, note = _choose(solvers, stages.learner, examples, loss)
        torch.manual_seed(seed)
        if isinstance(solver, Exact) and layer is not None and isinstance(examples, TensorExamples):
            decays, size = as_list(solver.weight_decay), steps.batch_size
            history = solve_head(stages.learner, layer, examples, stages.held_out, loss, decays, batch_size=size)
        else:
            runs = runs or _candidates(stages.learner, parameters, steps, loss)
            trace = partial(trace_step, owns_update=isinstance(steps.optimizer, str | None))
            history = descend(runs, stages, loss, check, trace=trace if steps.traced else None)
    return replace(history, notes=(note, *history.notes))


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


def _candidates(
    learner: Learner, parameters: Sequence[nn.Parameter], steps: Steps, loss: LossFunction
) -> list[CandidateRun]:
    """One for each pair (lr, weight decay): its optimizer is made of all parameters that will ever train."""
    runs = []
    for lr, weight_decay in product(as_list(steps.lr), as_list(steps.weight_decay)):
        optimizer = make_optimizer(steps.optimizer, parameters, lr=lr, weight_decay=weight_decay)
        eager = EagerStep(
            learner, loss, optimizer, clip_value=steps.clip_value, clip_norm=steps.clip_norm, precision=steps.precision
        )
        runs.append(CandidateRun(Settings(lr, weight_decay, steps.patience), eager))
    return runs


def _check_options(
    head: nn.Module, solvers: Sequence[Solver], schedule: Schedule | None, *, has_validation: bool
) -> None:
    """Raise one TrainError with every reason why the solvers cannot train this head, or not without validation."""
    problems = [] if schedule is None else schedule_problems(head, schedule)
    if not has_validation:
        problems += [problem for given in solvers for problem in needs_of_validation(given)]
    problems = [*dict.fromkeys(problems)]
    if problems:
        raise TrainError("Training cannot start: " + "; ".join(problems) + ".")
