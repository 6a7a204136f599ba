"""New layers in TensorFlow's layout."""

import numpy as np
import pytest
import torch
from torch import nn

import regraft
from golden_files import GOLDEN
from regraft.building import planned_network
from regraft.errors import SaveError
from regraft.exports.new_layers import new_layers, places_of, shape_there
from regraft.plan import CheckpointIdentity, Plan
from regraft.plans.rows import Row
from trained_runs import exported_of, tensorflow_run, trained


def fresh(model, folder, example, rows=()):
    """A model of which nothing came from the source."""
    made = tuple(Row(name, (), "kept_init", (), tuple(tensor.shape)) for name, tensor in model.state_dict().items())
    plan = Plan(CheckpointIdentity("theirs", "npz", "tensorflow"), "tensorflow", (*made, *rows))
    return exported_of(model.eval(), plan, folder / "run", example)


def unused(name, shape):
    """An array of the source that fills nothing."""
    return Row(None, (name,), "unused", source_shapes=(shape,), source_dtypes=("float32",))


def test_kernels_have_their_inputs_before_their_outputs(tmp_path):
    """Convolutions, dense layers and norms."""
    model = nn.Sequential(nn.Conv2d(2, 3, 5), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    exported, plan = fresh(model, tmp_path, torch.zeros(2, 2, 8, 8))
    layers = new_layers(exported, plan)
    assert np.array_equal(layers["0"]["kernel"], model[0].weight.detach().permute(2, 3, 1, 0).numpy())
    assert np.array_equal(layers["4"]["kernel"], model[4].weight.detach().t().numpy())
    assert set(layers["1"]) == {"gamma", "beta", "moving_mean", "moving_variance"}


def test_a_flattened_map_before_a_new_layer_is_refused(tmp_path):
    """Its values have another order; also where no module but the forward itself pools."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(2, 3, 3), nn.Linear(27, 4)

        def forward(self, x):
            return self.fc(nn.functional.max_pool2d(self.conv(x), 2).flatten(1))

    exported, plan = fresh(Own(), tmp_path, torch.zeros(2, 2, 8, 8))
    with pytest.raises(SaveError, match="The new layer fc takes a flattened map"):
        new_layers(exported, plan)


def test_a_new_head_has_the_place_of_the_old_one(tmp_path):
    """Whatever its number of outputs; a dense kernel as the 1×1 convolution that it was."""
    exported, plan = fresh(nn.Sequential(nn.Linear(3, 4)), tmp_path, torch.zeros(2, 3))
    old = [unused("net/Logits/weights", (1, 1, 3, 9)), unused("net/Logits/biases", (9,)), unused("x/kernel", (5, 9))]
    wide = Plan(plan.checkpoint, plan.layout, (*plan.rows, *old))
    layers = new_layers(exported, wide)
    assert places_of(layers, wide) == {"0": {"kernel": "net/Logits/weights", "bias": "net/Logits/biases"}}
    assert shape_there(layers["0"]["kernel"], (1, 1, 3, 9)).shape == (1, 1, 3, 4)


def test_two_old_layers_leave_a_choice_that_is_not_made(tmp_path):
    """Unless one of them has the name."""
    exported, plan = fresh(nn.ModuleDict({"head": nn.Linear(3, 4)}), tmp_path, None)
    old = [unused(f"{layer}/{leaf}", shape) for layer in ("a", "b") for leaf, shape in (("k", (3, 9)), ("b", (9,)))]
    named = [unused("head/k", (3, 9)), unused("head/b", (9,))]
    layers = new_layers(exported, plan)
    assert places_of(layers, Plan(plan.checkpoint, plan.layout, (*plan.rows, *old))) == {}
    assert "head" in places_of(layers, Plan(plan.checkpoint, plan.layout, (*plan.rows, *old, *named)))


def test_an_array_that_the_source_leaves_out_must_not_be_trained(tmp_path):
    """A norm without gamma has no variable for it."""
    checkpoint = regraft.open_checkpoint(GOLDEN / "keras3_image.keras")
    built = planned_network(checkpoint)
    regraft.apply_plan(built.plan, checkpoint, built.model)
    exported, plan = exported_of(built.model, built.plan, tmp_path / "run", torch.zeros(2, 2, 5, 7))
    assert new_layers(exported, plan) == {}
    trained(built.model, ["block.norm.weight"])
    with pytest.raises(SaveError, match=r"1 array was trained that the checkpoint lacks: block.norm.weight"):
        new_layers(exported, plan)


def test_the_run_of_the_other_tests_has_a_new_head(tmp_path):
    """And nothing else."""
    exported, plan = tensorflow_run(tmp_path)
    assert list(new_layers(exported, plan)) == ["5"]
