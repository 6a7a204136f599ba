"""A try before training: two examples through model and loss, so that what cannot work is refused at once."""

import torch
from torch import Tensor

from regraft.errors import TrainError
from regraft.examples import Examples
from regraft.learning.eager_step import lower_precision
from regraft.learning.labels import LabelCheck, label_check
from regraft.learning.learner import Learner, to_device
from regraft.learning.losses import LossFunction
from regraft.learning.python_state import PythonState


def try_out(learner: Learner, examples: Examples, loss: LossFunction, precision: str) -> LabelCheck | None:
    """Run two examples forward, and check all labels that are at hand; nothing is changed.

    Returns the check that the labels of the first epoch must pass; None where all labels were at hand and passed.
    """
    indices = torch.arange(min(2, len(examples)))
    inputs, labels = examples.gather(indices)
    labels = labels.to(learner.device)
    python = PythonState(learner.model, loss)
    learner.model.eval()
    try:
        with torch.no_grad(), lower_precision(precision, learner.device):
            outputs = learner.outputs(to_device(inputs, learner.device))
            check = label_check(loss, outputs, labels)
            if check is not None:
                _check_known(check, labels, indices, examples.labels)
            value = loss(outputs, labels)
    finally:
        python.restore()  # a loss that counts its calls has not been called
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise TrainError(f"The loss has the shape {shape}, expected one number for the batch: return its mean.")
    return check if examples.labels is None else None


def _check_known(check: LabelCheck, labels: Tensor, indices: Tensor, every: Tensor | None) -> None:
    """Check the first labels, and all where they are at hand."""
    check.look(labels, indices)
    if every is not None:
        check.look(every)
        check.finish()
