"""A job's model with its plan: built by a factory of the user's, or from the checkpoint itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from regraft.arrays import Checkpoint
from regraft.building import planned_network
from regraft.errors import JobError
from regraft.jobs.factories import build_model
from regraft.jobs.job import Job
from regraft.jobs.layers import refuse_unknown_layers
from regraft.jobs.parts import training_classes
from regraft.jobs.sections import section_values
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
    model = build_model(job.model.factory, job.model.args, folder=job.folder)
    refuse_unknown_layers(model, job)  # the checkpoint need not even be there
    checkpoint = open_checkpoint(job.path(job.checkpoint.path))
    return Planned(model, checkpoint, plan_reuse(checkpoint, model, **section_values(job.plan)))


def _from_checkpoint(job: Job) -> Planned:
    """The network of the checkpoint, with a new head for the classes of the data unless the job says otherwise."""
    changed = [key for key, value in section_values(job.plan).items() if value != getattr(type(job.plan)(), key)]
    if changed:
        raise JobError(
            f'[plan] {", ".join(changed)} has no effect with [model] factory = "checkpoint": all layers of the '
            "network are those of the file. Leave it out."
        )
    checkpoint = open_checkpoint(job.path(job.checkpoint.path))
    built = planned_network(checkpoint, head=_head(job))
    return Planned(built.model, checkpoint, built.plan, built.image, built.notes)


def _head(job: Job) -> Mapping[str, Any] | None:
    """The new head: as [model] args has it, without a number of classes that of the data; None keeps the file's."""
    unknown = sorted(job.model.args.keys() - {"head"})
    given = job.model.args.get("head", {})
    if unknown or not (given is False or isinstance(given, Mapping)):
        raise JobError(
            f"[model] args is {dict(job.model.args)}. A network from the checkpoint takes head = {{classes = 6}}, "
            'head = {layer = "conv_preds"} for another layer than the last one, or head = false to keep the head.'
        )
    if given is False:
        return None
    return given if "classes" in given else {**given, "classes": training_classes(job)}
