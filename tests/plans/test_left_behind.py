"""An array that stays behind under a reused layer is a problem; a bias can be given to the layer."""

import numpy as np
import pytest
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


TABLES = {
    "0.relative_position_index": np.zeros((2, 2), "int64"),
    "0.num_batches_tracked": np.array(3),
    "0.position_ids": np.arange(4)[None],
    "0.my_index": np.arange(3),
    "0.inv_freq": np.ones(2, "float32"),
}


def test_counters_and_tables_are_no_problem():
    model = nn.Sequential(nn.Linear(3, 2))

    assert not plan_reuse(checkpoint_of(arrays_of(model) | TABLES, layout="torch"), model).problems


@pytest.mark.parametrize("leaf", ["0.scale", "0.lora_A.weight", "0.lora_B.default.weight", "0.parametrizations.x.y"])
def test_what_belongs_to_a_reused_layer_is_a_problem(leaf):
    model = nn.Sequential(nn.Linear(3, 2))
    source = arrays_of(model) | {leaf: np.ones((2, 2), "float32")}

    assert len(plan_reuse(checkpoint_of(source, layout="torch"), model).problems) == 1


def test_a_layer_that_the_model_does_not_have_is_no_problem():
    """A head that is left out, and a layer inside a module that owns an array of its own."""
    model = nn.Sequential(nn.Linear(3, 2))
    source = arrays_of(model) | {"head.weight": np.ones((2, 2), "float32"), "0.inner.weight": np.ones(2, "float32")}

    assert not plan_reuse(checkpoint_of(source, layout="torch"), model).problems
