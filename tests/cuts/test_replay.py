"""Trunk and head of a recorded forward."""

import torch

from splits import Branch, example, frozen, replay


def test_trunk_and_head_are_the_model():
    """For another number of rows."""
    model = frozen(Branch())
    run = replay(model, example())
    x = torch.randn(7, 6)
    assert torch.equal(run.head(run.trunk((x,), {})), model(x))


def test_what_the_leaves_depend_on_is_known():
    """Modules and tensors."""
    run = replay(frozen(Branch()), example())
    assert run.modules_before_the_cut() == {"", "first", "second"}
    assert run.tensors_before_the_cut() == {"first.weight", "first.bias", "second.weight", "second.bias"}


def test_a_renamed_leaf_is_found_again():
    """By trunk and head."""
    model = frozen(Branch())
    run = replay(model, example())
    run.rename("add", "sum")
    features = run.trunk((example(),), {})
    assert list(features) == ["sum"]
    assert torch.equal(run.head(features), model(example()))


def test_rows_and_lengths_are_told_by_the_leaves():
    """The number of rows of any batch."""
    run = replay(frozen(Branch()), example())
    (leaf,) = run.choice.leaves.values()
    assert run.symbols_of({leaf: torch.zeros(9, 8)}, None)["rows"] == 9
