"""The cheapest cut."""

import pytest
import torch
from torch import nn

from regraft.errors import SplitError
from splits import Branch, example, frozen, parts


def leaves(model, *args, **options):
    return list(parts(model, *args, **options)[3].leaves)


def test_what_is_cheap_to_repeat_does_not_cross():
    """One sum instead of two summands."""
    assert leaves(frozen(Branch()), example()) == ["add"]


def test_outputs_of_layers_cross_where_the_inside_may_not():
    """What the layers gave."""
    assert leaves(frozen(Branch()), example(), inside=False) == ["first", "second"]


def test_the_user_chooses_where():
    """The frozen layers behind run in the head; a layer that does not carry all is refused."""
    assert leaves(frozen(Branch()), example(), at=["first"]) == ["first"]
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2))
    frozen(model, "[01]")
    assert leaves(model, example(), at=["0"]) == ["0"]


def test_what_mixes_examples_does_not_cross():
    """The cut goes before it."""
    _record, _, _, choice = parts(frozen(Branch()), example())
    mixing = set(choice.leaves.values())
    assert leaves(frozen(Branch()), example(), unfit=mixing) == ["relu", "second"]


def test_a_layer_that_gives_numbers_made_of_data_runs_again():
    """A number of another batch would be wrong."""

    class Counted(nn.Module):
        def forward(self, x):
            return x * 2, int((x > 0).sum())

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.count, self.b = nn.Linear(6, 6), Counted(), nn.Linear(6, 2)

        def forward(self, x):
            hidden, count = self.count(self.a(x))
            return self.b(hidden) * count

    assert leaves(frozen(Model(), "a|count"), example()) == ["a"]


def test_frozen_layers_that_chance_may_skip_run_in_the_head():
    """As layer drop does, by torch's numbers or by Python's."""
    import random

    class Model(nn.Module):
        def __init__(self, draw):
            super().__init__()
            self.a, self.b, self.c, self.draw = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2), draw

        def forward(self, x):
            x = self.a(x)
            if self.draw() < 0.5:
                x = self.b(x)
            return self.c(x)

    for draw in (random.random, lambda: torch.rand(())):
        assert leaves(frozen(Model(draw), "a|b"), example()) == ["a"]


def test_nothing_with_rows_is_refused():
    """An input without rows that the head needs."""

    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x, weights):
            return self.b(self.a(x)) * weights

    with pytest.raises(SplitError, match="No tensor with one row per example"):
        leaves(frozen(Weighted(), "a"), example(), torch.ones(2))
    assert leaves(frozen(Weighted(), "a"), example(), torch.ones(2), whole=True) == ["input:weights", "a"]
