"""Train a head on its features, or a whole model on a data set: the same loop, the same batches."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from regraft.errors import Advice, TrainError
from regraft.examples import Examples, TensorExamples
from regraft.learning.averaging import AveragedWeights
from regraft.learning.batches import BatchSource
from regraft.learning.candidate import CandidateRun, CandidateSettings, Monitor
from regraft.learning.descent import Trace, descend, interrupts_with_history
from regraft.learning.eager_step import EagerStep
from regraft.learning.history import Candidate, History, Stage
from regraft.learning.learner import Learner
from regraft.learning.linear_heads import linear_layer, solve_head
from regraft.learning.metrics import GivenMetrics, higher_is_better
from regraft.learning.objective import Objective
from regraft.learning.old_keywords import solvers_from
from regraft.learning.optimizers import make_optimizer
from regraft.learning.rank_checks import refuse_unlike, refuse_whole_batches
from regraft.learning.ranks import Ranks, ranks_of
from regraft.learning.rates import make_rates
from regraft.learning.request import GivenLoss, Request, remember
from regraft.learning.resuming import identity_of, watch_of
from regraft.learning.schedules import Schedule
from regraft.learning.solvers import Exact, Solver, Steps, as_list, as_solvers, needs_of_validation
from regraft.learning.stages import Stages, schedule_problems
from regraft.learning.traced_step import trace_step
from regraft.learning.trying import try_out
from regraft.learning.weighting import weighted
from regraft.tasks.kinds import GivenTask
from regraft.tensors.keeping import kept_generators, kept_modes
from regraft.tensors.pad_values import GivenPads
from regraft.tensors.threads import threads_for

__all__ = ["Candidate", "History", "Stage", "train"]


def train(
    model_or_head: nn.Module,
    data: object,
    *,
    validation: object = None,
    task: GivenTask = None,
    loss: GivenLoss = None,
    metrics: GivenMetrics = None,
    classes: Sequence[str] = (),
    pad: GivenPads = None,
    solver: Solver | Sequence[Solver] | None = None,
    seed: int = 0,
    **old: object,
) -> History:
    """Train a head on its features, or a whole model on a data set, in place.

    data        features, or for a model anything with (input, label) pairs. Labels are numbers, names of classes,
                sequences, or a dict or tuple of them, as the outputs are
    validation  examples of the same kind, scored after each epoch
    task        "classification", "multilabel", "regression", "token-classification", "segmentation", "language-model",
                "masked-language-model", a value of `tasks.kinds.as_task`, or a dictionary of these for several outputs.
                None: inferred where labels and outputs make it certain
    loss        "cross_entropy", "binary_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber", a loss of
                torch, a function (outputs, labels) → mean of the batch, a dictionary for several outputs, or
                `regraft.WeightedLoss(…)`. None: that of the task
    metrics     of the validation: names ("f1", "auroc" …) or torchmetrics objects; None: those of the task
    classes     the names of the classes in their order, where labels are texts
    pad         what shorter inputs end in: {"input_ids": 1}. None: the pad id of the model's configuration, and zeros.
                Where token ids are padded and a model takes an attention_mask that the data lack, it is made
    solver      `regraft.Steps(…)` for gradient steps, `regraft.Exact(…)` for the optimum of a linear head, or a list,
                of which the first that can train the head is taken. None: `Exact()` for one linear layer on features
                in memory under cross-entropy, else `Steps()`
    seed        of the batches and of dropout
    old         `epochs=`, `lr=` and the other arguments of `Steps` and `Exact` by themselves: deprecated

    `history.notes` names the task and the solver, and why they were chosen. The same seed gives the same batches and
    random numbers, so two runs end in equal weights, with as many threads and where operators are deterministic. So do
    a head on features and its whole model, where frozen layers give a row the same bits in every batch
    (`features.cut.row_rounding`).

    Raises before anything changes: TrainError for options that make no sense or a head without trainable parameters,
    DataError for empty data, a task that is not certain, labels that do not fit it, or one class only. Whatever ends
    training early (a loss that is not a number, Ctrl-C) leaves the weights of the last finished epoch, with `patience`
    of the best one; Ctrl-C raises `learning.history.TrainingInterrupted`, a KeyboardInterrupt with the `history` of the
    finished epochs. Raises TrainError when a frozen tensor has changed.
    """
    solvers = solvers_from(solver, old) if old or isinstance(solver, str) else as_solvers(solver)
    steps = next((given for given in solvers if isinstance(given, Steps)), Steps())
    request, learner = Request(task, loss, metrics), Learner(model_or_head)
    data = _with_weights(learner.examples(data, classes=classes, pad=pad), request.weights.sample_weights)
    if validation is not None:
        validation = learner.examples(validation, classes=data.classes or classes, pad=pad)
    _check_options(model_or_head, solvers, steps.schedule, has_validation=validation is not None)
    ranks = ranks_of(next((given.group for given in solvers if given.group is not None), None))
    source = partial(BatchSource, order=steps.order, batch_size=steps.batch_size, seed=seed, ranks=ranks)
    stages = Stages(model_or_head, data, validation, steps.schedule, epochs=steps.epochs, source=source)
    with kept_modes(learner.model), stages:
        history = _train(stages, solvers, steps, request, seed, ranks)
        stages.check_frozen()
    return history


def _with_weights(examples: Examples, weights: object) -> Examples:
    return examples if weights is None else weighted(examples, weights)


def _train(
    stages: Stages, solvers: Sequence[Solver], steps: Steps, request: Request, seed: int, ranks: Ranks
) -> History:
    """Try the options out, then train by the first solver that can."""
    parameters = stages.unfreeze_all()
    if not parameters:
        raise TrainError("There is nothing to train: all parameters are frozen. Unfreeze the new layers.")
    # A schedule's optimizers are made while all is open that will ever train. Without one they can wait: torch's
    # first optimizer of a process imports its compiler, two seconds that an exact solution has no use for.
    optimizers = _optimizers(stages.model, parameters, steps) if steps.schedule is not None else []
    with kept_generators():
        stages.prove()
        stages.enter(0)
        examples = stages.source.examples
        objective, check = try_out(stages.learner, examples, request, steps.precision)
        monitor = _monitor(steps, objective, request.metrics)
        solver, layer, note = _choose(solvers, stages.learner, examples, objective)
        if ranks.are_several:
            refuse_unlike(ranks, stages.learner, examples, identity_of(steps, objective, stages, seed))
        described = partial(_described, objective, note)
        remember(stages.model, objective, examples.classes)
        torch.manual_seed(seed if ranks.is_first else _mixed(seed, ranks.rank))
        if isinstance(solver, Exact) and layer is not None and isinstance(examples, TensorExamples):
            decays, size = as_list(solver.weight_decay), steps.batch_size
            with threads_for(stages.learner.work_of(len(examples))):
                history = solve_head(
                    stages.learner, layer, examples, stages.held_out, objective, decays, batch_size=size,
                    metrics=request.metrics, ranks=ranks,
                )  # fmt: skip
        else:
            if ranks.are_several:
                refuse_whole_batches(ranks, stages.learner, objective, examples)
            optimizers = optimizers or _optimizers(stages.model, parameters, steps)
            runs = [_candidate(stages.learner, *made, steps, objective, monitor, ranks) for made in optimizers]
            watch = watch_of(steps, objective, stages, seed, ranks)
            work = 3 * stages.learner.work_of(steps.batch_size)  # a backward pass takes twice as long as its forward
            with interrupts_with_history(runs, stages, watch, described), watch, threads_for(work):
                history = descend(
                    runs, stages, objective, check, metrics=request.metrics, trace=_trace_of(steps, ranks),
                    prepare=partial(_prepare, steps), watch=watch,
                )  # fmt: skip
                watch.callbacks.train_end(history)
    return described(history)


def _described(objective: Objective, note: str, history: History) -> History:
    """The history with the task, the loss and the solver in its notes."""
    name = "" if objective.task is None else objective.task.name
    return replace(history, notes=(str(objective), note, *history.notes), task=name)


def _mixed(seed: int, rank: int) -> int:
    """Another seed for each rank, so that dropout draws other masks for its examples."""
    return int(np.random.SeedSequence([seed % (1 << 64), rank]).generate_state(1, np.uint64)[0])


def _trace_of(steps: Steps, ranks: Ranks) -> Trace | None:
    """How a faster step is made; None where the eager one is to run."""
    owns_update = isinstance(steps.optimizer, str | None) and steps.lr_schedule is None
    can_trace = steps.traced and steps.accumulate == 1 and not ranks.are_several
    return partial(trace_step, owns_update=owns_update) if can_trace else None


def _monitor(steps: Steps, objective: Objective, metrics: GivenMetrics) -> Monitor:
    """By what the best epoch is chosen. Raises TrainError for a metric that is not computed."""
    if steps.monitor == "loss":
        return Monitor()
    return Monitor(steps.monitor, higher_is_better(steps.monitor, metrics, objective.task))


def _choose(
    solvers: Sequence[Solver], learner: Learner, examples: Examples, objective: Objective
) -> tuple[Solver, nn.Linear | None, str]:
    """The first solver that can train this head by this loss, the layer to solve, and the reason in a sentence.

    Raises TrainError where there is none.
    """
    reason = "as passed" if len(solvers) == 1 else ""
    for solver in solvers:
        if isinstance(solver, Steps):
            return solver, None, f"solver: {solver}, {reason}"
        try:
            layer = linear_layer(learner, examples, objective)
        except TrainError as error:
            reason = f"because {error}"
        else:
            return solver, layer, f"solver: {solver}, because the head is one linear layer under cross-entropy"
    raise TrainError(
        f"regraft.Exact finds the optimum of a single linear layer under cross-entropy. It cannot be used {reason}.",
        advice=[Advice("solver", Steps(), "train by gradient steps")],
    )


def _optimizers(
    model: nn.Module, parameters: Sequence[nn.Parameter], steps: Steps
) -> list[tuple[Any, float | None, Optimizer]]:
    """For each pair (lr, weight decay) an optimizer of all parameters that will ever train."""
    return [
        (lr, decay, make_optimizer(steps.optimizer, parameters, lr=lr, weight_decay=decay, model=model))
        for lr, decay in product(as_list(steps.lr), as_list(steps.weight_decay))
    ]


def _candidate(
    learner: Learner, lr: Any, weight_decay: float | None, optimizer: Optimizer, steps: Steps, objective: Objective,
    monitor: Monitor, ranks: Ranks,
) -> CandidateRun:  # fmt: skip
    eager = EagerStep(
        learner, objective, optimizer, clip_value=steps.clip_value, clip_norm=steps.clip_norm,
        precision=steps.precision, ranks=ranks,
    )  # fmt: skip
    if steps.accumulate > 1 or ranks.are_several:
        eager.refuse_no_accumulation()
    return CandidateRun(CandidateSettings(lr, weight_decay, steps.patience, monitor, steps.accumulate), eager)


def _prepare(steps: Steps, run: CandidateRun, updates: int) -> None:
    """Give a candidate its scheduler and its average, where they are asked for."""
    if steps.averaging is not None:
        run.average = AveragedWeights(*steps.averaged)
    if steps.lr_schedule is not None:
        run.rates = make_rates(
            steps.lr_schedule, run.eager.optimizer, updates, arguments=steps.lr_arguments, every=steps.lr_every,
            warmup=steps.warmup,
        )  # fmt: skip


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
