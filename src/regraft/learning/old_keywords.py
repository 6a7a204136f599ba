"""The keywords that `train` took before there were `Steps` and `Exact`: still accepted, with a warning."""

import warnings
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from regraft.errors import TrainError
from regraft.foundation.wording import near_names
from regraft.learning.solvers import Exact, Solver, Steps

OLD_SOLVERS, OLD_STEPS = ("steps", "lbfgs"), ("auto", "eager")
BOTH = ("weight_decay", "batch_size")  # given alone, these left the choice to the head and the loss
KEYWORDS = ["step", "optimizer", "lr", "weight_decay", "epochs", "batch_size", "patience", "clip_value", "clip_norm",
            "precision", "order", "schedule"]  # fmt: skip
OTHER_NAMES = {
    "lr_scheduler": "lr_schedule",
    "lr_scheduler_type": "lr_schedule",
    "scheduler": "lr_schedule",
    "learning_rate": "lr",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "warmup_ratio": "warmup",
    "warmup_steps": "warmup",
    "gradient_accumulation_steps": "accumulate",
    "accumulate_grad_batches": "accumulate",
    "max_grad_norm": "clip_norm",
    "ema_decay": "averaging",
    "swa": "averaging",
}  # as other libraries call the arguments of `Steps`
NEW_KEYWORDS = ["validation", "task", "loss", "metrics", "classes", "pad", "solver", "seed"]


def solvers_from(solver: object, old: Mapping[str, object]) -> list[Solver]:
    """What `solver` and the old keywords ask for, in order of preference. Warns with the present form.

    solver  None, "steps" or "lbfgs", as in the old form

    Raises TypeError for unknown keywords, TrainError for values that make no sense. To be called by `train` itself: the
    warning names its caller.
    """
    _refuse_unknown(old)
    if not isinstance(solver, str | None):
        raise TypeError(f"train() takes {', '.join(old)} as arguments of the solver: pass them to {solver!r}.")
    given = {name: value for name, value in old.items() if value is not None}
    solvers = translated(solver, given)
    present = " or, for one linear layer, ".join(f"solver={value!r}" for value in reversed(solvers))
    words = {"solver": solver, **given} if solver else given
    warnings.warn(
        f"train(…, {', '.join(f'{name}={value!r}' for name, value in words.items())}) is deprecated. Pass {present}.",
        DeprecationWarning,
        stacklevel=3,
    )
    return solvers


def _refuse_unknown(old: Mapping[str, object]) -> None:
    """Raise TypeError that shows what to pass for an argument of `Steps`, also for another usual name of it."""
    unknown = [name for name in old if name not in KEYWORDS]
    if not unknown:
        return
    known = [field.name for field in fields(Steps)]
    meant = {name: OTHER_NAMES.get(name, name) for name in old}
    if all(name in known for name in meant.values()):
        given = ", ".join(f"{name}={old[other]!r}" for other, name in meant.items())
        raise TypeError(f"train() takes no argument {', '.join(unknown)}. Pass solver=regraft.Steps({given}).")
    near = near_names(unknown[0], [*NEW_KEYWORDS, *known])
    raise TypeError(
        f"train() got an unexpected keyword argument {unknown[0]!r}. {near} The arguments of the method, {KEYWORDS[1]} "
        f"to {KEYWORDS[-1]}, go into solver=Steps(…)."
    )


def translated(solver: str | None, given: Mapping[str, Any]) -> list[Solver]:
    """The old form's meaning: any keyword but those in BOTH asked for gradient steps, unless "lbfgs" was asked for."""
    step = given.get("step", "auto")
    _refuse_unknown_words({"solver": solver or "steps", "step": step})
    steps = Steps(**{name: value for name, value in given.items() if name != "step"}, traced=step == "auto")
    if solver == "steps" or (solver is None and _asks_for_steps(given)):
        return [steps]
    exact = Exact(weight_decay=given.get("weight_decay"))
    return [exact] if solver == "lbfgs" else [exact, steps]


def _refuse_unknown_words(words: Mapping[str, str]) -> None:
    known = {"solver": OLD_SOLVERS, "step": OLD_STEPS}
    problems = [
        f"There is no {name} {word!r}. {near_names(word, known[name])}"
        for name, word in words.items()
        if word not in known[name]
    ]
    if problems:
        raise TrainError("\n".join(problems))


def _asks_for_steps(given: Mapping[str, object]) -> bool:
    usual = {"precision": "float32", "step": "auto"}
    return any(name not in BOTH and usual.get(name) != value for name, value in given.items())
