"""One training step: forward, loss, gradients, update."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial, reduce
from inspect import Parameter, signature
from typing import Any, Literal, final

import torch
from torch import Tensor, nn, optim

from regraft.errors import TrainError
from regraft.foundation.wording import near_names
from regraft.learning.learner import Learner
from regraft.learning.objective import Objective
from regraft.learning.ranks import ALONE, Ranks
from regraft.tensors.trees import Inputs

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


TrainingStep = Callable[[Inputs, Any], Tensor]  # updates the parameters by one batch; its loss before the update


@final
class EagerStep:
    """The plain step, operator by operator: the reference for every faster one.

    Clips gradients by value, then by norm, where a limit is given. In "float16", whose smallest number is 6e-8, the
    loss is scaled up while gradients are computed; a step whose gradients overflow is skipped, and the scale halved
    (torch.amp.GradScaler; Micikevicius et al., "Mixed precision training", 2018).

    ranks        the processes that make each update together
    scaler       None but for "float16"
    reevaluates  whether the optimizer evaluates the loss itself, several times a step, as torch's LBFGS does
    """

    def __init__(
        self,
        learner: Learner,
        objective: Objective,
        optimizer: optim.Optimizer,
        *,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        precision: str = "float32",
        ranks: Ranks = ALONE,
    ) -> None:
        self.learner, self.objective, self.optimizer, self.ranks = learner, objective, optimizer, ranks
        self.clip_value, self.clip_norm, self.precision = clip_value, clip_norm, precision
        self.reevaluates = signature(optimizer.step).parameters["closure"].default is Parameter.empty
        self.scaler = torch.amp.GradScaler(learner.device.type) if precision == "float16" else None
        if self.reevaluates and self.scaler:
            raise TrainError(
                f"{type(optimizer).__name__} evaluates the loss several times a step, which float16 with its scaled "
                "loss cannot do. Use bfloat16 or float32 as the precision."
            )

    def __call__(self, inputs: Inputs, labels: object) -> Tensor:
        """Update the parameters by one batch; returns the loss before the update, a scalar without gradient."""
        if self.reevaluates:
            closure = partial(self.differentiate, inputs, labels)
            return self.optimizer.step(closure)  # type: ignore[arg-type, return-value]  # theirs gives a float
        loss = self.differentiate(inputs, labels)
        self._update()
        return loss

    def differentiate(self, inputs: Inputs, labels: object) -> Tensor:
        """The step without the update: the loss; the gradients are in the parameters' `.grad`."""
        with torch.enable_grad():
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.forward(inputs, labels)
            if self.scaler is None:
                torch.autograd.backward(loss)
            else:
                torch.autograd.backward(self.scaler.scale(loss))
                self.scaler.unscale_(self.optimizer)
            self.clip_gradients()
        return loss.detach()

    def forward(self, inputs: Inputs, labels: object) -> Tensor:
        """The loss of a batch, to be differentiated."""
        with lower_precision(self.precision, self.learner.device):
            return self.objective(self.learner.outputs(inputs), labels)

    def refuse_no_accumulation(self) -> None:
        """Raise TrainError where the gradients of several batches are not those of one large batch."""
        way_out = "accumulate=1" if self.ranks is ALONE else "one process"
        if self.reevaluates:
            raise TrainError(f"{type(self.optimizer).__name__} evaluates the loss several times a step: {way_out}.")
        if len(self.objective.parts) > 1 and not self.objective.counts_examples:
            raise TrainError(
                "The gradients of the parts of a batch are added by the number of their labels, and these tasks have "
                f"positions without labels, or weights, in different numbers. Train with {way_out}."
            )

    def accumulate(self, batches: Sequence[tuple[Inputs, object]]) -> tuple[Tensor, Tensor]:
        """Update the parameters by several batches, of all ranks, as by one of all their examples.

        returns  the loss of all batches, and what it counts among several, see `Objective.weight`

        The gradients of the batches are added up, each by what its loss is divided by, so that they are those of the
        large batch but for the order of the sums. Layers that look at the whole batch (BatchNorm) see the small ones.
        """
        device = self.learner.device
        loss, total = torch.zeros((), device=device), torch.zeros((), device=device)
        self.optimizer.zero_grad(set_to_none=True)
        for inputs, labels in batches:
            with torch.enable_grad():
                with lower_precision(self.precision, self.learner.device):
                    outputs = self.learner.outputs(inputs)
                    part = self.objective(outputs, labels)
                weight = self.objective.weight(labels)
                part = torch.where(torch.as_tensor(weight, device=part.device) > 0, part * weight, 0.0)
                torch.autograd.backward(part if self.scaler is None else self.scaler.scale(part))
            loss, total = loss + part.detach(), total + weight
        if self.ranks.are_several:
            loss, total = self._summed(torch.stack([loss.float(), total.float()]))
        if self.objective.is_sum:
            total = torch.ones_like(total)
        divisor = total.clamp(min=torch.finfo(total.dtype).tiny)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        for parameter in self.learner.parameters:
            if parameter.grad is not None:
                parameter.grad /= divisor
        self.clip_gradients()
        self._update()
        return loss / divisor, total

    def _summed(self, numbers: Tensor) -> Tensor:
        """Sum the gradients and these numbers over all ranks, in one message; returns the numbers.

        A parameter without a gradient in every rank keeps none, so that an optimizer leaves it alone.
        """
        parameters = self.learner.parameters
        dtype = reduce(torch.promote_types, (parameter.dtype for parameter in parameters), numbers.dtype)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in parameters]
        has_gradient = torch.tensor([p.grad is not None for p in parameters], dtype=dtype, device=numbers.device)
        pieces = [*(gradient.reshape(-1) for gradient in gradients), has_gradient, numbers]
        summed = self.ranks.sum(torch.cat([piece.to(dtype) for piece in pieces]))
        *summed_gradients, is_there, totals = summed.split([piece.numel() for piece in pieces])
        for parameter, values, ranks in zip(parameters, summed_gradients, is_there.tolist(), strict=True):
            parameter.grad = values.view_as(parameter).to(parameter.dtype) if ranks else None
        return numbers.copy_(totals)

    def _update(self) -> None:
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def clip_gradients(self) -> None:
        """Clip what `backward` has left in the parameters' `.grad`."""
        if self.clip_value is not None:
            nn.utils.clip_grad_value_(self.learner.parameters, self.clip_value)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.learner.parameters, self.clip_norm)


def lower_precision(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """torch's autocast for "bfloat16" and "float16", nothing for "float32".

    Parameters and updates stay in their own precision. Raises TrainError for any other name.
    """
    if precision not in PRECISIONS:
        raise TrainError(f"There is no precision {precision!r}. {near_names(precision, PRECISIONS)}")
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
