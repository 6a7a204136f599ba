"""Train a head on its features, or a whole model on a data set: the same loop, the same batches."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice, product
from typing import Any

import torch
from torch import Tensor, nn

from regraft.errors import TrainError
from regraft.examples import Examples, TensorExamples
from regraft.learning.batches import Batch, Epoch, Order, Source
from regraft.learning.candidate import Trial
from regraft.learning.eager_step import EagerStep, lower_precision
from regraft.learning.history import Candidate, History, Stage
from regraft.learning.learner import HeadLike, Learner, draws, modes_kept, to_device
from regraft.learning.linear_heads import linear_layer, solve_head
from regraft.learning.losses import LabelCheck, Loss, LossFunction, as_loss, class_count, whole_labels
from regraft.learning.optimizers import Optimizer, make_optimizer
from regraft.learning.scoring import score
from regraft.learning.stages import Stages, schedule_problems
from regraft.learning.traced_step import quicken
from regraft.progress import progress_bar
from regraft.schedules import EPOCHS, Schedule
from regraft.wording import near_names

__all__ = ["Candidate", "History", "Stage", "train"]

SOLVERS = ("steps", "lbfgs")
STEPS = ("auto", "eager")
BAR_S = 0.25  # between moves of the progress bar
TOGETHER = 16  # batches that wait in memory while several trials take them one after the other


def train(
    head: nn.Module | HeadLike,
    features: Any,
    *,
    validation: Any = None,
    loss: Loss = "cross_entropy",
    solver: str | None = None,
    optimizer: Optimizer | None = None,
    lr: float | Sequence[float] | None = None,
    weight_decay: float | Sequence[float] | None = None,
    epochs: int | None = None,
    batch_size: int = 32,
    patience: int | None = None,
    clip_value: float | None = None,
    clip_norm: float | None = None,
    precision: str = "float32",
    step: str = "auto",
    order: Order | None = None,
    schedule: Schedule | None = None,
    seed: int = 0,
) -> History:
    """Train the head on its features, in place; a whole model on a plain data set goes the same way.

    features      what `cache_features` gave, for a head; for a model anything with (input, label) pairs
    validation    examples of the same kind, scored after each epoch
    loss          "cross_entropy", "mean_squared_error", or a function (outputs, labels) → mean of the batch
    solver        "steps" descends batch by batch. "lbfgs" finds the optimum of a head that is one linear layer under
                  cross-entropy, in seconds. None takes "lbfgs" where it can be had and nothing below asks for steps:
                  no optimizer, lr, epochs, patience, clip_*, order, schedule, nor another precision or step
    optimizer     "adamw" (None), "sgd" (plain), "momentum", "adam", a function of the parameters, or a torch optimiser
    lr            None: 0.01 for "sgd" and "momentum", 0.001 for the others
    weight_decay  None: the optimiser's own default. For "lbfgs" the w in mean loss + ½·w·|weight|²; None tries seven
                  strengths where there is validation to choose by, and else takes 1/count (scikit-learn's C = 1)
                  Several lr or weight_decay: all pairs are trained on the same batches, each as it would be alone; the
                  weights with the lowest validation loss stay, and `history.candidates` tells all
    epochs        None: 20
    patience      stop after so many epochs without a better validation loss, and go back to the best epoch's weights
    clip_value    limit each gradient to ± this; clip_norm: limit the length of all gradients together
    precision     "float32", or "bfloat16" or "float16" for the arithmetic of forward and backward (weights stay
                  float32); float16 with a scaled loss, where steps whose gradients overflow are left out
    step          "auto" traces the step into a flat list of operators where that is proven equal; "eager" never
    order         epoch (from 0) → its batches, each an array of indices; None shuffles by `seed` and `batch_size`
    schedule      gradual unfreezing, {0: "head", 5: "layer4"}: epoch (from 0) → patterns of the layers that train from
                  then on; the rest of the model does not. Until its turn a layer is frozen as by `freeze`, and features
                  behind it are computed from the given ones once, where that pays. The optimiser is made of all that
                  will ever train, and goes on. Afterwards everything is as frozen as it was before
    seed          of the batches and of dropout

    The same seed gives the same batches and draws, so two runs end in equal weights: on the CPU with as many threads
    (others sum in another order), on a GPU where its operators are deterministic. So do a head on features and its
    whole model on their data set, where the frozen layers round alike for every batch size (a smaller last batch may
    move the last bits). Where the data set itself draws at random, it decides. Features larger than memory are read in
    an order of their own.

    Raises before anything changes: TrainError for options that make no sense, a schedule that cannot be followed or a
    head without trainable parameters, DataError for empty data, labels beyond the classes, or one class only. Whatever
    ends training early — a loss that is not a number (TrainError names epoch and step), Ctrl-C — leaves the weights of
    the last finished epoch, with `patience` of the best one. Raises TrainError when a frozen tensor has moved.
    """
    rates, decays = _several(lr), _several(weight_decay)
    epochs_asked, epochs = epochs, EPOCHS if epochs is None else epochs
    learner = Learner(head)
    for examples in (features, validation):
        learner.refuse_features(examples)
    model = learner.model
    _check_options(
        schedule_problems(head, schedule, epochs) if schedule is not None else [],
        epochs=epochs, batch_size=batch_size, patience=patience, lr=rates, weight_decay=decays, clip_value=clip_value,
        clip_norm=clip_norm, validation=validation, solver=solver, step=step, schedule=schedule,
    )  # fmt: skip
    loss_function = as_loss(loss)
    kind: Optimizer = "adamw" if optimizer is None else optimizer
    asked = [name for name, value in (
        ("optimizer", optimizer), ("lr", lr), ("epochs", epochs_asked), ("patience", patience),
        ("clip_value", clip_value), ("clip_norm", clip_norm), ("order", order), ("schedule", schedule),
        ("precision", None if precision == "float32" else precision), ("step", None if step == "auto" else step),
    ) if value is not None]  # fmt: skip
    source = partial(Source, order=order, batch_size=batch_size, seed=seed)

    with modes_kept(model), Stages(head, features, validation, schedule, epochs=epochs, source=source) as stages:
        parameters = stages.open_all()
        if not parameters:
            raise TrainError(
                "There is nothing to train: all parameters are frozen. Leave the new layers out of freeze()."
            )
        make_trials = partial(
            _trials, parameters, kind, list(product(rates, decays)), patience, loss=loss_function,
            clip_value=clip_value, clip_norm=clip_norm, precision=precision,
        )  # fmt: skip
        # A schedule's optimizers are made while all is open that will ever train. Without one they can wait: torch's
        # first optimizer of a process imports its compiler, two seconds that an exact solution has no use for.
        trials = make_trials(stages.learner) if schedule is not None else []
        with _random_state_kept(stages.learner.device):
            stages.prove()
            stages.enter(0)
            check = _try_out(stages.learner, stages.source.examples, loss_function, precision)
            layer, note = _exact(stages.learner, stages.source.examples, loss_function, solver, asked)
            torch.manual_seed(seed)
            if layer is not None and isinstance(stages.source.examples, TensorExamples):
                history = solve_head(
                    stages.learner, layer, stages.source.examples, stages.held_out, loss_function, decays,
                    batch_size=batch_size, notes=[note],
                )  # fmt: skip
            else:
                owner = None if step == "eager" else isinstance(kind, str)
                history = _descend(trials or make_trials(stages.learner), stages, loss_function, check, owner, [note])
        stages.check_frozen()
    return history


def _trials(
    parameters: Sequence[nn.Parameter], kind: Optimizer, pairs: Iterable[tuple[float | None, float | None]],
    patience: int | None, learner: Learner, **options: Any,
) -> list[Trial]:  # fmt: skip
    """One way of training for each pair (lr, weight decay): its optimiser is made of all that will ever train."""
    trials = []
    for lr, weight_decay in pairs:
        optimizer = make_optimizer(kind, parameters, lr=lr, weight_decay=weight_decay)
        eager = EagerStep(learner, optimizer=optimizer, **options)
        trials.append(Trial(learner, patience, lr=lr, weight_decay=weight_decay, eager=eager))
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


def _exact(
    learner: Learner, examples: Examples, loss: LossFunction, solver: str | None, asked: Sequence[str]
) -> tuple[nn.Linear | None, str]:
    """The layer whose optimum is to be found exactly, or None for steps; and why.

    Raises TrainError when "lbfgs" is asked for and the head is not linear.
    """
    if solver == "steps":
        return None, "solver: steps, as asked"
    try:
        layer = linear_layer(learner, examples, loss)
    except TrainError as error:
        if solver == "lbfgs":
            raise TrainError(
                f"solver='lbfgs' finds the optimum of a single linear layer under cross-entropy, but {error}.\n"
                "Take solver='steps'."
            ) from error
        return None, f"solver: steps, for {error}"
    if solver is None and asked:
        return None, f"solver: steps, for {', '.join(asked)} was given; solver='lbfgs' finds this head's optimum"
    without = f"; {', '.join(asked)} play no part" if asked else ""
    return layer, f"solver: lbfgs, for the head is one linear layer under cross-entropy{without}"


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


def _several(values: float | Sequence[float] | None) -> list[float | None]:
    """One value or several, as a list."""
    return list(values) if isinstance(values, (list, tuple)) else [values]  # type: ignore[list-item]


def _check_options(problems: list[str], **options: Any) -> None:
    """Raise one TrainError that tells every option that makes no sense, after the problems found so far."""
    problems = [*problems] + [
        f"{name} is {options[name]}, expected at least 1"
        for name in ("epochs", "batch_size", "patience")
        if options[name] is not None and options[name] < 1
    ]
    for name in ("lr", "weight_decay", "clip_value", "clip_norm"):
        values, least = _several(options[name]), "0 or more" if name == "weight_decay" else "a number above 0"
        if not values:
            problems.append(f"{name} is empty, expected a number or several")
        bad = [
            value
            for value in values
            if value is not None and not (value > 0 or (name == "weight_decay" and value == 0))
        ]
        problems += [f"{name} is {value}, expected {least}" for value in bad]
    for name, known in (("solver", SOLVERS), ("step", STEPS)):
        if options[name] is not None and options[name] not in known:
            problems.append(f"there is no {name} {options[name]!r}. {near_names(options[name], known)}")
    if options["patience"] is not None and options["validation"] is None:
        problems.append("patience waits for a better validation loss: give validation examples")
    if len(options["lr"]) * len(options["weight_decay"]) > 1 and options["validation"] is None:
        problems.append("several candidates are compared by their validation loss: give validation examples")
    if options["schedule"] is not None and options["solver"] == "lbfgs":
        problems.append("solver='lbfgs' finds the optimum at once and knows no epochs: leave out the schedule")
    if problems:
        raise TrainError("Training cannot start: " + "; ".join(problems) + ".")


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    """The caller's random draws go on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
