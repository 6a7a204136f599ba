"""A model and the generators of random numbers are left as they were."""

import random
import threading
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from regraft.tensors.keeping import (
    generator_positions,
    generator_states,
    kept_buffers,
    kept_generators,
    kept_modes,
    own_generators,
    position_of,
    shadowed_forwards,
    undisturbed,
)


class Draws(nn.Module):
    """Draws from every generator, its own too, and replaces its buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.own = torch.Generator().manual_seed(1)

    def forward(self, x):
        self.seen = self.seen + 1
        return x + torch.rand(()) + random.random() + np.random.rand() + torch.rand((), generator=self.own)


def test_nothing_is_left_behind():
    """Buffers (replaced ones too), modes and random states."""
    model = Draws().eval()
    seen, before, own = model.seen, generator_states(), model.own.get_state()

    with undisturbed(model, is_training=True):
        assert model.training
        model(torch.zeros(1))
        assert not generator_states().same_as(before)

    assert generator_states().same_as(before)
    assert torch.equal(model.own.get_state(), own)
    assert model.seen is seen
    assert model.seen.item() == 0
    assert not model.training


def test_an_error_inside_restores_too():
    """Each keeper by itself."""
    model, before = nn.BatchNorm1d(2).eval(), generator_states()

    def fail():
        with kept_generators(), kept_buffers(model), kept_modes(model):
            model.train()(torch.randn(4, 2))
            np.random.rand()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert not model.training
    assert torch.equal(model.running_mean, torch.zeros(2))
    assert generator_states().same_as(before)


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: torch.rand(())])
def test_each_generator_tells_that_it_has_drawn(draw):
    """One draw makes the states different."""
    with kept_generators():
        before = generator_states()
        draw()
        assert not generator_states().same_as(before)
        before.restore()
        assert generator_states().same_as(before)


@pytest.mark.parametrize("draw", [random.random, np.random.rand])
def test_positions_move_with_every_draw(draw):
    """Python's and NumPy's; a thousand draws go through every position that starts anew."""
    with kept_generators():
        positions = [generator_positions()]
        for _ in range(1000):
            draw()
            positions.append(generator_positions())
    assert all(first != second for first, second in pairwise(positions))


def test_shadows_are_lifted_when_the_forward_fails():
    """An instance's own forward comes back."""
    module = nn.Identity()
    module.__dict__["forward"] = own = lambda x: x + 1
    try:
        with shadowed_forwards({module: lambda x: x}):
            raise ValueError
    except ValueError:
        pass
    assert module.__dict__["forward"] is own


class Interrupts(dict):
    """The attributes of a module whose restoring is interrupted once."""

    def pop(self, *args):
        if not self.get("interrupted"):
            self["interrupted"] = True
            raise KeyboardInterrupt
        return super().pop(*args)


def test_an_interrupt_while_forwards_are_restored_leaves_none_behind():
    """Ctrl-C at the wrong moment would leave a model that fails for ever."""
    first, second = nn.Identity(), nn.Identity()
    first.__dict__ = Interrupts(first.__dict__)

    def run():
        with shadowed_forwards({first: lambda x: x + 1, second: lambda x: x + 1}):
            pass

    with pytest.raises(KeyboardInterrupt):
        run()
    assert "forward" not in first.__dict__
    assert "forward" not in second.__dict__


def test_another_thread_runs_the_modules_own_forward():
    """And waits where it wants to replace it, too: none is left behind."""
    module, seen = nn.Identity(), []
    inside, looked = threading.Event(), threading.Event()

    def other():
        inside.wait()
        seen.append(module(1))
        looked.set()
        with shadowed_forwards({module: lambda x: "theirs"}):
            seen.append(module(1))

    thread = threading.Thread(target=other)
    thread.start()
    with shadowed_forwards({module: lambda x: "ours"}):
        inside.set()
        looked.wait()
        seen.append(module(1))
    thread.join()

    assert seen == [1, "ours", "theirs"]
    assert "forward" not in module.__dict__


def test_generators_are_found_in_the_attributes_of_attributes():
    """A data set holds transforms, which hold generators: those are none of the program's own."""
    own = [random.Random(0), np.random.default_rng(0), torch.Generator(), np.random.RandomState(0)]
    holder = SimpleNamespace(transforms=[SimpleNamespace(generator=own[0]), {"more": (own[1], own[2])}], old=own[3])
    holder.itself = holder

    assert {*map(id, own_generators(holder))} == {*map(id, own)}


@pytest.mark.parametrize(
    ("generator", "draw"),
    [
        (random.Random(0), lambda generator: generator.random()),
        (np.random.default_rng(0), lambda generator: generator.random()),
        (np.random.RandomState(0), lambda generator: generator.rand()),
        (torch.Generator(), lambda generator: torch.rand(1, generator=generator)),
    ],
)
def test_the_position_of_a_generator_moves_with_a_draw(generator, draw):
    before = position_of(generator)
    assert position_of(generator) == before
    draw(generator)
    assert position_of(generator) != before
