"""The proof, and what it leaves."""

import random

import pytest
import torch
from torch import nn

from regraft.cuts.proving import (
    DifferenceError,
    mixing_leaves,
    model_step,
    prove,
    refuse_random,
    trunk_features,
)
from regraft.errors import FreezeError, SplitError
from splits import Branch, example, frozen, parts, replay


def test_a_head_that_differs_by_a_bit_is_refused():
    """What differs is named."""
    model = frozen(Branch())
    run = replay(model, example())
    arguments = (example(),), {}
    features = trunk_features(run, arguments, is_training=False)
    expected = model_step(model, arguments, is_training=False)
    prove(run, features, expected, is_training=False)
    off = {name: rows.nextafter(rows + 1) for name, rows in features.items()}
    with pytest.raises(DifferenceError, match=r"output 0, gradient of last\.weight differ on the example"):
        prove(run, off, expected, is_training=False)


def test_a_model_that_cannot_train_on_the_example_is_refused():
    """Its own words are passed on."""

    class Overwrites(nn.Linear):
        def forward(self, x):
            out = super().forward(x).sigmoid()
            kept = out * out
            out.zero_()
            return kept

    with pytest.raises(SplitError, match=r"The model itself cannot make a training step on the example: .*inplace"):
        model_step(Overwrites(6, 2), ((example(),), {}), is_training=True)


def test_rows_that_change_with_their_batch_mix():
    """Rounding does not count where the order is another one; in the same place every bit does."""
    rows = torch.tensor([[1.0, 2], [3, 4]])
    order = torch.tensor([1, 0, -1])
    others = torch.tensor([[3.0, 4], [1, 2], [9, 9]])

    def mixing(here, there, again):
        return mixing_leaves({"a": here}, {"a": there}, {"a": again}, order)

    near = others * (1 + 1e-6)
    assert mixing(rows, near, near) == []
    assert mixing(rows, near, others) == ["a"]
    assert mixing(rows, others * 1.01, others * 1.01) == ["a"]
    assert mixing(rows.long(), others.long() + 1, others.long() + 1) == ["a"]


def test_a_frozen_layer_that_draws_is_refused_by_name():
    """Python's numbers as well as torch's."""

    class Noise(nn.Module):
        def __init__(self, draw):
            super().__init__()
            self.draw, self.weight = draw, nn.Parameter(torch.ones(6))

        def forward(self, x):
            return x * self.draw() * self.weight

    for draw in (random.random, lambda: torch.rand(())):
        model = frozen(nn.Sequential(Noise(draw), nn.Linear(6, 2)), "0")
        record, _, _, choice = parts(model, example())
        with pytest.raises(FreezeError, match="0 is frozen, but its forward draws random numbers"):
            refuse_random(model, record, choice.live)
