"""Random inputs: found out, or drawn again exactly."""

import os
import random

import numpy as np
import pytest
import torch

from regraft.caches.sampling import Draws, join, own_randomness, probes, refuse_own_randomness, refuse_random
from regraft.errors import CacheError
from regraft.examples import as_examples


class Images:
    """Ten examples, with a transform."""

    def __init__(self, transform=lambda x: x):
        self.transform = transform

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return self.transform(torch.full((3,), float(index))), index


def test_a_view_is_the_same_whenever_it_is_drawn():
    """In another batch, after other random numbers."""
    draws = Draws(as_examples(Images(lambda x: x + torch.rand(3))), views=2)
    first = draws.inputs_of(torch.tensor([4, 5, 6]))
    torch.rand(7)
    again = draws.inputs_of(torch.tensor([19, 5]))
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])


def test_rows_are_examples_times_views():
    """With labels and ids for each row."""
    draws = Draws(as_examples(Images(lambda x: x + torch.rand(3))), views=3)
    first, *rest = draws.batches(torch.arange(30), 16)
    assert len(draws) == 30
    assert first.inputs.shape == (16, 3)
    assert first.labels.tolist() == [row // 3 for row in first.rows.tolist()]
    assert len({row.tobytes() for row in first.ids}) == 16
    assert len(rest) == 1


@pytest.mark.parametrize("names", [None, [f"file {index}" for index in range(10)]])
def test_several_processes_draw_what_one_draws(names):
    """Inputs, labels and ids to the last bit, in the same order, whoever draws them."""
    drawn = {}
    for workers in (0, 1, 2):
        draws = Draws(as_examples(Images(lambda x: x + torch.rand(3) + np.random.rand() + random.random())),
                      views=3, names=names)  # fmt: skip
        drawn[workers] = list(draws.batches(torch.randperm(30, generator=torch.Generator().manual_seed(0)), 4,
                                            workers=workers))  # fmt: skip

    for workers in (1, 2):
        for alone, together in zip(drawn[0], drawn[workers], strict=True):
            assert torch.equal(alone.rows, together.rows)
            assert torch.equal(alone.inputs, together.inputs)
            assert torch.equal(alone.labels, together.labels)
            assert np.array_equal(alone.ids, together.ids)
            assert alone.shapes == together.shapes == [((3,),)] * len(alone)


def test_views_are_drawn_by_other_processes():
    """Threads would share one set of global generators."""
    draws = Draws(as_examples(Images(lambda x: x + torch.rand(3) + 1000 * os.getpid())), views=2)
    pids = {int(value) // 1000 for drawn in draws.batches(torch.arange(20), 2, workers=2)
            for value in drawn.inputs[:, 0] - drawn.rows // 2}  # fmt: skip
    assert os.getpid() not in pids


def test_an_error_in_another_process_is_told_here():
    """With its own class and text."""

    def fail(x):
        if int(x[0]) == 7:
            raise ValueError("example seven is damaged")
        return x + torch.rand(3)

    with pytest.raises(ValueError, match="example seven is damaged"):
        list(Draws(as_examples(Images(fail)), views=2).batches(torch.arange(20), 2, workers=2))


def test_names_stand_for_inputs():
    """Ids are then known before anything is read, another for each view."""
    draws = Draws(as_examples(Images()), views=2, names=[f"file {index}" for index in range(10)])
    assert draws.ids.shape == (20, 16)
    assert len(np.unique(draws.ids, axis=0)) == 20


def test_a_plain_data_set_passes():
    """Also one that takes random numbers without using them."""
    refuse_random(as_examples(Images()))
    refuse_random(as_examples(Images(lambda x: x + 0 * torch.rand(1))))


def test_a_generator_of_its_own_cannot_be_cached():
    """Not by views either: the same draw could not be had again."""
    generator = np.random.default_rng(0)
    data = as_examples(Images(lambda x: x + generator.random()))
    with pytest.raises(CacheError, match="draws at random"):
        refuse_random(data)
    with pytest.raises(CacheError, match="generator of its own"):
        refuse_own_randomness(Draws(data, views=2))
    refuse_own_randomness(Draws(as_examples(Images(lambda x: x + torch.rand(1))), views=2))


def test_randomness_inside_does_not_reach_outside():
    """All three generators."""
    import random

    with own_randomness():
        random.random(), np.random.rand(), torch.rand(1)
        expected = None
    states = (random.getstate(), np.random.get_state()[1].tolist(), torch.default_generator.get_state())
    with own_randomness():
        expected = random.random(), np.random.rand(), torch.rand(1)
    assert expected
    assert states[0] == random.getstate()
    assert states[1] == np.random.get_state()[1].tolist()
    assert torch.equal(states[2], torch.default_generator.get_state())


def test_probes_are_spread_from_first_to_last():
    """However few examples there are."""
    assert probes(range(1)) == [0]
    assert probes(range(3)) == [0, 1, 2]
    assert (probes(range(1000))[0], probes(range(1000))[-1], len(probes(range(1000)))) == (0, 999, 8)


def test_batches_of_any_structure_are_joined():
    """Tensors, tuples, dicts."""
    parts = [{"a": torch.ones(2, 1), "b": (torch.zeros(2),)}, {"a": torch.ones(1, 1), "b": (torch.zeros(1),)}]
    joined = join(parts)
    assert joined["a"].shape == (3, 1)
    assert joined["b"][0].shape == (3,)
