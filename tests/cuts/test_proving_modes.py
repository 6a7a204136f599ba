"""Both modes have a program and one set of features."""

import pytest
import torch
from torch import nn

from regraft.cuts.batches import batch_of
from regraft.cuts.proving_modes import proven_modes
from regraft.errors import SplitError
from splits import Branch, example, frozen


def test_each_mode_that_runs_the_example_has_a_program():
    """BatchNorm does not train on one row."""
    model = frozen(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), "0")
    assert sorted(proven_modes(model, batch_of((example(),), {}), None, (True, False))[0]) == [False, True]
    assert sorted(proven_modes(model, batch_of((example()[:1],), {}), None, (True, False))[0]) == [False]
    assert sorted(proven_modes(model, batch_of((example(),), {}), None, (False,))[0]) == [False]


def test_a_leaf_that_differs_in_evaluation_has_a_name_of_its_own():
    """The features hold both."""

    class Doubles(Branch):
        def forward(self, x):
            return super().forward(x if self.training else 2 * x)

    modes, features = proven_modes(frozen(Doubles()), batch_of((example(),), {}), None, (True, False))
    assert [*modes[False].trunk.leaves] == [f"{name} (evaluation)" for name in modes[True].trunk.leaves]
    assert features.keys() == {*modes[True].trunk.leaves, *modes[False].trunk.leaves}


def test_a_model_that_runs_the_example_in_no_mode_is_refused():
    """In its own words."""
    with pytest.raises(SplitError, match=r"The model cannot run the example: .*shapes cannot be multiplied"):
        proven_modes(frozen(Branch()), batch_of((torch.randn(2, 5),), {}), None, (True, False))
