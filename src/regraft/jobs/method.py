"""The training method of a job, as `train` takes it."""

from collections.abc import Sequence
from dataclasses import fields

from regraft.jobs.sections import StepsTable, TrainSection, section_values
from regraft.learning.old_keywords import translated
from regraft.learning.solvers import Exact, Solver, Steps


def solver_of(section: TrainSection) -> Solver | Sequence[Solver]:
    """The solver of [train.steps] or [train.exact], or of the same keys in [train]."""
    if section.exact is not None:
        return Exact(**section_values(section.exact))
    values = {entry.name: getattr(section.steps_keys, entry.name) for entry in fields(StepsTable)}
    keys = {name: value for name, value in values.items() if value is not None}
    return translated(section.solver, keys) if section.steps is None else Steps(**keys)
