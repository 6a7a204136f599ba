"""Each known mistake is tried and named where it explains a difference; a trial leaves no trace."""

import numpy as np
import pytest
import torch

from regraft.errors import VerifyError
from regraft.plans.mistakes import possible_mistakes
from regraft.verifying import verify
from wrong_variants import BEFORE, CASES, filled, nothing


@pytest.mark.parametrize("case", CASES)
def test_a_trial_leaves_the_model_as_it_was(case):
    model = filled(CASES[case][1]())
    before = {name: array.clone() for name, array in model.state_dict().items()}

    for mistake in possible_mistakes(model):
        with mistake.trial(model):
            pass

    assert all(torch.equal(before[name], array) for name, array in model.state_dict().items())
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_variant_fails_and_the_hint_names_the_right_one(case):
    right, wrong, spoil, shape, told = CASES[case]
    x = np.random.default_rng(0).normal(-0.3, 1, shape).astype("float32")
    with torch.no_grad():
        true, false = filled(right()), filled(wrong())
        for model in (true, false):
            BEFORE.get(case, nothing)(model)
        # The same arrays under the same names; only the mistake differs.
        false.load_state_dict(true.state_dict(), strict=False)
        spoil(false)
        recorded = true(torch.from_numpy(x)).numpy()

    with pytest.raises(VerifyError, match=rf"It agrees when .*{told}"):
        verify(false, x, recorded)
