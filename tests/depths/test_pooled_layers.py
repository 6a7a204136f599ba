"""The means of several layers as a plain module."""

import torch
from torch import nn

from regraft.depths.pooled_layers import PooledLayer, PooledLayers


def body():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(80, 2))


def test_the_means_are_those_of_the_layers_before_another_writes_into_them():
    """Outputs and inputs, scaled and joined; no hook stays."""
    model, x = body(), torch.randn(3, 3, 8, 8)
    layers = [
        PooledLayer("0", 0, 1, (1, 2), is_masked=False, columns=4, scale=2.0),
        PooledLayer("input of 2", 0, 1, (1, 2), is_masked=False, columns=4),
        PooledLayer("3", 0, 1, (), is_masked=False, columns=80),
    ]
    pooled = PooledLayers(model, layers)

    got = pooled(x)

    first = model[0](x)
    expected = [2 * first.mean((2, 3)), first.relu().mean((2, 3)), model[2](first.relu()).flatten(1)]
    assert torch.equal(got, torch.cat(expected, 1))
    assert pooled.columns == got.shape[1] == 88
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model)


def test_only_positions_of_the_mask_count():
    """As the model is called, by name or in its place."""

    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(9, 4)

        def forward(self, input_ids, attention_mask=None):
            return self.embedding(input_ids)

    model, ids, mask = Text(), torch.randint(9, (2, 5)), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    pooled = PooledLayers(model, [PooledLayer("embedding", 0, 1, (0,), is_masked=True, columns=4)])

    for got in (pooled(ids, mask), pooled(input_ids=ids, attention_mask=mask)):
        torch.testing.assert_close(got[0], model.embedding(ids[0, :3]).mean(0))
        torch.testing.assert_close(got[1], model.embedding(ids[1]).mean(0))
