"""A job's model with its plan: built by a factory of the user's, or from the checkpoint itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from regraft.arrays import Checkpoint
from regraft.building import planned_network
from regraft.errors import JobError
from regraft.jobs.advice import spelled_for
from regraft.jobs.factories import model_by_spec
from regraft.jobs.job import Job
from regraft.jobs.layers import refuse_unknown_layers
from regraft.jobs.parts import training_classes
from regraft.jobs.sections import PlanSection, section_values
from regraft.matching import plan_reuse
from regraft.networks.preparation import ImageInput
from regraft.plan import Plan
from regraft.reading import open_checkpoint

FROM_CHECKPOINT = "checkpoint"  # the SPEC of the network that the checkpoint itself describes


@dataclass(frozen=True)
class Planned:
    """A job's model before its weights are restored.

    image  the image that a network from the checkpoint takes
    notes  what was assumed or left out when it was built
    """

    model: nn.Module
    checkpoint: Checkpoint
    plan: Plan
    image: ImageInput | None = None
    notes: tuple[str, ...] = ()


def planned_model(job: Job) -> Planned:
    """The model that [model] names, and the plan that restores it. Raises the error of what cannot go on."""
    if job.model.factory == FROM_CHECKPOINT:
        return _from_checkpoint(job)
    if job.model.head is not None:
        raise JobError('[model] head is for [model] factory = "checkpoint": your own factory makes the head itself.')
    model = model_by_spec(job.model.factory, job.model.args, folder=job.folder)
    refuse_unknown_layers(model, job)  # the checkpoint need not even be there
    checkpoint = open_checkpoint(job.path(job.checkpoint.path))
    return Planned(model, checkpoint, plan_reuse(checkpoint, model, **section_values(job.plan)))


def _from_checkpoint(job: Job) -> Planned:
    """The network of the checkpoint, with a new head for the classes of the data unless the job says otherwise."""
    idle = [f"[plan] {key}" for key, value in section_values(job.plan).items() if value != getattr(PlanSection(), key)]
    idle += [f"[model] args.{key}" for key in job.model.args if key not in ("chain", "shapes")]
    if idle:
        raise JobError(
            f'{", ".join(idle)} has no effect with [model] factory = "checkpoint": the layers of the network are those '
            "of the file. Leave it out."
        )
    checkpoint = open_checkpoint(job.path(job.checkpoint.path))
    with spelled_for("job"):
        built = planned_network(checkpoint, head=_head(job), **job.model.args)
    refuse_unknown_layers(built.model, job)
    return Planned(built.model, checkpoint, built.plan, built.image, built.notes)


def _head(job: Job) -> Mapping[str, Any] | None:
    """The new head as [model] has it, without a number of classes that of the data; None keeps the file's."""
    given = job.model.head
    if given is False:
        return None
    head = given if isinstance(given, Mapping) else {}
    return head if "classes" in head else {**head, "classes": training_classes(job)}
