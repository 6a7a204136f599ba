"""Keys of a job that cannot be followed together."""

from collections.abc import Iterator, Mapping
from typing import Any

from regraft.errors import PatternError
from regraft.foundation.patterns import Patterns, as_patterns
from regraft.foundation.wording import as_toml
from regraft.jobs.sections import TABLES, FreezeSection, StepsTable, keys_of
from regraft.learning.schedules import EPOCHS, form_problems

LOSSES_OF = {
    "multilabel": ("binary_cross_entropy",),
    "regression": ("mean_squared_error", "mean_absolute_error", "huber"),
}  # of any other task cross-entropy
Toml = Mapping[str, Any]  # a job or a section of it, as tomllib reads it


def contradictions(data: Toml) -> Iterator[str]:
    """A line for each pair of keys that cannot be followed together; values of wrong types are named elsewhere."""
    freeze, train, examples = (table_of(data.get(name)) for name in ("freeze", "train", "data"))
    choices = [key for key in keys_of(FreezeSection) if freeze.get(key) is not None]
    if len(choices) > 1:
        yield f"[freeze] has {' and '.join(choices)}: expected only one of {', '.join(keys_of(FreezeSection))}"
    yield from _head_problems(data)
    yield from _two_methods(train)
    yield from _loss_problems(train)
    tables = {f"train.{name}": table_of(train[name]) for name in TABLES if name in train} or {"train": train}
    for section, method in tables.items():
        yield from _schedule_problems(section, method)
        if examples.get("validation", 1) == 0:
            yield from _without_validation(section, method)


def _head_problems(data: Toml) -> Iterator[str]:
    """Problems of a head on several layers: it freezes the whole model, and is all that trains."""
    if table_of(data.get("head")).get("layers") is None:
        return
    train = table_of(data.get("train"))
    if any(value is not None for value in table_of(data.get("freeze")).values()):
        yield "[head] layers freezes every layer of the model: leave out [freeze]"
    if train.get("schedule") or table_of(train.get("steps")).get("schedule"):
        yield "[head] layers freezes every layer of the model: leave out the schedule"


def _schedule_problems(section: str, method: Toml) -> Iterator[str]:
    """Problems of a schedule that any model has."""
    schedule, epochs = _whole_numbers(method.get("schedule")), method.get("epochs") or EPOCHS
    if schedule and isinstance(epochs, int):
        for problem in form_problems(schedule, epochs):
            yield f"[{section}] schedule is {as_toml(method['schedule'])}: {problem}"
    if schedule and method.get("solver") == "lbfgs":
        yield '[train] solver is "lbfgs", which finds the optimum at once and has no epochs: leave out schedule'


def _two_methods(train: Toml) -> Iterator[str]:
    """Problems of a section that names more than one method, or another loss than the exact one can have."""
    tables = [f"[train.{name}]" for name in TABLES if name in train]
    flat = [key for key in (*keys_of(StepsTable), "solver") if key in train]
    if len(tables) > 1:
        yield f"there are {' and '.join(tables)}: expected only one of them"
    elif tables and flat:
        yield f"[train] has {', '.join(flat)} beside {tables[0]}: expected the keys of one method, in {tables[0]} alone"


def _loss_problems(train: Toml) -> Iterator[str]:
    """Problems of a loss that the method or the task cannot have."""
    exact, loss, task = _exact_in(train), train.get("loss"), train.get("task")
    if exact and (loss or "cross_entropy") != "cross_entropy":
        yield f'{exact} and loss is {as_toml(loss)}: expected loss = "cross_entropy"'
    if exact and (task or "classification") != "classification":
        yield f"{exact} and task is {as_toml(task)}: the exact optimum is that of a classification"
    wanted = LOSSES_OF.get(task, ("cross_entropy",)) if isinstance(task, str) else None
    if loss is not None and wanted is not None and loss not in wanted:
        losses = " or ".join(map(as_toml, wanted))
        yield f"[train] task is {as_toml(task)} and loss is {as_toml(loss)}: expected {losses}"


def _exact_in(train: Toml) -> str:
    """How the section asks for the exact method; "" when it does not."""
    if "exact" in train:
        return "[train.exact] is given"
    return '[train] solver is "lbfgs"' if train.get("solver") == "lbfgs" else ""


def _without_validation(section: str, method: Toml) -> Iterator[str]:
    """Problems of a job without validation examples."""
    none = "and [data] validation is 0: expected a part of the data"
    if method.get("patience") is not None:
        yield f"[{section}] patience waits for a lower validation loss, {none}"
    if method.get("monitor") not in (None, "loss"):
        yield f"[{section}] monitor is a metric of the validation, {none}"
    if method.get("lr_schedule") in ("plateau", "ReduceLROnPlateau"):
        yield f"[{section}] lr_schedule follows the validation, {none}"
    if any(isinstance(method.get(key), list) and len(method[key]) > 1 for key in ("lr", "weight_decay")):
        yield f"[{section}] several lr or weight_decay are compared by their validation loss, {none}"


def table_of(value: object) -> Toml:
    """The section; an empty one for a value that is none."""
    return value if isinstance(value, Mapping) else {}


def _whole_numbers(schedule: object) -> dict[int, Patterns]:
    """A schedule's layers by its epochs, which are texts in TOML; empty for what is no schedule."""
    try:
        return {int(epoch): list(as_patterns(patterns)) for epoch, patterns in schedule.items()}  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError, PatternError):
        return {}
