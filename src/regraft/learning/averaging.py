"""The average of the weights, which is what is scored and kept: exponential, or the mean of the last epochs."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from regraft.learning.learner import Learner, to_device
from regraft.tensors.keeping import kept_generators
from regraft.tensors.trees import Inputs


@final
class AveragedWeights:
    """With a decay: average ← decay · average + (1 - decay) · weight after each update, as torch's
    `swa_utils.get_ema_multi_avg_fn`. Without: the mean of the weights at the end of each epoch from `start` on, as
    torch's `AveragedModel` (Izmailov et al., "Averaging weights leads to wider optima and better generalization",
    2018); before it the weights themselves.

    start  an epoch, from 0
    """

    def __init__(self, decay: float | None, start: int = 0) -> None:
        self.decay, self.start = decay, start
        self.averages: dict[nn.Parameter, Tensor] = {}

    def add(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average these, too, from their present values on: until now they were frozen."""
        for parameter in parameters:
            self.averages.setdefault(parameter, parameter.detach().clone())

    def after_update(self) -> None:
        """Take in the weights after an update, with a decay."""
        if self.decay is not None:
            self._move(1 - self.decay)

    def after_epoch(self, epoch: int) -> None:
        """Take in the weights at the end of an epoch, without a decay."""
        if self.decay is None:
            self._move(1 / max(1, epoch - self.start + 1))

    def is_apart(self, epoch: int) -> bool:
        """Whether the averages after this epoch are other values than the weights."""
        return self.decay is not None or epoch > self.start

    def _move(self, part: float) -> None:
        values = [parameter.detach() for parameter in self.averages]
        torch._foreach_lerp_([*self.averages.values()], values, part)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """The model has the averages in the block, and the weights of the training afterwards."""
        before = {parameter: parameter.detach().clone() for parameter in self.averages}
        self._write(self.averages)
        try:
            yield
        finally:
            self._write(before)

    def _write(self, values: dict[nn.Parameter, Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in values.items():
                parameter.copy_(value)


@contextmanager
def statistics_of_batches(learner: Learner, batches: Iterable[Inputs]) -> Iterator[None]:
    """In the block, BatchNorm's statistics are those of the present weights on these batches; afterwards as before.

    As torch's `swa_utils.update_bn`, for layers that train alone: statistics of frozen layers stay.

    batches  of inputs; looked at only where there are such layers
    """
    layers = _training_norms(learner)
    states = [{name: buffer.clone() for name, buffer in layer.named_buffers(recurse=False)} for layer in layers]
    if layers:
        _compute_statistics(learner, layers, batches)
    try:
        yield
    finally:
        for layer, state in zip(layers, states, strict=True):
            for name, buffer in layer.named_buffers(recurse=False):
                buffer.copy_(state[name])


def _training_norms(learner: Learner) -> list[_BatchNorm]:
    """The BatchNorm layers whose statistics change in training."""
    frozen = learner.frozen_tensors()
    return [
        layer
        for name, layer in learner.model.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None and f"{name}.running_mean" not in frozen
    ]


def _compute_statistics(learner: Learner, layers: Sequence[_BatchNorm], batches: Iterable[Inputs]) -> None:
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
    try:
        with kept_generators(), torch.no_grad():
            learner.model.train()
            for inputs in batches:
                learner.outputs(to_device(inputs, learner.device))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
