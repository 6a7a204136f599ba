"""The plan run backwards."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import regraft
from regraft.errors import SaveError
from regraft.exports.source_arrays import source_arrays
from regraft.operations.joins import Concatenate, Divide
from regraft.operations.moves import Flip, Gates, PermuteFlat, Reshape, Take, Transpose
from regraft.plan import CheckpointIdentity, Plan
from regraft.plans.rows import Row
from trained_runs import arrays, exported_of, net, tensorflow_run


def test_the_trained_model_is_restored_from_its_own_export(tmp_path):
    """Each array, bit for bit, with the head in the place of the old one."""
    exported, plan = tensorflow_run(tmp_path)
    made = source_arrays(exported, plan)
    np.savez(tmp_path / "ours.npz", **made.values)

    again, state = net(), exported.model.state_dict()
    checkpoint = regraft.open_checkpoint(tmp_path / "ours.npz")
    regraft.apply_plan(regraft.plan_reuse(checkpoint, again, layout="tensorflow"), checkpoint, again)

    assert made.placed == ("5/bias", "5/kernel")
    assert made.values["5/kernel"].shape == (4, 3)
    assert (made.new, made.left) == ((), ())
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in state.items() if tensor.ndim)


@pytest.mark.parametrize(
    "steps",
    [
        (Transpose((3, 2, 0, 1)),),
        (Flip((0, 1)), Transpose((3, 2, 0, 1))),
        (Reshape((6, 20)), PermuteFlat(0, (2, 3), (1, 0))),
        (Reshape((6, 20)), Gates(1, (2, 0, 1, 3))),
    ],
)
def test_what_moves_values_is_undone(tmp_path, steps):
    """For any of these operations, alone and one after the other."""
    source = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    exported, plan = one_layer(tmp_path, {"a": source}, steps)
    assert np.array_equal(source_arrays(exported, plan).values["a"], source)


def one_layer(folder, sources, steps, *, dtype="float32", changed=0.0):
    """A module whose only parameter is made of these sources by these steps."""
    np.savez(folder / "theirs.npz", **sources)
    values = list(sources.values())
    for step in steps:
        values = step.run(values)
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.from_numpy(np.array(values[0], np.float32)) + changed)
    row = Row(
        "weight", tuple(sources), "converted", steps, values[0].shape, "float32",
        tuple(each.shape for each in sources.values()), tuple(dtype for _ in sources),
    )  # fmt: skip
    plan = Plan(CheckpointIdentity(str(folder / "theirs.npz"), "npz", "tensorflow"), "tensorflow", (row,))
    return exported_of(module, plan, folder / "run", None)


def test_arrays_that_were_joined_are_taken_apart(tmp_path):
    """Queries, keys and values, for instance."""
    sources = {name: np.full((2, 3), index, np.float32) for index, name in enumerate("qkv")}
    exported, plan = one_layer(tmp_path, sources, (Transpose((1, 0)), Concatenate(0)), changed=1.0)
    values = source_arrays(exported, plan).values
    assert [float(values[name].max()) for name in "qkv"] == [1.0, 2.0, 3.0]


def test_a_part_of_an_array_is_refused(tmp_path):
    """The rest is not in the model."""
    exported, plan = one_layer(tmp_path, {"a": np.zeros((4, 2), np.float32)}, (Take(0, 1, 3),))
    with pytest.raises(SaveError, match="Only a part of a of the checkpoint is in the model"):
        source_arrays(exported, plan)


def test_an_array_in_two_places_must_be_one(tmp_path):
    """Tied at first, trained apart."""
    exported, plan = one_layer(tmp_path, {"a": np.zeros((4, 2), np.float32)}, ())
    exported.model.other = torch.nn.Parameter(torch.ones(4, 2))
    twice = replace(plan, rows=(*plan.rows, replace(plan.rows[0], target="other")))
    with pytest.raises(SaveError, match="a of the checkpoint fills several arrays of the model, and these differ now"):
        source_arrays(exported, twice)


def test_values_that_were_changed_stay_the_sources_where_the_layer_is_frozen(tmp_path):
    """And are refused where it was trained."""
    sources = {"a": np.arange(4, dtype=np.float32), "factor": np.full(1, 3, np.float32)}
    (tmp_path / "other").mkdir()
    exported, plan = one_layer(tmp_path, sources, (Divide(),))
    assert np.array_equal(source_arrays(exported, plan).values["a"], sources["a"])
    exported, plan = one_layer(tmp_path / "other", sources, (Divide(),), changed=0.5)
    with pytest.raises(SaveError, match=r"cannot be undone:\n  weight: .*\nFreeze them"):
        source_arrays(exported, plan)


@pytest.mark.parametrize(("changed", "dtype"), [(0.0, "float16"), (1e-6, "float32")])
def test_the_sources_dtype_is_kept_where_it_holds_the_values(tmp_path, changed, dtype):
    """A trained float32 value is not rounded to float16."""
    exported, plan = one_layer(tmp_path, {"a": np.ones(3, np.float16)}, (), dtype="float16", changed=changed)
    assert source_arrays(exported, plan).values["a"].dtype == dtype


def test_state_of_an_optimizer_is_left(tmp_path):
    """It belongs to the old training."""
    np.savez(tmp_path / "theirs.npz", **arrays(3), **{"0/kernel/Adam": arrays()["0/kernel"]})
    checkpoint, model = regraft.open_checkpoint(tmp_path / "theirs.npz"), net()
    plan = regraft.plan_reuse(checkpoint, model, layout="tensorflow")
    regraft.apply_plan(plan, checkpoint, model)
    exported, plan = exported_of(model, plan, tmp_path / "run", torch.zeros(2, 2, 8, 8))
    assert source_arrays(exported, plan).left == ("0/kernel/Adam",)
