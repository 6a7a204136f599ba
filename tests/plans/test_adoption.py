"""What a plan adopts changes the model, and is taken back whole when anything fails."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from regraft.errors import PlanError
from regraft.plans.adoption import adopt, can_change
from regraft.plans.rows import RequirementRow, Setting
from regraft.plans.steps import Absent, Activation, CallStep, ModuleStep, function_of_text


class Pooled(nn.Module):
    """An average that counts its padding, a sum, and a dropout that only training does."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(2)
        self.pool = nn.MaxPool2d(3, 2, 1)

    def forward(self, x):
        inner = functional.avg_pool2d(self.bn(self.conv(x)), 3, 1, 1)
        return self.pool(inner + x)


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Pooled()

    def forward(self, x):
        return self.inner(x)


def row(subject, required, *, adoptable=True):
    """A row to adopt; a step is given by its text."""
    required = required if isinstance(subject, Setting) else function_of_text(required)
    return RequirementRow(subject, required, None, "adopted", adoptable=adoptable)


def test_every_kind_of_row_changes_what_the_model_computes():
    model = Outer().eval()
    x = torch.randn(1, 2, 7, 6)
    rows = [
        row(Setting("inner.bn", "eps"), 0.5),
        row(Setting("inner.conv", "padding"), "same"),
        row(Setting("inner.conv", "bias"), "array (2,)"),
        row(ModuleStep("inner.pool", "pool"), "max 3x3, stride 2x2, padding same"),
        row(CallStep("inner", "avg_pool2d"), "average 3x3, stride 1x1, padding 1x1"),
        row(CallStep("inner", "add", 1), "relu"),
    ]
    weight = model.inner.conv.weight

    adopt(model, rows)
    inner = model.inner
    averaged = functional.avg_pool2d(inner.bn(inner.conv(x)), 3, 1, 1, count_include_pad=False)

    assert inner.bn.eps == 0.5
    assert inner.conv.weight is weight
    assert torch.equal(inner.conv.bias, torch.zeros(2))
    assert torch.allclose(model(x), inner.pool(averaged + x.relu()), atol=1e-6)  # float32, another order of sums
    assert set(model.state_dict()) == set(Outer().state_dict()) | {"inner.conv.bias"}


def test_closing_takes_everything_back():
    model = Outer().eval()
    x, before = torch.randn(1, 2, 7, 6), str(model)
    expected = model(x)

    rows = [
        row(CallStep("inner", "add", 1), "relu"),
        row(Setting("inner.conv", "stride"), (2, 2)),
        row(Setting("inner.bn", "eps"), 1.0),
    ]
    with adopt(model, rows):
        assert "adopted" in str(model)

    assert str(model) == before
    assert torch.equal(model(x), expected)


def test_a_row_that_cannot_be_adopted_leaves_the_model_as_it_was():
    model = Outer()

    with pytest.raises(PlanError, match=r"inner\.pool\.pool cannot be adopted"):
        adopt(
            model,
            [row(Setting("inner.bn", "eps"), 0.5), row(ModuleStep("inner.pool", "pool"), "relu", adoptable=False)],
        )

    assert model.inner.bn.eps == 1e-5


def test_a_call_that_the_forward_has_not_is_refused_by_name():
    with pytest.raises(PlanError, match="forward of Pooled has no call 'max_pool2d'"):
        adopt(Outer(), [row(CallStep("inner", "max_pool2d"), "no pooling")])


def test_two_calls_of_one_forward_are_changed_together():
    """Both are found in the forward as it was: the first change must not renumber the second."""

    class Twice(nn.Module):
        def forward(self, x):
            return functional.avg_pool2d(functional.avg_pool2d(x, 3, 1, 1), 3, 1, 1)

    model = Twice()

    adopt(
        model, [row(CallStep("", "avg_pool2d"), "no pooling"), row(CallStep("", "avg_pool2d_1"), "max 1x1, stride 2x2")]
    )

    assert torch.equal(model(torch.arange(9.0).view(1, 1, 3, 3)).flatten(), torch.tensor([0.0, 2.0, 6.0, 8.0]))


def test_a_changed_model_is_copied_like_any_other():
    model = Outer().eval()
    adopt(model, [row(CallStep("inner", "avg_pool2d"), "no pooling")])
    x = torch.randn(1, 2, 7, 6)

    assert torch.equal(copy.deepcopy(model)(x), model(x))
    assert "forward was changed" in type(model.inner).__doc__


@pytest.mark.parametrize(
    ("place", "possible"),
    [
        (CallStep("inner", "avg_pool2d"), True),
        (CallStep("inner", "add", 0), True),
        (CallStep("inner", "add", 2), False),
        (CallStep("inner", "sub"), False),
        (CallStep("elsewhere", "add"), False),
        (ModuleStep("inner.pool", "pool"), True),
    ],
)
def test_only_places_that_are_there_can_be_changed(place, possible):
    assert can_change(Outer(), place, Activation("relu")) is possible


def test_a_forward_that_does_something_else_in_training_is_not_rewritten():
    """The text that torch.fx writes would keep one of the two for ever."""

    class Noisy(nn.Module):
        def forward(self, x):
            return functional.avg_pool2d(functional.dropout(x, 0.5, self.training), 2)

    model = Noisy().eval()

    assert not can_change(model, CallStep("", "avg_pool2d"), Absent("pool"))
    assert not model.training


def test_a_layer_that_the_model_has_not_is_named():
    """The plan is another model's."""
    with pytest.raises(PlanError, match=r"this model[\s\S]*no layer 'inner\.bm'. Did you mean 'inner\.bn'"):
        adopt(Outer(), [row(Setting("inner.bm", "eps"), 0.5)])
