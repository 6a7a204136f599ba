"""A bias without a place goes into the norm behind it: only where nothing stands between, and told."""

import pytest
import torch
from torch import nn

from in_memory import checkpoint_of, keras_arrays_of
from regraft.arrays import Requirement
from regraft.errors import PlanError
from regraft.loading import apply_plan
from regraft.matching import plan_reuse


class Pair(nn.Sequential):
    def __init__(self, *, bias, between=False):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, bias=bias)
        if between:
            self.relu = nn.ReLU()
        self.bn = nn.BatchNorm2d(3)


def checkpoint(theirs, *facts):
    wired = [Requirement("conv", "inputs", []), Requirement("bn", "inputs", ["conv"])]
    layers = {"conv": theirs.conv, "bn": theirs.bn}
    return checkpoint_of(keras_arrays_of(layers), layout="tensorflow", requirements=(*wired, *facts))


def filled():
    theirs = Pair(bias=True)
    with torch.no_grad():
        for array in (theirs.bn.running_mean, theirs.bn.running_var, theirs.bn.weight, theirs.bn.bias):
            array.uniform_(0.5, 2)
    return theirs.eval()


def test_the_function_stays_the_same_and_the_row_says_so():
    theirs, ours = filled(), Pair(bias=False).eval()
    source = checkpoint(theirs)
    plan = plan_reuse(source, ours)
    apply_plan(plan, source, ours)
    x = torch.randn(2, 2, 5, 6)

    row = next(row for row in plan.rows if row.name == "bn.running_mean")
    assert (row.status, row.sources) == ("adapted", ("bn/moving_mean", "conv/bias"))
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)  # float32: the bias is subtracted at another place


@pytest.mark.parametrize(
    ("ours", "facts"),
    [
        (lambda: Pair(bias=False, between=True), ()),
        (lambda: Pair(bias=False), (Requirement("conv", "activation", "relu"),)),
    ],
    ids=["ours has an activation between", "theirs has"],
)
def test_an_activation_between_forbids_it(ours, facts):
    plan = plan_reuse(checkpoint(filled(), *facts), ours())

    (row,) = [row for row in plan.problems if row.name == "conv.bias"]
    assert "Add it to the model: model.conv.bias" in row.note


def test_without_wiring_the_user_says_it():
    source = checkpoint_of(keras_arrays_of(dict(filled().named_children())), layout="tensorflow")

    plan = plan_reuse(source, Pair(bias=False), adapt={r"bn\.running_mean": "fold bias of conv/bias"})

    assert not plan.problems
    assert next(row for row in plan.rows if row.name == "bn.running_mean").status == "adapted"


def test_an_unknown_bias_is_answered_with_near_names():
    with pytest.raises(PlanError, match=r"has no array 'conv/bais'.*Did you mean 'conv/bias'"):
        plan_reuse(checkpoint(filled()), Pair(bias=False), adapt={"bn": "fold bias of conv/bais"})
