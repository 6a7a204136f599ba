"""A trial changes a model for a moment and leaves no trace."""

import pytest
import torch

from regraft.plans.variants import variants_of
from wrong_variants import CASES, filled


@pytest.mark.parametrize("case", CASES)
def test_a_trial_leaves_the_model_as_it_was(case):
    model = filled(CASES[case][1]())
    before = {name: array.clone() for name, array in model.state_dict().items()}

    for variant in variants_of(model):
        with variant.trial(model):
            pass

    assert all(torch.equal(before[name], array) for name, array in model.state_dict().items())
    assert not any("forward" in vars(module) for module in model.modules())
