"""A job's layers: those that it names must exist, and those of [freeze] are frozen."""

from typing import Any

from torch import nn

from regraft.cuts.frozen import names_of
from regraft.errors import PatternError, TrainError
from regraft.foundation.patterns import WHOLE_NAMES, Patterns, as_patterns, choose
from regraft.freezing import freeze
from regraft.jobs.job import Job
from regraft.jobs.sections import ADVISED, ALL_LAYERS, section_values
from regraft.learning.schedules import EPOCHS
from regraft.learning.stages import check_schedule


def refuse_unknown_layers(model: nn.Module, job: Job) -> None:
    """Raise PatternError with every pattern of [freeze], [head], [advise] and the schedule that matches nothing."""
    problems = []
    for key, wanted in _patterns_of(job).items():
        try:
            choose(names_of(model), wanted or ())
        except PatternError as error:
            problems += [f"  {key}: {line}" for line in str(error).splitlines()[:-1]]
    if problems:
        raise PatternError("\n".join(["The job names layers that the model does not have.", *problems, WHOLE_NAMES]))


def _patterns_of(job: Job) -> dict[str, Patterns | None]:
    """The patterns of layers, by the key in the job."""
    patterns: dict[str, Patterns | None] = {
        "[freeze] layers": job.freeze.layers,
        "[freeze] trainable": job.freeze.trainable,
    }
    home = "train" if job.train.steps is None else "train.steps"
    schedule = job.train.steps_keys.schedule or {}
    if job.head.layers not in (ALL_LAYERS, ADVISED):
        patterns["[head] layers"] = job.head.layers
    if job.advise is not None:
        patterns["[advise] cuts"] = job.advise.cuts
    return patterns | {f"[{home}] schedule, epoch {epoch}": layers for epoch, layers in schedule.items()}


def freeze_layers(model: nn.Module, job: Job) -> None:
    """Freeze what the job says; without [freeze], all that its schedule never trains, or nothing.

    Raises TrainError when nothing is left to train, and for a schedule that cannot be followed: before features are
    computed, which may take hours.
    """
    chosen = _choice_of(job)
    if chosen:
        freeze(model, **chosen)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainError("[freeze] leaves nothing to train: all parameters are frozen. Leave the new layers out of it.")
    steps = job.train.steps_keys
    if steps.schedule is not None:
        check_schedule(model, steps.schedule, steps.epochs or EPOCHS)


def _choice_of(job: Job) -> dict[str, Any]:
    """The arguments of `freeze`; none where nothing is frozen."""
    chosen = {name: value for name, value in section_values(job.freeze).items() if value is not None}
    schedule = job.train.steps_keys.schedule
    if chosen or not schedule:
        return chosen
    return {"trainable": [pattern for patterns in schedule.values() for pattern in as_patterns(patterns)]}
