"""Training methods as values: `Steps` descends batch by batch, `Exact` finds the optimum of a linear head."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, final

import torch

from regraft.errors import TrainError
from regraft.foundation.wording import near_names
from regraft.learning.batches import Order
from regraft.learning.callbacks import GivenCallback
from regraft.learning.checkpoints import Checkpoints
from regraft.learning.eager_step import PRECISIONS, Precision
from regraft.learning.optimizers import OPTIMIZERS, Optimizer
from regraft.learning.ranks import GivenGroup
from regraft.learning.rates import Every, LRSchedule, needs_validation, schedule_form_problems
from regraft.learning.schedules import EPOCHS, Schedule, form_problems

_COUNTS = ("epochs", "batch_size", "patience", "accumulate")
_POSITIVE = ("lr", "clip_value", "clip_norm")
Averaging = float | Literal["swa"]
Rates = float | Sequence[float] | Mapping[str, float] | None  # None: the default; several: all are tried


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Steps:
    """Gradient steps, batch by batch.

    optimizer     "adamw" (None), "sgd" (plain), "momentum" (0.9), "adam", a function of the parameters, or a torch
                  optimizer
    lr            None: 0.01 for "sgd" and "momentum", 0.001 for the others. {"encoder.*": 1e-5, "head": 1e-3} gives
                  patterns of parameters their rates, the first that matches wins
    weight_decay  None: the optimizer's own default
                  Several lr or weight_decay: each pair is trained on the same batches, as it would be alone. The
                  weights with the lowest validation loss stay; `history.candidates` lists all pairs
    lr_schedule   how lr changes: "linear" and "cosine" (to 0), "one_cycle" (lr is its peak), "plateau", the name of a
                  class of torch.optim.lr_scheduler, or a function (optimizer, updates in all) → scheduler
    lr_arguments  of that class: {"step_size": 10}
    lr_every      "update" or "epoch": when the scheduler steps. None: after each epoch for a class of torch by name and
                  for a plateau, after each update for all else
    warmup        for "constant", "linear", "cosine": the part of all updates (below 1), or their number, in which lr
                  rises from near 0
    accumulate    batches for each update: the gradients are those of one batch of all their examples
    averaging     average the weights; the averages are scored and kept. A number is the decay of an exponential moving
                  average (EMA), 0.999 for instance. "swa" is the mean of the weights at the ends of the last epochs
                  (stochastic weight averaging). Statistics of BatchNorm layers that train are then computed again on
                  the training examples after each epoch
    averaging_start  of "swa": its first epoch, from 0, or below 1 the part of the epochs before it
    ema           deprecated: averaging=0.999
    patience      stop after this many epochs without a better validation, and restore the weights of the best epoch
    monitor       by which number of the validation the best epoch is chosen: "loss", or the name of a metric
    clip_value    limit each gradient to ± this value
    clip_norm     limit the norm of all gradients together
    precision     "float32", or "bfloat16" or "float16" for the forward and backward arithmetic. Weights stay float32.
                  float16 scales the loss and skips steps whose gradients overflow
    traced        run each step as a flat list of operators where that is proven equal to the eager step
    order         epoch (from 0) → its batches, each an array of indices; None shuffles by seed and batch size. A
                  sampler is such a function: an index may come several times, or not at all
    schedule      gradual unfreezing, {0: "head", 5: "layer4"}: epoch (from 0) → patterns of the layers that train from
                  then on; other layers of the model do not train. Until its epoch a layer is frozen as by `freeze`.
                  Features of a deeper cut are computed once from the given ones where that is faster. The optimizer is
                  made of all parameters that will ever train. After training, the same layers are frozen as before
    checkpoints   a folder, or `Checkpoints(folder, resume=True)`: keep the state after each epoch, to go on from after
                  an interruption with the same weights in the end
    callbacks     functions that are called after each epoch with an `EpochEnd`, and `Callback`s such as
                  `CsvLogger("epochs.csv")` or `TensorBoardLogger("logs")`
    group         the processes that train together: each takes a part of every batch, and gradients are summed. None:
                  all processes where torch.distributed is initialised, else this one. "alone", or a process group

    Raises TrainError with all problems at once for values that make no sense.
    """

    optimizer: Optimizer | None = None
    lr: Rates = None
    weight_decay: Rates = None
    epochs: int = EPOCHS
    batch_size: int = 32
    lr_schedule: LRSchedule | None = None
    lr_arguments: Mapping[str, Any] = field(default_factory=dict)
    lr_every: Every | None = None
    warmup: float = 0.0
    accumulate: int = 1
    averaging: Averaging | None = None
    averaging_start: float = 0.75
    patience: int | None = None
    monitor: str = "loss"
    clip_value: float | None = None
    clip_norm: float | None = None
    precision: Precision = "float32"
    traced: bool = True
    order: Order | None = None
    schedule: Schedule | None = None
    checkpoints: Checkpoints | str | Path | None = field(default=None, repr=False)
    callbacks: Sequence[GivenCallback] = field(default=(), repr=False)
    group: GivenGroup = None
    ema: InitVar[float | None] = None

    def __post_init__(self, ema: float | None) -> None:
        _freeze_lists(self, "lr", "weight_decay")
        if ema is not None:
            warnings.warn(
                f"Steps(ema={ema!r}) is deprecated. Pass averaging={ema!r}.", DeprecationWarning, stacklevel=3
            )
            object.__setattr__(self, "averaging", ema)
        problems = [text for name in _COUNTS for text in _count_problems(name, getattr(self, name))]
        problems += [text for name in _POSITIVE for text in _number_problems(name, getattr(self, name))]
        problems += _number_problems("weight_decay", self.weight_decay, zero=True)
        problems += self._name_problems()
        problems += _group_problems(self.group)
        problems += schedule_form_problems(self.lr_schedule, self.lr_arguments, self.lr_every, self.warmup)
        problems += _number_problems("warmup", self.warmup, zero=True)
        problems += self._averaging_problems()
        if self.schedule is not None:
            problems += form_problems(self.schedule, 0 if _count_problems("epochs", self.epochs) else self.epochs)
        _refuse("Steps", problems)

    def __repr__(self) -> str:
        return _call_text(self)

    @property
    def kept_in(self) -> Checkpoints | None:
        """Where the state is kept after each epoch; None for nowhere."""
        given = self.checkpoints
        return Checkpoints(given) if isinstance(given, str | Path) else given

    @property
    def depends_on_epochs(self) -> bool:
        """Whether an epoch does something else where more of them follow."""
        return self.lr_schedule is not None or (self.averaging == "swa" and self.averaging_start < 1)

    @property
    def averaged(self) -> tuple[float | None, int]:
        """The decay of the average, None for the mean, and the epoch with which the mean begins."""
        if self.averaging != "swa":
            return float(self.averaging or 0), 0
        start = self.averaging_start * self.epochs if self.averaging_start < 1 else self.averaging_start
        return None, min(round(start), self.epochs - 1)

    def _averaging_problems(self) -> list[str]:
        problems = _number_problems("averaging_start", self.averaging_start, zero=True)
        given = self.averaging
        if given not in (None, "swa") and not (isinstance(given, Real) and 0 < float(given) < 1):
            problems.append(f'averaging is {given!r}, expected a number between 0 and 1, the decay of an EMA, or "swa"')
        return problems

    def _name_problems(self) -> list[str]:
        problems = []
        if self.precision not in PRECISIONS:
            problems.append(f"there is no precision {self.precision!r}. {near_names(self.precision, PRECISIONS)}")
        if isinstance(self.optimizer, str) and self.optimizer not in OPTIMIZERS:
            problems.append(
                f"there is no optimizer {self.optimizer!r}. {near_names(self.optimizer, OPTIMIZERS)} Any optimizer of "
                "torch can be passed as a function: optimizer=lambda parameters: RMSprop(parameters, lr=0.001)"
            )
        if not isinstance(self.optimizer, str | None) and not self.lr == self.weight_decay == None:  # noqa: E711
            problems.append("lr and weight_decay belong to an optimizer's name; set them in the optimizer you pass")
        return problems


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Exact:
    """The optimum of a head that is one linear layer under cross-entropy, found by L-BFGS in seconds.

    weight_decay  the w in mean loss + ½·w·|weight|². None tries seven values where there are validation examples to
                  choose by, and else takes 1/count (C = 1 in scikit-learn). Of several, the one with the lowest
                  validation loss stays
    group         the processes that share the work, as for `Steps`: each sums over a part of the examples

    Raises TrainError for values that make no sense.
    """

    weight_decay: Rates = None
    group: GivenGroup = None

    def __post_init__(self) -> None:
        _freeze_lists(self, "weight_decay")
        _refuse("Exact", _number_problems("weight_decay", self.weight_decay, zero=True) + _group_problems(self.group))

    def __repr__(self) -> str:
        return _call_text(self)


Solver = Steps | Exact


def as_solvers(solver: Solver | Sequence[Solver] | None) -> list[Solver]:
    """The solvers in order of preference: None prefers the exact optimum. Raises TrainError for anything else."""
    if solver is None:
        return [Exact(), Steps()]
    solvers: list[Solver] = [*solver] if isinstance(solver, list | tuple) else [solver]  # type: ignore[list-item]
    if not solvers or not all(isinstance(given, Solver) for given in solvers):
        raise TrainError(
            f"The solver is {solver!r}, expected regraft.Steps(…) for gradient steps or regraft.Exact(…) for the "
            "optimum of a linear head."
        )
    if len(solvers) > 1 and any(isinstance(given, Steps) and given.schedule for given in solvers):
        raise TrainError("A schedule needs gradient steps: pass solver=Steps(schedule=…) alone.")
    return solvers


def needs_of_validation(solver: Solver) -> list[str]:
    """What this solver cannot do without validation examples, a sentence each."""
    lr, patience = (solver.lr, solver.patience) if isinstance(solver, Steps) else (None, None)
    problems = []
    if patience is not None:
        problems.append("patience waits for a better validation: pass validation examples")
    if isinstance(solver, Steps) and solver.monitor != "loss":
        problems.append(f"monitor={solver.monitor!r} is a number of the validation: pass validation examples")
    if isinstance(solver, Steps) and needs_validation(solver.lr_schedule):
        problems.append(f"lr_schedule={solver.lr_schedule!r} follows the validation: pass validation examples")
    if len(as_list(lr)) * len(as_list(solver.weight_decay)) > 1:
        problems.append("several lr or weight_decay are compared by validation: pass validation examples")
    return problems


def as_list(rates: Rates) -> list[Any]:
    """One value or several, as a list; rates by pattern are one."""
    return [*rates] if isinstance(rates, tuple) else [rates]


def _freeze_lists(solver: Solver, *names: str) -> None:
    """Make tuples of the lists (arrays, ranges) among these fields, so that equal solvers compare equal."""
    for name in names:
        value = getattr(solver, name)
        if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
            object.__setattr__(solver, name, tuple(value))


def _group_problems(group: GivenGroup) -> list[str]:
    if not isinstance(group, str) or group == "alone":
        return []
    return [f'group is {group!r}, expected "alone" or a process group of torch.distributed']


def _count_problems(name: str, value: object) -> list[str]:
    is_count = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
    return [] if value is None or is_count else [f"{name} is {value!r}, expected a whole number of 1 or more"]


def _number_problems(name: str, value: object, *, zero: bool = False) -> list[str]:
    """A sentence for each of one or several values that is no number above 0, or no number from 0 on."""
    if value == ():
        return [f"{name} is empty, expected one number or several"]
    numbers = value if isinstance(value, tuple) else tuple(value.values()) if isinstance(value, Mapping) else (value,)
    expected = "a number of 0 or more" if zero else "a number above 0"
    return [f"{name} is {number!r}, expected {expected}" for number in numbers if not _is_allowed(number, zero=zero)]


def _is_allowed(number: object, *, zero: bool) -> bool:
    if number is None:
        return True
    return isinstance(number, Real) and (float(number) > 0 or (zero and float(number) == 0))


def _refuse(method: str, problems: Sequence[str]) -> None:
    if problems:
        raise TrainError(f"{method} cannot be used: " + "; ".join(problems) + ".")


def _call_text(solver: Solver) -> str:
    """The constructor call with the arguments that differ from their defaults."""
    values = [(field.name, getattr(solver, field.name), field.default) for field in fields(solver) if field.repr]
    given = ", ".join(f"{name}={_value_text(value)}" for name, value, default in values if value not in (default, {}))
    return f"{type(solver).__name__}({given})"


def _value_text(value: object) -> str:
    """A value on one line; functions and optimizers by their names."""
    if isinstance(value, torch.optim.Optimizer):
        return f"{type(value).__name__}(…)"
    return getattr(value, "__qualname__", type(value).__name__) if callable(value) else repr(value)
