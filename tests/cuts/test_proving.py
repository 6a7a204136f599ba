"""The proof, and what it leaves."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from regraft.cuts.proving import mixing_leaves, prove, refuse_random, undisturbed
from regraft.errors import FreezeError, SplitError
from splits import Branch, example, frozen, parts, replay


def test_a_head_that_differs_by_a_bit_is_refused():
    """What differs is named."""
    model = frozen(Branch())
    run = replay(model, example())
    trunk = run.trunk
    run.trunk = lambda args, kwargs: {name: rows.nextafter(rows + 1) for name, rows in trunk(args, kwargs).items()}
    with pytest.raises(SplitError, match=r"output 0, gradient of last\.weight differ on the example"):
        prove(run, ((example(),), {}), is_training=False)


def test_rows_that_change_with_their_batch_mix():
    """Rounding does not count, whole numbers must be equal."""
    rows = torch.tensor([[1.0, 2], [3, 4]])
    order = torch.tensor([1, 0, -1])
    others = torch.tensor([[3.0, 4], [1, 2], [9, 9]])
    assert mixing_leaves({"a": rows}, {"a": others * (1 + 1e-6)}, order) == []
    assert mixing_leaves({"a": rows}, {"a": others * 1.01}, order) == ["a"]
    assert mixing_leaves({"a": rows.long()}, {"a": others.long() + 1}, order) == ["a"]


def test_nothing_is_left_behind():
    """Buffers (replaced ones too), modes and random states."""

    class Replaces(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            self.seen = self.seen + 1
            return x + torch.rand(()) + random.random() + np.random.rand()

    model = Replaces().eval()
    seen = model.seen

    def draws():
        return torch.rand(()).item(), random.random(), np.random.rand()

    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    expected = draws()
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])
    with undisturbed(model, is_training=True):
        model(torch.zeros(1))
    assert draws() == expected
    assert model.seen is seen
    assert model.seen.item() == 0
    assert not model.training


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
