"""Shorter rows end in zeros."""

import torch

from regraft.tensors.padding import longest, padded_cat, padded_to


def test_rows_are_filled_at_the_end():
    """In every dimension but the first."""
    joined = padded_cat([torch.ones(2, 3, 1), 2 * torch.ones(1, 1, 2)])
    assert joined.shape == (3, 3, 2)
    assert joined[2].tolist() == [[2, 2], [0, 0], [0, 0]]
    assert joined[0].tolist() == [[1, 0], [1, 0], [1, 0]]


def test_what_is_long_enough_is_not_copied():
    """The usual case costs nothing."""
    tensor = torch.ones(2, 3)
    assert padded_to(tensor, (2, 3)) is tensor
    assert longest([torch.ones(2, 5), torch.ones(3, 1)]) == (3, 5)
