"""Which axis holds the channels."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regraft.cuts.batches import batch_of
from regraft.cuts.channels import channel_axis
from regraft.cuts.record import values_in
from regraft.cuts.search import record_sizes


class Model(nn.Module):
    """One convolution and one linear layer, and a function of their outputs."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.linear, self.function = nn.Conv2d(3, 8, 3), nn.Linear(8, 5), function

    def forward(self, x):
        return self.function(self, self.conv(x))


CASES = {
    "convolution": (lambda model, x: F.relu(x) + x, 1),
    "gated": (lambda model, x: x * x.mean((2, 3), keepdim=True).sigmoid(), 1),
    "joined": (lambda model, x: torch.cat([x, x.sigmoid()], 1), 1),
    "tokens": (lambda model, x: x.flatten(2).transpose(1, 2), 2),
    "channels last": (lambda model, x: model.linear(x.permute(0, 2, 3, 1)), 3),
    "and back": (lambda model, x: model.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) * 2, 1),
    "first token": (lambda model, x: x.flatten(2).mT, 2),
    "merged": (lambda model, x: x.flatten(1), None),
    "two that disagree": (lambda model, x: x[:, :8, :8, :8] + x[:, :8, :8, :8].mT.transpose(1, 3), None),
    "the input": (lambda model, x: torch.zeros(2, 3, 4), None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_operations_decide(name):
    """As torch's functions define it, carried through what follows."""
    function, axis = CASES[name]
    batch = batch_of((torch.randn(2, 3, 12, 12),), {})
    record, _ = record_sizes(Model(function), batch, is_training=False)

    (value,) = values_in(record.calls[0].output)

    assert channel_axis(record, value) == axis


def test_a_long_chain_is_no_deep_recursion():
    """As of a network with hundreds of residual blocks."""

    def chain(model, x):
        for _ in range(1200):
            x = x + 1
        return x

    batch = batch_of((torch.randn(2, 3, 12, 12),), {})
    record, _ = record_sizes(Model(chain), batch, is_training=False)
    (value,) = values_in(record.calls[0].output)
    assert channel_axis(record, value) == 1
