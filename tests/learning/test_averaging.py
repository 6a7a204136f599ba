"""The averages of the weights, and BatchNorm's statistics for them."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from regraft.freezing import freeze
from regraft.learning.averaging import AveragedWeights, statistics_of_batches
from regraft.learning.learner import Learner


def moved(model):
    with torch.no_grad():
        model.weight += torch.randn(2, 3)


def test_the_moving_average_is_that_of_torch():
    model = nn.Linear(3, 2)
    average, reference = AveragedWeights(0.9), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.add(list(model.parameters()))
    reference.update_parameters(model)
    for epoch in range(5):
        moved(model)
        average.after_update()
        average.after_epoch(epoch)
        reference.update_parameters(model)

    trained = model.weight.detach().clone()
    with average.in_model():
        assert torch.equal(model.weight, reference.module.weight)
    assert torch.equal(model.weight, trained)


def test_the_mean_of_the_last_epochs_is_that_of_torch():
    model = nn.Linear(3, 2)
    average, reference = AveragedWeights(None, start=2), AveragedModel(model)
    average.add(list(model.parameters()))
    for epoch in range(5):
        moved(model)
        average.after_update()
        average.after_epoch(epoch)
        assert average.is_apart(epoch) == (epoch > 2)
        if epoch >= 2:
            reference.update_parameters(model)
        with average.in_model():
            expected = model.weight if epoch < 2 else reference.module.weight
            assert torch.allclose(model.weight, expected, atol=1e-6)  # another order of sums


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_are_computed_again_for_layers_that_train(momentum):
    """As torch's own function does; those of frozen layers stay, and all are put back."""
    batches = torch.randn(6, 8, 3).unbind()

    def network():
        torch.manual_seed(0)
        norms = nn.BatchNorm1d(3), nn.BatchNorm1d(3, momentum=momentum)
        model = nn.Sequential(norms[0], nn.Dropout(0.5), norms[1], nn.BatchNorm1d(3, track_running_stats=False))
        freeze(model, "0")
        return model

    model, reference = network(), network()
    torch.manual_seed(1)
    update_bn(batches, nn.Sequential(*list(reference)[1:]))
    torch.manual_seed(1)

    with statistics_of_batches(Learner(model), batches):
        inside = {name: buffer.clone() for name, buffer in model.named_buffers()}

    assert torch.equal(inside["2.running_mean"], reference[2].running_mean) is False  # the frozen layer scales first
    assert int(inside["2.num_batches_tracked"]) == 6
    assert torch.equal(inside["0.running_mean"], torch.zeros(3))
    assert torch.equal(model[2].running_mean, torch.zeros(3))
    assert model[2].momentum == momentum
