"""The search ends with a proven cut."""

import torch
from torch import nn

from regraft.cuts.searching import Search, record_sizes
from regraft.cuts.varying import batch_of
from splits import example, frozen


def found(model, *args, at=None):
    batch = batch_of(args, {})
    record, sizes = record_sizes(model, batch, is_training=True)
    return Search(model, record, sizes, batch, at=at, is_training=True).proven()


class Mixes(nn.Module):
    """Subtracts the batch's mean between two frozen layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        hidden = self.first(x)
        return self.last(self.second(hidden - hidden.mean(0)))


def test_the_cut_goes_before_what_mixes_the_examples():
    """The frozen layer behind it runs in the head: a cache of it would be wrong."""
    run = found(frozen(Mixes()), example())
    assert list(run.choice.leaves) == ["first"]
    assert run.by_row


def test_a_graph_splits_for_its_batch_as_a_whole():
    """Its nodes are no independent examples."""

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x, edges):
            hidden = torch.zeros_like(x).index_add(0, edges[1], self.first(x)[edges[0]])
            return self.last(torch.zeros_like(x).index_add(0, edges[1], hidden[edges[0]]))

    model = frozen(Graph(), "first")
    edges = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]])
    run = found(model, example(), edges)
    assert not run.by_row
    model.eval()
    assert torch.equal(run.head(run.trunk((example(), edges), {})), model(example(), edges))


def test_lengths_that_the_model_does_not_take_are_no_symbols():
    """A linear layer over the length takes one length."""
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))
    _, sizes = record_sizes(model, batch_of((example(),), {}), is_training=False)
    assert sizes.example == {"rows": 4}
    _, sizes = record_sizes(model, batch_of((torch.zeros(2, 8, 6),), {}), is_training=False)
    assert sizes.example == {"rows": 2, "length of 0": 8}
