"""Where a model can be cut."""

import pytest
import torch
from torch import nn

from regraft.cuts.batches import batch_of
from regraft.cuts.search import record_sizes
from regraft.depths.points import cut_points, points_of_places
from regraft.errors import SplitError


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return (x + self.second(self.first(x).relu())).relu()


class Network(nn.Module):
    """A stem with a functional activation, two blocks, a mean and a head; a mask that passes all by."""

    def __init__(self):
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 8, 3), nn.Sequential(Block(8), Block(8))
        self.hidden, self.head = nn.Linear(8, 256), nn.Linear(256, 2)

    def forward(self, x, mask):
        x = self.blocks(self.stem(x).clamp(0, 6)).mean((2, 3))
        return self.head(torch.tanh(self.hidden(x))) * mask[:, :1]


def recorded(model, *inputs):
    return record_sizes(model, batch_of(inputs, {}), is_training=False)


def points(model, *inputs):
    return cut_points(*recorded(model, *inputs))


def test_the_last_tensor_between_two_costly_layers_counts():
    """After activations and means, never inside a block; not what the last layer gives."""
    found = points(Network(), torch.randn(2, 3, 12, 12), torch.ones(2, 2))

    assert [(point.layer, point.place) for point in found] == [
        ("stem", "input of blocks"),
        ("blocks.0", "blocks.0"),
        ("blocks", "input of hidden"),
        ("hidden", "input of head"),
    ]
    assert [point.width for point in found] == [8, 8, 8, 256]
    assert [point.mean.axes for point in found] == [(1, 2), (1, 2), (), ()]
    assert found[0].bytes_per_example == 8 * 10 * 10 * 4
    saved = [point.work_saved for point in found]
    assert saved == sorted(saved)
    assert 0 < saved[0] < 0.2 < 0.9 < saved[-1] < 1


def test_layers_by_name_come_in_the_order_of_the_forward():
    """Outputs, and inputs by "input of"."""
    model, inputs = Network(), (torch.randn(2, 3, 12, 12), torch.ones(2, 2))

    found = points_of_places(*recorded(model, *inputs), ["input of head", "blocks.1.second", "stem"])

    assert [point.layer for point in found] == ["stem", "blocks.1.second", "hidden"]
    with pytest.raises(SplitError, match="No mean can be taken of unknown"):
        points_of_places(*recorded(model, *inputs), ["stem", "unknown"])


def test_a_mask_made_of_the_input_does_not_pass_by():
    """It depends on no parameter."""

    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.one, self.two, self.head = (
                nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2),
            )  # fmt: skip

        def forward(self, ids):
            mask = (ids > 0)[..., None].float()
            x = self.embedding(ids) * mask
            x = self.one(x).relu() * mask
            return self.head((self.two(x).relu() * mask).sum(1))

    found = points(Text(), torch.randint(9, (2, 5)))

    assert [point.layer for point in found] == ["embedding", "one", "two"]


def test_nothing_behind_weights_that_were_not_restored_is_a_point():
    """They know nothing yet."""
    record, sizes = recorded(Network(), torch.randn(2, 3, 12, 12), torch.ones(2, 2))
    found = cut_points(record, sizes, ["blocks.1.second.weight", "head.bias"])
    assert [point.layer for point in found] == ["stem", "blocks.0"]
