"""The tables of a chosen cut, and leaves as rows and back."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from regraft.cuts.program import RowLayout
from regraft.errors import SplitError
from splits import Branch, example, features_of, frozen, output_of, program_of


def test_trunk_and_head_are_the_model():
    """For another number of rows."""
    model = frozen(Branch())
    program = program_of(model, example())
    x = torch.randn(7, 6)
    assert torch.equal(output_of(program, features_of(program, x)), model(x))


def test_a_renamed_leaf_is_found_again():
    """By trunk and head; the program before is as it was."""
    model = frozen(Branch())
    before = program_of(model, example())
    program = before.renamed("add", "sum")
    features = features_of(program, example())
    assert list(features) == ["sum"]
    assert torch.equal(output_of(program, features), model(example()))
    assert list(before.leaves) == ["add"]


def test_nothing_can_be_written_into_a_program():
    """Trunk and head share it."""
    program = program_of(frozen(Branch()), example())
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'layouts'"):
        program.layouts = {}


def test_rows_and_lengths_are_given_by_the_leaves():
    """The number of rows of any batch."""
    program = program_of(frozen(Branch()), example())
    (leaf,) = program.leaves.values()
    assert program.sizes_of({leaf: torch.zeros(9, 8)}, None).symbols["rows"] == 9


def test_leaves_that_do_not_belong_together_are_refused():
    """Rows of one batch and rows of another."""
    program = program_of(frozen(Branch()), example(), inside=False)
    first, second = program.leaves.values()
    with pytest.raises(SplitError, match=r"second has the shape \(3, 8\); with the other .* be \(9, 8\)"):
        program.sizes_of({first: torch.zeros(9, 8), second: torch.zeros(3, 8)}, None)


@pytest.mark.parametrize(
    ("shape", "axis", "each"), [((2, 3, 4), 0, 1), ((3, 2, 4), 1, 1), ((6, 4), 0, 3), ((5, 8, 2), 1, 4), ((6, 4), 0, 0)]
)
def test_rows_go_back_to_the_same_tensor(shape, axis, each):
    """Whatever the axis of the examples, and with several places for each."""
    tensor = torch.randn(shape)
    places = RowLayout(axis, each, (shape, tensor.stride()))

    rows = places.to_rows(tensor, 2)
    back = places.from_rows(rows.contiguous())

    assert len(rows) == 2
    assert torch.equal(back, tensor)
    assert back.stride() == tensor.stride()


def test_the_order_in_memory_is_the_recorded_one():
    """Rows from a cache are contiguous; convolutions round otherwise on channels that come last in memory."""
    recorded = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    places = RowLayout(0, 1, (tuple(recorded.shape), recorded.stride()))
    other = torch.randn(5, 3, 4, 4)
    assert places.from_rows(other).stride() == recorded.stride()
    assert torch.equal(places.from_rows(other), other)
    sliced = torch.randn(2, 6, 4)[:, 0]
    assert RowLayout(0, 1, ((2, 4), sliced.stride())).from_rows(torch.randn(3, 4)).stride() == (24, 1)
