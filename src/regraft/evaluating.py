"""Evaluate a model or a head on labelled examples."""

from collections.abc import Sequence

from torch import nn

from regraft.errors import TrainError
from regraft.learning.batches import in_memory
from regraft.learning.learner import Learner
from regraft.learning.metrics import GivenMetrics
from regraft.learning.request import GivenLoss, Request, WeightedLoss, remembered
from regraft.learning.scoring import Score, score
from regraft.tasks.kinds import GivenTask
from regraft.tensors.pad_values import GivenPads
from regraft.tensors.threads import threads_for

__all__ = ["Score", "evaluate"]


def evaluate(
    model: nn.Module,
    dataset: object,
    *,
    task: GivenTask = None,
    loss: GivenLoss = None,
    metrics: GivenMetrics = None,
    classes: Sequence[str] = (),
    pad: GivenPads = None,
    batch_size: int = 64,
) -> Score:
    """Loss and metrics of a model on a data set, or of a head on features; accuracy, confusion and scores by class.

    dataset     labelled examples: a torch data set, an (inputs, labels) pair of tensors, or features
    task, loss  as in `train`. None: those by which `train` has trained this model last, but for a function of your own;
                else inferred
    metrics     names or torchmetrics objects; None: those of the task
    classes     the names of the classes in their order, where labels are texts; those of `train` are known
    pad         as in `train`
    batch_size  examples per call; 64 is also how features are built, so both ways see the same batches

    The model is in evaluation mode meanwhile; modes and weights are afterwards as they were.

    Raises TrainError for a whole model with cached features, and for features of other frozen weights than the model
    has now; DataError for an empty data set, and for labels that do not fit (it names the example).
    """
    if isinstance(loss, WeightedLoss) and loss.sample_weights is not None:
        raise TrainError("sample_weights belong to training examples; evaluate counts every example alike.")
    learner = Learner(model)
    trained = remembered(learner.model)
    if trained is not None:
        classes = classes or trained.classes
        if task is None and loss is None:
            task, loss = trained.task, trained.known
    examples = learner.examples(dataset, classes=classes, pad=pad)
    learner.refuse_stale(examples, {}, trains=False)
    learner.refuse_padding(examples, batch_size)
    request = Request(task, loss, metrics)
    with threads_for(learner.work_of(batch_size)):
        return score(learner, in_memory(examples, learner.device), request, batch_size=batch_size, metrics=metrics)
