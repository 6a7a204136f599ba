"""The moving average of the weights."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from regraft.learning.averaging import MovingAverage


def test_the_average_is_that_of_torch():
    model = nn.Linear(3, 2)
    average, reference = MovingAverage(0.9), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.add(list(model.parameters()))
    reference.update_parameters(model)
    for _ in range(5):
        with torch.no_grad():
            model.weight += torch.randn(2, 3)
        average.update()
        reference.update_parameters(model)

    trained = model.weight.detach().clone()
    with average.in_model():
        assert torch.equal(model.weight, reference.module.weight)
    assert torch.equal(model.weight, trained)
