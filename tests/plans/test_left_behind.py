"""An array that stays behind under a reused layer is a problem; a bias can be given to the layer."""

import numpy as np
from torch import nn

from in_memory import arrays_of, checkpoint_of
from regraft.loading import apply_plan
from regraft.matching import plan_reuse


def test_an_adopted_bias_is_a_row_and_a_parameter():
    theirs, ours = nn.Sequential(nn.Linear(3, 2)), nn.Sequential(nn.Linear(3, 2, bias=False))
    source = checkpoint_of(arrays_of(theirs))

    plan = plan_reuse(source, ours)
    adopted = plan_reuse(source, ours, adopt=".*")
    apply_plan(adopted, source, ours)

    assert [(row.name, row.adoptable) for row in plan.problems] == [("0.bias", True)]
    assert [advice.argument for advice in plan.problems[0].advice] == ["adopt", "accept"]
    assert not adopted.problems
    assert np.array_equal(ours[0].bias.detach().numpy(), theirs[0].bias.detach().numpy())
