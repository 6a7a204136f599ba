"""Rows that are rounded by their index in the batch: measured, and compared within a bound."""

import pytest
import torch

from regraft.cuts.batches import batch_of
from regraft.cuts.row_rounding import batch_sizes, difference_of_copies, relative_difference, repeated_rows, same_rows

ULP = 2.0**-23  # between 1 and the next float32


def test_cheap_trunks_are_measured_in_the_users_batch_size_too():
    """A dear one on the example alone."""
    assert batch_sizes(4, 64, work=1e3) == {4, 64}
    assert batch_sizes(4, 64, work=1e9) == {4}
    assert batch_sizes(64, 64, work=1e3) == {64}


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [(2, 2, [0, 0]), (3, 3, [0, 0, 0]), (2, 16, [0] * 8 + [1] * 8), (9, 16, [0] * 8 + [1] * 8)],
)
def test_each_example_lies_at_consecutive_indices(rows, size, expected):
    """So that it meets every alignment and both ends; in a small batch one example fills it."""
    mask = torch.ones(5)
    (args, kwargs), order = repeated_rows(batch_of((torch.arange(rows),), {"mask": mask}), size)
    assert order.tolist() == args[0].tolist() == expected
    assert torch.equal(kwargs["mask"], mask)
    assert kwargs["mask"] is not mask


def test_a_difference_is_relative_to_its_value():
    """A value that is almost nothing counts as its row's mean, a row as a thousandth of the largest."""
    rows = torch.tensor([[1.0, 3.0], [4.0, 0.0], [0.0, 0.0]])

    def off_by_one_bit_in(row, column):
        others = rows.clone()
        others[row, column] += ULP
        return relative_difference(rows, others)

    assert off_by_one_bit_in(0, 0) == ULP / 2
    assert off_by_one_bit_in(1, 1) == ULP / 2
    assert off_by_one_bit_in(2, 0) == pytest.approx(ULP / (1e-3 * 2))
    assert relative_difference(rows, rows.clone()) == 0.0
    assert relative_difference(torch.zeros(0, 3), torch.zeros(0, 3)) == 0.0
    assert relative_difference(torch.zeros(2), torch.ones(2)) == 1.0
    assert 0 < relative_difference(3.0 + 4j * torch.ones(2), 3.0 + 4j * torch.ones(2) + 9 * ULP) < 9 * ULP


def test_copies_are_compared_with_the_first_of_their_example():
    """In all leaves; different examples are not compared."""
    order = torch.tensor([0, 0, 1, 1])
    leaf = torch.tensor([[1.0], [1.0], [5.0], [5.0]])
    assert difference_of_copies({"a": leaf, "b": leaf.long()}, order) == 0.0
    off = leaf.clone()
    off[3] = off[3].nextafter(torch.tensor(9.0))
    assert difference_of_copies({"a": leaf, "b": off}, order) == pytest.approx(4 * ULP / 5)


def test_rows_agree_bit_for_bit_or_within_what_was_measured():
    """Whole numbers, shapes, dtypes and gaps always have to be the same."""
    rows = torch.tensor([[1.0, 0.5]])
    off = rows + ULP
    assert same_rows(rows, rows.clone(), 0.0)
    assert not same_rows(rows, off, 0.0)
    assert same_rows(rows, off, 10 * ULP)
    assert not same_rows(rows, rows + 20 * ULP, 10 * ULP)
    assert not same_rows(rows.long(), rows.long() + 1, 10.0)
    assert not same_rows(rows, rows[:, :1], 10.0)
    assert not same_rows(rows, rows.double(), 10.0)
    assert not same_rows(rows, torch.tensor([[1.0, torch.nan]]), 10.0)
    assert same_rows(torch.tensor([[1.0, torch.nan]]), torch.tensor([[1.0, torch.nan]]), 10.0)


def test_a_gap_has_no_size():
    """An infinite value on both sides, or on one."""
    gap = torch.tensor([[torch.inf, 1.0]])
    assert relative_difference(gap, torch.tensor([[torch.inf, 1.0 + ULP]])) == pytest.approx(ULP)
    assert relative_difference(gap, torch.tensor([[2.0, 1.0 + ULP]])) == pytest.approx(ULP)
