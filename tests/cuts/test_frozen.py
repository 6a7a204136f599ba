"""The mark of a frozen module is sticky."""

import copy
import pickle

import pytest
import torch
from torch import nn

from regraft.cuts.frozen import (
    freeze_chosen,
    frozen_as_now,
    is_frozen,
    mark_frozen,
    unfreeze_chosen,
    unmark_frozen,
)


def reloaded(module):
    """Through a pickle."""
    return pickle.loads(pickle.dumps(module))


@pytest.mark.parametrize("carry", [copy.deepcopy, reloaded, lambda module: module])
def test_a_marked_module_stays_in_evaluation(carry):
    """A copy too, and the copy's `train` is not the original's."""
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    mark_frozen(module)
    other = carry(module)
    parent = nn.Sequential(other)

    parent.train()

    assert parent.training
    assert is_frozen(other)
    assert not other.training
    assert not other[1].training


def test_a_compiled_model_keeps_its_frozen_part_in_evaluation():
    """`train` of the compiled model reaches the model's own."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    mark_frozen(model[0])
    compiled = torch.compile(model, backend="eager")

    compiled.train()

    x = torch.ones(1000)
    kept = (compiled(x) != 0).float().mean()
    assert not model[0].training
    assert 0.4 < kept < 0.6  # one of the two drops half


def test_an_unmarked_module_trains_again():
    """With its class's own method."""
    module = nn.Dropout()
    mark_frozen(module)
    unmark_frozen(module)
    module.train()
    assert module.training
    assert "train" not in module.__dict__


def test_what_was_frozen_can_be_had_again():
    """Marks and gradients, whatever was frozen and unfrozen in between."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    freeze_chosen(model, {"0", "0.weight", "0.bias"})
    restore = frozen_as_now(model)

    unfreeze_chosen(model, {"0", "0.weight"})
    freeze_chosen(model, {"2", "2.weight", "2.bias"})
    restore()

    assert [is_frozen(layer) for layer in model] == [True, False, False]
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True, True, True]
