"""One training step: forward, loss, gradients, update."""

from contextlib import AbstractContextManager, nullcontext
from typing import final

import torch
from torch import Tensor, nn, optim

from regraft.errors import TrainError, near_names
from regraft.examples import Inputs
from regraft.learners import Learner
from regraft.losses import LossFunction

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


@final
class EagerStep:
    """The plain step, operator by operator: the reference for every faster one."""

    def __init__(
        self,
        learner: Learner,
        loss: LossFunction,
        optimizer: optim.Optimizer,
        *,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        precision: str = "float32",
    ) -> None:
        self.learner, self.loss, self.optimizer = learner, loss, optimizer
        self.clip_value, self.clip_norm, self.precision = clip_value, clip_norm, precision

    def __call__(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """Move the parameters by one batch; returns the loss before the move, a scalar without gradient."""
        self.optimizer.zero_grad(set_to_none=True)
        with lower_precision(self.precision, labels.device):
            loss = self.loss(self.learner.outputs(inputs), labels)
        loss.backward()
        if self.clip_value is not None:
            nn.utils.clip_grad_value_(self.learner.parameters, self.clip_value)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.learner.parameters, self.clip_norm)
        self.optimizer.step()
        return loss.detach()


def lower_precision(precision: str, device: torch.device) -> AbstractContextManager:
    """torch's autocast for "bfloat16", nothing for "float32". Parameters and updates stay in their own precision.

    Raises TrainError for any other name.
    """
    if precision not in PRECISIONS:
        raise TrainError(f"There is no precision {precision!r}. {near_names(precision, PRECISIONS)}")
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
