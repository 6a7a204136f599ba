"""A call in a forward is done by a new child; the module stays the same object."""

from contextlib import ExitStack

import pytest
import torch
from torch import nn

from regraft.errors import PlanError
from regraft.plans.forwards import can_edit, change_forward
from regraft.plans.steps import CallStep


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Linear(3, 3)

    def forward(self, x):
        return self.left(x).relu() + x


def changed(edits):
    model, changes = Sum().eval(), ExitStack()
    change_forward(model, edits, changes)
    return model, changes


def test_a_call_is_replaced_and_an_operand_gets_a_step_of_its_own():
    model, changes = changed({CallStep("", "relu"): nn.Tanh(), CallStep("", "add", 1): nn.Sigmoid()})
    x = torch.randn(2, 3)

    assert torch.equal(model(x), model.left(x).tanh() + x.sigmoid())
    assert isinstance(model, Sum)

    changes.close()
    assert type(model) is Sum
    assert torch.equal(model(x), model.left(x).relu() + x)


def test_a_call_that_goes_leaves_its_input():
    model, _ = changed({CallStep("", "relu"): None})
    x = torch.randn(2, 3)

    assert torch.equal(model(x), model.left(x) + x)


def test_a_call_that_is_not_there_is_refused():
    assert not can_edit(Sum(), CallStep("", "add", 2))
    with pytest.raises(PlanError, match="forward of Sum has no call 'tanh'"):
        changed({CallStep("", "tanh"): None})
