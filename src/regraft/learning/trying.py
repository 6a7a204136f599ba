"""A try before training: two examples through model and loss, so that what cannot work is refused at once."""

import torch
from torch import Tensor

from regraft.errors import TrainError
from regraft.examples import Examples
from regraft.learning.eager_step import lower_precision
from regraft.learning.learner import Learner, to_device
from regraft.learning.losses import LabelCheck, LossFunction, class_count


def try_out(learner: Learner, examples: Examples, loss: LossFunction, precision: str) -> LabelCheck | None:
    """Run two examples forward, and check all labels that are at hand; nothing is changed.

    Returns the check that the labels of the first epoch must pass; None where all labels were at hand and passed.
    """
    indices = torch.arange(min(2, len(examples)))
    inputs, labels = examples.gather(indices)
    labels = labels.to(learner.device)
    learner.model.eval()
    with torch.no_grad(), lower_precision(precision, learner.device):
        outputs = learner.outputs(to_device(inputs, learner.device))
        check = _label_check(outputs, labels, indices, examples)
        value = loss(outputs, labels)
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise TrainError(f"The loss has the shape {shape}, expected one number for the batch: return its mean.")
    return check if examples.labels is None else None


def _label_check(outputs: object, labels: Tensor, indices: Tensor, examples: Examples) -> LabelCheck | None:
    """The check for these outputs, after these labels and all that are at hand passed it; None without classes."""
    classes = class_count(outputs, labels)
    if not classes:
        return None
    check = LabelCheck(classes)
    check.look(labels, indices)
    if examples.labels is not None:
        check.look(examples.labels)
        check.finish()
    return check
