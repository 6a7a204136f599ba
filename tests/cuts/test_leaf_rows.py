"""Leaves as rows and back."""

import pytest
import torch

from regraft.cuts.leaf_rows import LeafRows


@pytest.mark.parametrize(
    ("shape", "axis", "each"), [((2, 3, 4), 0, 1), ((3, 2, 4), 1, 1), ((6, 4), 0, 3), ((5, 8, 2), 1, 4), ((6, 4), 0, 0)]
)
def test_rows_go_back_to_the_same_tensor(shape, axis, each):
    """Whatever the axis of the examples, and with several places for each."""
    tensor = torch.randn(shape)
    places = LeafRows(axis, each, shape, tensor.stride())

    rows = places.to_rows(tensor, 2)
    back = places.from_rows(rows.contiguous())

    assert len(rows) == 2
    assert torch.equal(back, tensor)
    assert back.stride() == tensor.stride()


def test_the_order_in_memory_is_the_recorded_one():
    """Rows from a cache are contiguous; convolutions round otherwise on channels that come last in memory."""
    recorded = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    places = LeafRows(0, 1, tuple(recorded.shape), recorded.stride())
    other = torch.randn(5, 3, 4, 4)
    assert places.from_rows(other).stride() == recorded.stride()
    assert torch.equal(places.from_rows(other), other)
    sliced = torch.randn(2, 6, 4)[:, 0]
    assert LeafRows(0, 1, (2, 4), sliced.stride()).from_rows(torch.randn(3, 4)).stride() == (24, 1)
