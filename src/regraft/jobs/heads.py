"""A job's head on several layers, and the advice on depth that it asks for."""

from torch import nn

from regraft.advising import advise
from regraft.datasets.labelled import Labelled
from regraft.depths.depth_advice import DepthAdvice
from regraft.errors import TrainError
from regraft.foundation.patterns import exact_pattern
from regraft.jobs.job import Job
from regraft.jobs.sections import ADVISED, ALL_LAYERS, AdviseSection, section_values
from regraft.layer_heads import head_on_layers
from regraft.plan import Plan


def advice_for(model: nn.Module, data: Labelled, plan: Plan, job: Job) -> DepthAdvice:
    """The advice on the training examples, for the layers that the plan restored; stored where the features are."""
    return advise(
        model,
        data,
        fresh=fresh_parameters(model, plan),
        store=job.path(job.cache.folder) if job.cache.folder else None,
        batch_size=job.cache.batch_size,
        seed=job.train.seed,
        **section_values(job.advise or AdviseSection()),
    )


def needs_advice(job: Job) -> bool:
    """Whether the job asks for advice, by its section or by [head] layers = "advised"."""
    return job.advise is not None or job.head.layers == ADVISED


def with_head(model: nn.Module, data: Labelled, plan: Plan, job: Job, advice: DepthAdvice | None) -> nn.Module:
    """The model with the head of [head] on its layers; the model itself without such a section.

    Raises TrainError where the layers are to be advised and none is.
    """
    layers = job.head.layers
    if layers is None:
        return model
    if layers == ADVISED:
        if advice is None or not advice.layers:
            raise TrainError(
                f'[head] layers is "{ADVISED}", and no layer is advised.\n{advice.sentences[0] if advice else ""}'
            )
        layers = advice.layers
    chosen = None if layers == ALL_LAYERS else layers
    return head_on_layers(model, data, len(data.classes), layers=chosen, fresh=fresh_parameters(model, plan))


def fresh_parameters(model: nn.Module, plan: Plan) -> list[str]:
    """Patterns of the parameters that the plan did not restore: what lies behind them is no pretrained layer."""
    restored = {row.target for row in plan.reused}
    return [exact_pattern(name) for name, _ in model.named_parameters() if name not in restored]
