"""One training step: forward, loss, gradients, update."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, final

import torch
from torch import Tensor, nn, optim

from regraft.errors import TrainError, near_names
from regraft.examples import Inputs
from regraft.learning.learners import Learner
from regraft.learning.losses import LossFunction

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


class Step(Protocol):
    """Moves the parameters by one batch."""

    def __call__(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """The loss before the move, a scalar without gradient."""


@final
class EagerStep:
    """The plain step, operator by operator: the reference for every faster one.

    Limits gradients by value, then by length, where it is told to.
    """

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
        loss = self.differentiate(inputs, labels)
        self.optimizer.step()
        return loss

    def differentiate(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """The step without the move: the loss; the gradients are in the parameters' `.grad`."""
        with torch.enable_grad():
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.forward(inputs, labels)
            loss.backward()
            self.limit_gradients()
        return loss.detach()

    def forward(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """The loss of a batch, to be differentiated."""
        with lower_precision(self.precision, labels.device):
            return self.loss(self.learner.outputs(inputs), labels)

    def limit_gradients(self) -> None:
        """Clip what `backward` has left in the parameters' `.grad`."""
        if self.clip_value is not None:
            nn.utils.clip_grad_value_(self.learner.parameters, self.clip_value)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.learner.parameters, self.clip_norm)


def lower_precision(precision: str, device: torch.device) -> AbstractContextManager:
    """torch's autocast for "bfloat16", nothing for "float32". Parameters and updates stay in their own precision.

    Raises TrainError for any other name.
    """
    if precision not in PRECISIONS:
        raise TrainError(f"There is no precision {precision!r}. {near_names(precision, PRECISIONS)}")
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
