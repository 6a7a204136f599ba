"""The exponential moving average of the weights, which is what is scored and kept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn


@final
class MovingAverage:
    """average ← decay · average + (1 - decay) · weight after each update, as torch's `swa_utils.get_ema_multi_avg_fn`.

    Buffers (BatchNorm's statistics) stay those of the training.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.averages: dict[nn.Parameter, Tensor] = {}

    def add(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average these, too, from their present values on."""
        for parameter in parameters:
            self.averages.setdefault(parameter, parameter.detach().clone())

    def update(self) -> None:
        """Take in the weights after an update."""
        values = [parameter.detach() for parameter in self.averages]
        torch._foreach_lerp_([*self.averages.values()], values, 1 - self.decay)

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
