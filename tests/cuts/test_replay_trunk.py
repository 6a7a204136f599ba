"""The trunk follows the recorded way, or refuses."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from regraft.cuts.replay_trunk import TrunkRun, UnfitLeafError
from regraft.errors import SplitError
from splits import Branch, example, frozen, replay


class TwoWays(nn.Module):
    """Takes one of two frozen layers, by the data."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.last(self.first(x) if x.sum() > 0 else self.second(x))


def test_another_way_is_refused_by_name():
    """The layer that the example took is named."""
    run = replay(frozen(TwoWays()), torch.ones(4, 6))
    with pytest.raises(SplitError, match="first is not called as it was on the example"):
        run.trunk((-torch.ones(4, 6),), {})


def test_a_leaf_of_another_shape_is_refused():
    """Expected and got are told."""

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv1d(1, 2, 3), nn.AdaptiveAvgPool1d(1)
            self.out = nn.Conv1d(2, 2, 1)

        def forward(self, x):
            return self.last(self.out(self.first(x)))

    run = replay(frozen(Flat(), "first"), torch.randn(2, 1, 3))
    with pytest.raises(SplitError, match=r"first has the shape \(2, 2, 7\); by the example it would be \(2, 2, 1\)"):
        run.trunk((torch.randn(2, 1, 9),), {})


def test_other_numbers_of_a_kept_layer_are_refused():
    """They were made outside of torch, so only the trunk can notice."""

    class Told(nn.Module):
        number = 2

        def forward(self, x):
            return x, self.number

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.told, self.a, self.b = Told(), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            x, number = self.told(x)
            return self.b(self.a(x)) * number

    model = frozen(Model(), "a|told")
    run = replay(model, example())
    model.told.number = 3
    with pytest.raises(SplitError, match=r"told gives the numbers \[3\]; on the example it gave \[2\]"):
        run.trunk((example(),), {})


def test_a_leaf_without_rows_is_told():
    """The search then cuts before it."""

    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.last(self.first(x).to_sparse().to_dense())

    run = replay(frozen(Sparse(), "first"), example())
    leaf = next(iter(run.choice.leaves))
    with pytest.raises(UnfitLeafError, match="to_dense is a nested or sparse tensor"):
        TrunkRun(run, {}).keep(leaf, example().to_sparse())


def test_a_leaf_whose_examples_cannot_be_told_is_refused():
    """Sixteen places are no whole number of examples of twelve."""
    run = replay(frozen(Branch()), example())
    name, value = next(iter(run.choice.leaves.items()))
    run.leaf_rows[value] = replace(run.leaf_rows[value], each=12)
    with pytest.raises(UnfitLeafError, match=r"has the shape \(16, 8\): its examples cannot be told"):
        TrunkRun(run, {}).keep(name, torch.zeros(16, 8))


def test_the_order_in_memory_is_that_of_a_run_without_a_watch():
    """A watched nn.MultiheadAttention takes another kernel, which lays its output out in another way."""
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = attention, nn.Linear(8, 2)

        def forward(self, x):
            return self.last(self.first(x, x, x, need_weights=False)[0])

    x = torch.randn(2, 5, 8)
    run = replay(frozen(Model(), "first"), x)
    features = run.trunk((x,), {})
    (rows,) = run.leaf_rows.values()
    assert rows.stride == next(iter(features.values())).stride()


def test_the_run_ends_at_the_last_leaf():
    """What is behind is not computed."""
    model = frozen(Branch())
    run = replay(model, example())
    model.last.register_forward_hook(lambda *_: pytest.fail("the head ran"))
    run.trunk((example(),), {})
