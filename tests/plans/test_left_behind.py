"""An array that stays behind under a reused layer is a problem; a bias can be given to the layer."""

import numpy as np
import pytest
import torch
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
    """A head that is left out, and a layer inside a module of layers that owns an array of its own."""
    model = nn.Sequential(nn.Linear(3, 2), nn.Module())
    model[1].table = nn.Parameter(torch.zeros(2))
    source = arrays_of(model) | {"head.weight": np.ones((2, 2), "float32"), "1.inner.weight": np.ones(2, "float32")}

    assert not plan_reuse(checkpoint_of(source, layout="torch"), model).problems


@pytest.mark.parametrize(
    "name",
    ["0.adapter.down.weight", "0.weight_fake_quant.scale", "0.vera_lambda_b.default", "0.boft_R.default",
     "0.trainable_tokens_delta.default"],
)  # fmt: skip
def test_what_works_inside_a_reused_layer_is_a_problem(name):
    """A linear layer has no layers inside: what the file has there changes what it computes."""
    model = nn.Sequential(nn.Linear(3, 2))
    source = arrays_of(model) | {name: np.ones((2, 2), "float32")}

    assert [row.layer for row in plan_reuse(checkpoint_of(source, layout="torch"), model).problems] == ["0"]


def test_what_replaces_a_module_is_missed_where_the_original_is_taken():
    model = nn.Sequential(nn.Linear(3, 2))
    arrays = arrays_of(model)
    original = {f"0.original_module.{name[2:]}": array for name, array in arrays.items()}
    saved = {f"0.modules_to_save.default.{name[2:]}": array for name, array in arrays.items()}
    rename = {r"0\.original_module\.(.*)": r"0.\1"}

    plan = plan_reuse(checkpoint_of(original | saved, layout="torch"), model, rename=rename)

    assert len(plan.problems) == 2
