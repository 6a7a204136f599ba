"""Evaluate a model or a head on labelled examples."""

from torch import nn

from regraft.examples import as_examples
from regraft.learning.batches import in_memory
from regraft.learning.learner import Learner
from regraft.learning.losses import Loss, as_loss
from regraft.learning.scoring import Score, score

__all__ = ["Score", "evaluate"]


def evaluate(model: nn.Module, dataset: object, *, loss: Loss = "cross_entropy", batch_size: int = 64) -> Score:
    """Accuracy with its standard error, mean loss and confusion of a model on a data set, or of a head on features.

    dataset     labelled examples: a torch data set, an (inputs, labels) pair of tensors, or features
    loss        "cross_entropy", "mean_squared_error", or a function (outputs, labels) → mean of the batch
    batch_size  examples per call; 64 is also how features are built, so both ways see the same batches

    The model is in evaluation mode meanwhile; modes and weights are afterwards as they were.

    Raises TrainError for a whole model with cached features, and for features of other frozen weights than the model
    has now; DataError for an empty data set, and for labels that do not fit (it names the example).
    """
    learner = Learner(model)
    examples = as_examples(dataset)
    learner.refuse_features(examples)
    learner.refuse_stale(examples, {}, trains=False)
    learner.refuse_padding(examples, batch_size)
    return score(learner, in_memory(examples, learner.device), as_loss(loss), batch_size=batch_size)
