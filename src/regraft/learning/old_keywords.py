"""The keywords that `train` took before there were `Steps` and `Exact`: still accepted, with a warning."""

import warnings
from collections.abc import Mapping
from typing import Any

from regraft.errors import TrainError
from regraft.foundation.wording import near_names
from regraft.learning.solvers import Exact, Solver, Steps

OLD_SOLVERS, OLD_STEPS = ("steps", "lbfgs"), ("auto", "eager")
BOTH = ("weight_decay", "batch_size")  # given alone, these left the choice to the head and the loss
KEYWORDS = ["step", "optimizer", "lr", "weight_decay", "epochs", "batch_size", "patience", "clip_value", "clip_norm",
            "precision", "order", "schedule"]  # fmt: skip
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
    for name in old:
        if name not in KEYWORDS:
            near = near_names(name, [*NEW_KEYWORDS, *KEYWORDS[1:]])
            method = f"The arguments of the method, {KEYWORDS[1]} to {KEYWORDS[-1]}, go into solver=Steps(…)."
            raise TypeError(f"train() got an unexpected keyword argument {name!r}. {near} {method}")


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
