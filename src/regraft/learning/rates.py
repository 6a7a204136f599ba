"""Learning rates that change during training: torch's schedulers, by name or made by the user."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, final

from torch import optim
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from regraft.errors import TrainError
from regraft.foundation.wording import near_names

Every = Literal["update", "epoch"]
MakeScheduler = Callable[[optim.Optimizer, int], LRScheduler | ReduceLROnPlateau]  # the optimizer, updates in all
Usual = Literal["constant", "linear", "cosine", "one_cycle", "plateau"]
LRSchedule = Usual | str | MakeScheduler  # or the name of a class of torch.optim.lr_scheduler
NAMES = ("constant", "linear", "cosine", "one_cycle", "plateau")
TORCH = [name for name in lr_scheduler.__all__ if name not in ("LRScheduler", "LambdaLR", "MultiplicativeLR")]


@final
class Rates:
    """A scheduler of an optimizer, and when it is asked for the next rate.

    every  "update": after each step of the optimizer; "epoch": after each epoch
    """

    def __init__(self, scheduler: LRScheduler | ReduceLROnPlateau, every: Every) -> None:
        self.scheduler = scheduler
        self.every: Every = "epoch" if isinstance(scheduler, ReduceLROnPlateau) else every

    def after_update(self) -> None:
        """An update was made."""
        if self.every == "update" and isinstance(self.scheduler, LRScheduler):
            self.scheduler.step()

    def after_epoch(self, badness: float | None) -> None:
        """An epoch ended.

        badness  what is monitored, lower is better; None without validation
        """
        if isinstance(self.scheduler, ReduceLROnPlateau):
            assert badness is not None, "plateau without validation is refused before training"
            self.scheduler.step(badness)
        elif self.every == "epoch":
            self.scheduler.step()


def make_rates(
    schedule: LRSchedule, optimizer: optim.Optimizer, updates: int, *, arguments: Mapping[str, object],
    every: Every | None, warmup: float,
) -> Rates:  # fmt: skip
    """The scheduler of an optimizer.

    updates    steps of the optimizer in the whole training
    arguments  of torch's class: {"step_size": 10}
    every      None: "epoch" for a class of torch by name, "update" for all else
    warmup     part of all updates (below 1), or number of updates, in which the rate rises to its value; for
               "constant", "linear" and "cosine"

    Raises TrainError for arguments that the scheduler does not take.
    """
    usual: Every = "epoch" if isinstance(schedule, str) and schedule in TORCH else "update"
    try:
        scheduler = (
            _by_name(schedule, optimizer, updates, arguments, _warmup_updates(warmup, updates))
            if isinstance(schedule, str)
            else schedule(optimizer, updates)
        )
    except (TypeError, ValueError) as error:
        raise TrainError(f"The scheduler {schedule} cannot be made: {error}") from error
    if not isinstance(scheduler, LRScheduler | ReduceLROnPlateau):
        raise TrainError(f"lr_schedule gave a {type(scheduler).__name__}, expected a scheduler of torch.")
    return Rates(scheduler, every or usual)


def schedule_form_problems(
    schedule: object, arguments: Mapping[str, object], every: object, warmup: float
) -> list[str]:
    """A sentence for each of the settings that makes no sense."""
    problems = _name_problems(schedule)
    if every not in (None, "update", "epoch"):
        problems.append(f'lr_every is {every!r}, expected "update" or "epoch"')
    if warmup and schedule not in ("constant", "linear", "cosine"):
        problems.append('warmup belongs to lr_schedule="constant", "linear" or "cosine"')
    if (arguments or every is not None) and schedule is None:
        problems.append("lr_arguments and lr_every belong to an lr_schedule")
    return problems


def _name_problems(schedule: object) -> list[str]:
    if isinstance(schedule, str) and schedule not in (*NAMES, *TORCH):
        return [f"there is no lr_schedule {schedule!r}. {near_names(schedule, [*NAMES, *TORCH])}"]
    if schedule is None or isinstance(schedule, str) or callable(schedule):
        return []
    return [f"lr_schedule is {schedule!r}, expected a name or a function of (optimizer, updates)"]


def needs_validation(schedule: object) -> bool:
    """Whether the scheduler follows the validation."""
    return schedule in ("plateau", "ReduceLROnPlateau")


def _by_name(
    name: str, optimizer: optim.Optimizer, updates: int, arguments: Mapping[str, Any], warmup: int
) -> LRScheduler | ReduceLROnPlateau:
    if name == "one_cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return lr_scheduler.OneCycleLR(optimizer, **{"max_lr": peaks, "total_steps": updates, **arguments})
    if name == "plateau":
        return ReduceLROnPlateau(optimizer, **arguments)
    if name in TORCH:
        kind: type[LRScheduler] = getattr(lr_scheduler, name)
        return kind(optimizer, **arguments)
    rest = max(1, updates - warmup)
    main: LRScheduler
    if name == "cosine":
        main = lr_scheduler.CosineAnnealingLR(optimizer, **{"T_max": rest, **arguments})
    elif name == "linear":
        end = {"start_factor": 1.0, "end_factor": 0.0, "total_iters": rest, **arguments}
        main = lr_scheduler.LinearLR(optimizer, **end)
    else:
        main = lr_scheduler.ConstantLR(optimizer, factor=1.0, **arguments)
    return _after_warmup(optimizer, main, warmup) if warmup else main


def _after_warmup(optimizer: optim.Optimizer, main: LRScheduler, warmup: int) -> LRScheduler:
    """The rate rises in a line over the first updates, from a part of it to all of it."""
    rising = lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return lr_scheduler.SequentialLR(optimizer, [rising, main], milestones=[warmup])


def _warmup_updates(warmup: float, updates: int) -> int:
    return round(warmup * updates) if warmup < 1 else int(warmup)
