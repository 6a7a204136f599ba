"""Random inputs are found out."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from regraft.caches.randomness import equal_inputs, probes, refuse_random
from regraft.caches.sampling import Samples, samples_of
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
        samples_of(data, views=2, data_id=None, hashed=True)
    samples_of(as_examples(Images(lambda x: x + torch.rand(1))), views=2, data_id=None, hashed=True)


def test_probes_are_spread_from_first_to_last():
    """However few examples there are."""
    assert probes(range(1)) == [0]
    assert probes(range(3)) == [0, 1, 2]
    assert (probes(range(1000))[0], probes(range(1000))[-1], len(probes(range(1000)))) == (0, 999, 8)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("draw", [lambda: torch.rand(()).item(), random.random, np.random.rand])
def test_a_random_transform_of_one_example_is_found_when_it_is_fetched(draw, workers):
    """The probes miss it; the generator that it draws from is watched during the whole build."""

    def transform(x):
        return x + draw() if int(x[0]) == 2 else x

    data = as_examples(Images(transform))
    assert 2 not in probes(data)
    with pytest.raises(CacheError, match="Example 2 gives a different input"):
        list(Samples(data, hashed=False).batches(torch.arange(10), 4, workers=workers))


def test_random_numbers_that_change_nothing_pass_during_the_build():
    """Each example is fetched again and is the same."""
    data = as_examples(Images(lambda x: x + 0 * torch.rand(1)))
    batches = list(Samples(data).batches(torch.arange(10), 4, workers=2))
    assert sum(map(len, batches)) == 10


def test_inputs_are_the_same_by_their_own_bits():
    """What they are filled up with is zeros; a NaN is itself; another size is another input."""
    gap = torch.tensor([[1.0, torch.nan]])
    filled = torch.cat([gap, torch.zeros(1, 2)], 1)
    assert equal_inputs((filled,), (gap,))
    assert not equal_inputs((filled,), (gap + 1,))
    assert not equal_inputs((gap,), (filled,))
    assert not equal_inputs((torch.tensor([[1.0, 2.0]]),), (torch.tensor([[1.0]]),))
    assert not equal_inputs((gap,), (gap, gap))


class OfItsOwn:
    """Draws for one of a hundred examples, from a generator that only it has."""

    def __init__(self, generator):
        self.transforms = [SimpleNamespace(generator=generator)]

    def __len__(self):
        return 100

    def __getitem__(self, index):
        generator, noise = self.transforms[0].generator, 0.0
        if index == 37:
            is_torch = isinstance(generator, torch.Generator)
            noise = float(torch.rand((), generator=generator)) if is_torch else generator.random()
        return torch.full((2,), index + noise), 0


@pytest.mark.parametrize(
    "generator", [torch.Generator(), np.random.default_rng(0), random.Random(0)], ids=["torch", "numpy", "python"]
)  # fmt: skip
def test_a_rare_draw_from_the_data_sets_own_generator_is_found(generator):
    samples = Samples(as_examples(OfItsOwn(generator)))

    with pytest.raises(CacheError, match="Example 37 gives a different input each time"):
        list(samples.batches(torch.arange(100), 10, workers=1))
