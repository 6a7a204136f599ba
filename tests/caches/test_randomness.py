"""Random inputs are found out."""

import numpy as np
import pytest
import torch

from regraft.caches.randomness import probes, refuse_random
from regraft.caches.sampling import samples_of
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
