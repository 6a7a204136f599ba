"""The training method of a job, as `train` takes it."""

from collections.abc import Sequence
from dataclasses import fields, replace

import torch

from regraft.datasets.labelled import Labelled
from regraft.jobs.sections import StepsTable, TrainSection, section_values
from regraft.learning.callbacks import GivenCallback
from regraft.learning.checkpoints import Checkpoints
from regraft.learning.losses import balanced_weights
from regraft.learning.metrics import higher_is_better
from regraft.learning.old_keywords import translated
from regraft.learning.request import ClassWeights, Request, WeightedLoss
from regraft.learning.solvers import Exact, Solver, Steps
from regraft.tasks.kinds import as_task


def solvers_of(section: TrainSection) -> list[Solver]:
    """The solvers of [train.steps] or [train.exact], or of the same keys in [train], in order of preference.

    Raises TrainError for values that make no sense.
    """
    if section.exact is not None:
        return [Exact(**section_values(section.exact))]
    values = {entry.name: getattr(section.steps_keys, entry.name) for entry in fields(StepsTable)}
    keys = {name: value for name, value in values.items() if value is not None}
    if "ema" in keys:  # its name in earlier jobs
        keys["averaging"] = keys.pop("ema")
    return translated(section.solver, keys) if section.steps is None else [Steps(**keys)]


def watched(
    solvers: Sequence[Solver], checkpoints: Checkpoints | None, callbacks: Sequence[GivenCallback]
) -> list[Solver]:
    """The same with checkpoints and callbacks for gradient steps."""
    return [
        replace(solver, checkpoints=checkpoints, callbacks=tuple(callbacks)) if isinstance(solver, Steps) else solver
        for solver in solvers
    ]


def request_of(section: TrainSection, dataset: Labelled) -> Request:
    """What is to be minimised and measured. Raises TrainError for an unknown name."""
    weights: ClassWeights = section.class_weights
    if weights == "balanced" and dataset.labels is None and dataset.classes:
        positions = torch.cat([dataset.label_of(index).reshape(-1) for index in range(len(dataset))])
        weights = balanced_weights(positions, len(dataset.classes)).tolist()
    loss = WeightedLoss(section.loss, weights, section.label_smoothing)
    return Request(dataset.target.given_task, loss, section.metrics)


def monitored(solvers: Sequence[Solver], request: Request) -> None:
    """Raise TrainError where the best epoch is chosen by a metric that is not computed."""
    task = as_task(request.task) if request.task is not None else None
    for solver in solvers:
        if isinstance(solver, Steps) and solver.monitor != "loss":
            higher_is_better(solver.monitor, request.metrics, task)
