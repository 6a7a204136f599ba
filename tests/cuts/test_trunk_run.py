"""The trunk follows the recorded way, or refuses."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from regraft.cuts.trunk_run import TrunkRun, UnfitLeafError
from regraft.errors import DataError, SplitError
from splits import Branch, example, features_of, frozen, program_of


class TwoWays(nn.Module):
    """Takes one of two frozen layers, by the data."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.last(self.first(x) if x.sum() > 0 else self.second(x))


def test_another_way_is_refused_by_name():
    """The layer that the example took is named."""
    run = program_of(frozen(TwoWays()), torch.ones(4, 6))
    with pytest.raises(SplitError, match="first is not called as it was on the example"):
        features_of(run, -torch.ones(4, 6))


def test_a_leaf_of_another_shape_is_refused():
    """Expected and got are told."""

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv1d(1, 2, 3), nn.AdaptiveAvgPool1d(1)
            self.out = nn.Conv1d(2, 2, 1)

        def forward(self, x):
            return self.last(self.out(self.first(x)))

    run = program_of(frozen(Flat(), "first"), torch.randn(2, 1, 3))
    with pytest.raises(SplitError, match=r"first has the shape \(2, 2, 7\); by the example it would be \(2, 2, 1\)"):
        features_of(run, torch.randn(2, 1, 9))


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
    run = program_of(model, example())
    model.told.number = 3
    with pytest.raises(SplitError, match=r"told gives the numbers \[3\]; on the example it gave \[2\]"):
        features_of(run, example())


def test_a_leaf_without_rows_is_refused():
    """The search then cuts before it."""

    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.last(self.first(x).to_sparse().to_dense())

    run = program_of(frozen(Sparse(), "first"), example())
    leaf = next(iter(run.leaves))
    with pytest.raises(UnfitLeafError, match="to_dense is a nested or sparse tensor"):
        TrunkRun(run, {}).keep(leaf, example().to_sparse())


def test_a_leaf_whose_examples_cannot_be_told_is_refused():
    """Sixteen places are no whole number of examples of twelve."""
    run = program_of(frozen(Branch()), example())
    name, value = next(iter(run.leaves.items()))
    run.__dict__["leaf_rows"] = {value: replace(run.leaf_rows[value], each=12)}
    with pytest.raises(UnfitLeafError, match=r"has the shape \(16, 8\): it cannot be divided into examples"):
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
    run = program_of(frozen(Model(), "first"), x)
    features = features_of(run, x)
    (rows,) = run.leaf_rows.values()
    assert rows.layout[1] == next(iter(features.values())).stride()


def test_the_run_ends_at_the_last_leaf():
    """What is behind is not computed."""
    model = frozen(Branch())
    run = program_of(model, example())
    model.last.register_forward_hook(lambda *_: pytest.fail("the head ran"))
    features_of(run, example())


@pytest.mark.parametrize(
    ("inputs", "said"),
    [(torch.ones(3, 7), r"\(3, 7\) torch.float32"), (torch.ones(3, 6, dtype=torch.float64), r"\(3, 6\) torch.float64")],
)
def test_inputs_that_the_forward_cannot_take_are_compared_with_the_example(inputs, said):
    """The model's own error says which product fails, not that the data are others than at the split."""
    run = program_of(frozen(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2)), "0"), torch.ones(4, 6))

    with pytest.raises(DataError, match=rf"{said}; the model was split with \(4, 6\) torch.float32"):
        features_of(run, inputs)


def test_an_error_of_the_model_itself_stays_as_it_is():
    class Raises(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            if len(x) == 3:
                raise ValueError("three rows")
            return self.last(self.first(x))

    run = program_of(frozen(Raises(), "first"), torch.ones(4, 6))

    with pytest.raises(ValueError, match="three rows"):
        features_of(run, torch.ones(3, 6))
