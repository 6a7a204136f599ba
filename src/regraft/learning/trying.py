"""A try before training: two examples through model and loss, so that what cannot work is refused at once."""

import torch
from torch import Tensor

from regraft.errors import DataError, TrainError
from regraft.examples import Examples
from regraft.labels import Labels, filled
from regraft.learning.eager_step import lower_precision
from regraft.learning.learner import Learner, to_device
from regraft.learning.losses import unweighted
from regraft.learning.objective import Objective
from regraft.learning.python_state import PythonState
from regraft.learning.request import Request
from regraft.tasks.task import LabelCheck
from regraft.tensors.trees import Inputs, tensors_of

TRIED = 2  # examples


def try_out(
    learner: Learner, examples: Examples, request: Request, precision: str = "float32"
) -> tuple[Objective, LabelCheck | None]:
    """Run two examples forward, and check all labels that are at hand; nothing is changed.

    Returns the objective, and the check that the labels of the first epoch must pass; None where all labels were at
    hand and passed, or where the loss is the user's own.
    """
    indices = torch.arange(min(TRIED, len(examples)))
    inputs, labels = examples.gather(indices)
    labels = to_device(labels, learner.device)
    every = None if examples.labels is None else unweighted(examples.labels)
    python = PythonState(learner.model)
    learner.model.eval()
    try:
        with torch.no_grad(), lower_precision(precision, learner.device):
            outputs = learner.outputs(to_device(inputs, learner.device))
    except RuntimeError as error:
        _refuse_doubles(inputs, error)
        raise
    finally:
        python.restore()
    objective = request.objective(outputs, unweighted(labels), every=every, model=learner.model)
    check = _check(objective, outputs, unweighted(labels), indices, every)
    python = PythonState(learner.model, *objective.watched)
    try:
        with torch.no_grad(), lower_precision(precision, learner.device):
            _refuse_no_scalar(objective(outputs, labels))
    finally:
        python.restore()  # a loss that counts its calls has not been called
    return objective, check if every is None else None


def _check(
    objective: Objective, outputs: object, labels: Labels, indices: Tensor, every: Labels | None
) -> LabelCheck | None:
    """Check the first labels, and all where they are at hand; None for a loss of the user, which knows its own."""
    if objective.task is None or objective.is_own:
        return None
    check = objective.task.check(outputs, labels)
    check.look(labels, indices)
    if every is not None:
        check.look(filled(every))
        check.finish()
    return check


def _refuse_doubles(inputs: Inputs, error: RuntimeError) -> None:
    """Raise DataError for float64 inputs, as NumPy makes them, where the model takes float32 alone."""
    if "dtype" in str(error) and any(tensor.dtype == torch.float64 for tensor in tensors_of(inputs)):
        raise DataError(
            f"The inputs are float64, and the model takes another type: {error}.\nConvert them: inputs.float() in "
            'torch, inputs.astype("float32") in NumPy.'
        ) from error


def _refuse_no_scalar(value: object) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise TrainError(f"The loss has the shape {shape}, expected one number for the batch: return its mean.")
