"""Applying a plan writes all of it or nothing."""

import os
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from in_memory import arrays_of, checkpoint_of, keras_arrays_of
from regraft import loading
from regraft.arrays import Requirement
from regraft.errors import CheckpointError, PlanError
from regraft.foundation.files import sha256_of
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.plan import Plan
from regraft.reading import open_checkpoint
from test_matching import EPS, Convolutional, keras_checkpoint, net


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(before, model):
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_a_keras_network_answers_the_same_after_plan_json_and_apply(sizes, seed):
    """save → open → plan → JSON → plan → apply, for dense stacks of any sizes, squares among them."""
    torch.manual_seed(seed)
    original, model = net(*sizes), net(*sizes)
    checkpoint = checkpoint_of(keras_arrays_of(dict(original.named_children())), layout="tensorflow")

    apply_plan(Plan.from_json(plan_reuse(checkpoint, model).to_json()), checkpoint, model)

    assert_same(state_of(original), model)


def test_parameters_stay_the_same_objects():
    model, checkpoint = net(3, 4), checkpoint_of(arrays_of(net(3, 4)))
    before = [id(parameter) for parameter in model.parameters()]

    apply_plan(plan_reuse(checkpoint, model), checkpoint, model)

    assert [id(parameter) for parameter in model.parameters()] == before


def test_ties_stay_and_are_filled_once():
    model = net(3, 3, 3)
    model.hidden2.weight = model.hidden1.weight
    source = arrays_of(net(3, 3, 3))
    source["hidden2.weight"] = source["hidden1.weight"].copy()
    checkpoint = checkpoint_of(source, layout="torch")

    apply_plan(plan_reuse(checkpoint, model), checkpoint, model)

    assert model.hidden2.weight is model.hidden1.weight
    assert np.array_equal(model.hidden1.weight.detach().numpy(), source["hidden1.weight"])


def test_tied_tensors_with_different_sources_are_refused():
    model = net(3, 3, 3)
    model.hidden2.weight = model.hidden1.weight
    checkpoint, before = checkpoint_of(arrays_of(net(3, 3, 3)), layout="torch"), state_of(model)

    with pytest.raises(PlanError, match=r"(?s)hidden2.weight.*tied_conflict: it is the same tensor as hidden1.weight"):
        apply_plan(plan_reuse(checkpoint, model), checkpoint, model)
    assert_same(before, model)


def test_each_source_is_read_once():
    reads: Counter = Counter()
    checkpoint = checkpoint_of(arrays_of(net(3, 4, 2)), reads=reads)
    model = net(3, 4, 2)

    apply_plan(plan_reuse(checkpoint, model, reuse="hidden1"), checkpoint, model)

    assert reads == {"hidden1.weight": 1, "hidden1.bias": 1}


def test_a_plan_with_problems_is_refused_and_changes_nothing():
    checkpoint, model = checkpoint_of(arrays_of(net(3, 4))), net(3, 4, 2)
    before = state_of(model)

    with pytest.raises(PlanError, match="2 of 4 rows of the plan are problems; nothing was changed"):
        apply_plan(plan_reuse(checkpoint, model), checkpoint, model)
    assert_same(before, model)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_refused_and_changes_nothing(value):
    """It is in the last array: the ones before it are not written either."""
    source = arrays_of(net(3, 4, 2))
    source["hidden2.bias"][1] = value
    checkpoint, model = checkpoint_of(source), net(3, 4, 2)
    before = state_of(model)

    with pytest.raises(PlanError, match=r"(?s)hidden2.bias.*nonfinite: 1 value is NaN or infinite"):
        apply_plan(plan_reuse(checkpoint, model), checkpoint, model)
    assert_same(before, model)

    apply_plan(plan_reuse(checkpoint, model, accept=r"hidden2\.bias"), checkpoint, model)


@pytest.mark.parametrize(("stored", "held"), [("float64", torch.float32), ("float32", torch.float16)])
def test_a_number_too_large_for_the_models_dtype_is_refused(stored, held):
    source = {name: array.astype(stored) for name, array in arrays_of(net(3, 4)).items()}
    source["hidden1.bias"][0] = 1e38 if stored == "float32" else 1e300
    checkpoint, model = checkpoint_of(source), net(3, 4).to(held)
    before = state_of(model)

    with pytest.raises(PlanError, match=r"(?s)hidden1.bias.*values up to 1e\+\d+ do not fit float"):
        apply_plan(plan_reuse(checkpoint, model), checkpoint, model)
    assert_same(before, model)


def test_a_fraction_is_not_rounded_into_a_counter():
    source = arrays_of(nn.BatchNorm2d(2))
    source["num_batches_tracked"] = np.array(1.5, np.float32)
    checkpoint, model = checkpoint_of(source), nn.BatchNorm2d(2)

    with pytest.raises(PlanError, match="numbers that int64 cannot hold exactly"):
        apply_plan(plan_reuse(checkpoint, model), checkpoint, model)


def test_values_reach_a_bfloat16_model_rounded_as_torch_rounds():
    original = net(5, 7)
    checkpoint, model = checkpoint_of(arrays_of(original)), net(5, 7).bfloat16()

    apply_plan(plan_reuse(checkpoint, model), checkpoint, model)

    assert_same(state_of(original.bfloat16()), model)


def test_an_interrupt_while_writing_puts_everything_back():
    """The third tensor cannot be written: the first two get their old values again."""
    model, checkpoint = net(3, 4, 2), checkpoint_of(arrays_of(net(3, 4, 2)))
    plan, before = plan_reuse(checkpoint, model), state_of(model)
    broken = torch.zeros(1).expand(4)
    model.hidden1.bias.data = broken  # an expanded tensor cannot be written in place
    before["hidden1.bias"] = broken.clone()

    with pytest.raises(PlanError, match=r"hidden1.bias cannot be written"):
        apply_plan(plan, checkpoint, model)
    assert_same(before, model)


def test_a_plan_of_another_model_is_refused_row_by_row():
    checkpoint = checkpoint_of(arrays_of(net(3, 4, 2)))
    plan = plan_reuse(checkpoint, net(3, 4, 2))

    with pytest.raises(
        PlanError, match=r"(?s)another checkpoint or another model.*hidden1.weight  planned \(4, 3\) float32.*\(5, 3\)"
    ):
        apply_plan(plan, checkpoint, net(3, 5, 2))
    with pytest.raises(PlanError, match=r"(?s)hidden3.weight is in the model and not in the plan"):
        apply_plan(plan, checkpoint, net(3, 4, 2, 2))
    with pytest.raises(PlanError, match=r"(?s)hidden2.weight is not in the model. Did you mean"):
        apply_plan(plan, checkpoint, net(3, 4))


def test_a_plan_of_another_checkpoint_is_refused_row_by_row():
    model = net(3, 4)
    plan = plan_reuse(checkpoint_of(arrays_of(model)), model)

    with pytest.raises(PlanError, match=r"hidden1.weight is not in memory.npz"):
        apply_plan(plan, checkpoint_of(arrays_of(net(3, 4, prefix="dense"))), model)
    with pytest.raises(
        PlanError, match=r"hidden1.weight  planned \(4, 3\) float32, the checkpoint has \(4, 2\) float32"
    ):
        apply_plan(plan, checkpoint_of(arrays_of(net(2, 4))), model)


def test_a_plan_is_not_applied_to_another_file(tmp_path):
    """Of the same names and shapes: the provenance would name the wrong one."""
    model = net(4, 3)
    for name in ("one.pt", "other.pt"):
        torch.save(model.state_dict(), tmp_path / name)
    plan = plan_reuse(open_checkpoint(tmp_path / "one.pt"), model)
    with pytest.raises(PlanError, match=r"files   planned one\.pt \([\d,]+ bytes\), the checkpoint has other\.pt"):
        apply_plan(plan, open_checkpoint(tmp_path / "other.pt"), model)


@pytest.mark.parametrize("reopened", [False, True])
def test_a_checkpoint_that_was_replaced_after_the_plan_was_made_is_refused(tmp_path, reopened):
    """By a file of the same names, shapes and size: another revision, as every fine-tuning writes it."""
    model, other = net(4, 3), net(4, 3)
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    os.utime(tmp_path / "m.safetensors", (1, 1))  # file systems count time in steps of some milliseconds
    checkpoint = open_checkpoint(tmp_path / "m.safetensors")
    plan = plan_reuse(checkpoint, model)
    before = [tensor.clone() for tensor in model.state_dict().values()]
    save_file(other.state_dict(), tmp_path / "m.safetensors")

    with pytest.raises((PlanError, CheckpointError), match="was changed after"):
        apply_plan(plan, open_checkpoint(tmp_path / "m.safetensors") if reopened else checkpoint, model)
    assert all(map(torch.equal, before, model.state_dict().values()))


def test_a_flipped_bit_is_noticed_when_the_plan_has_the_file_s_hash(tmp_path):
    """safetensors files hold no checksums; the plan may be kept for years, beside a copy of the file."""
    model = net(4, 3)
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    plan = plan_reuse(open_checkpoint(tmp_path / "m.safetensors"), model)
    (file,) = plan.checkpoint.files
    hashed = replace(file, sha256=sha256_of(tmp_path / "m.safetensors"), modified_ns=0)
    plan = replace(plan, checkpoint=replace(plan.checkpoint, files=(hashed,)))
    content = bytearray((tmp_path / "m.safetensors").read_bytes())

    apply_plan(Plan.from_json(plan.to_json()), open_checkpoint(tmp_path / "m.safetensors"), model)
    content[-1] ^= 1
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(PlanError, match="its SHA-256 differs"):
        apply_plan(plan, open_checkpoint(tmp_path / "m.safetensors"), model)


def test_a_row_that_was_made_fresh_by_hand_is_left_alone():
    model, checkpoint = net(3, 4), checkpoint_of(arrays_of(net(3, 4)))
    bias = model.hidden1.bias.detach().clone()
    text = plan_reuse(checkpoint, model).to_json()

    edited = text.replace(
        '"target": "hidden1.bias", "sources": ["hidden1.bias"], "status": "exact"',
        '"target": "hidden1.bias", "sources": [], "status": "kept_init"',
    )
    assert edited != text
    apply_plan(Plan.from_json(edited), checkpoint, model)

    assert torch.equal(model.hidden1.bias, bias)
    assert np.array_equal(model.hidden1.weight.detach().numpy(), checkpoint.read("hidden1.weight"))


def test_a_row_edited_into_the_impossible_is_refused():
    model, checkpoint = net(3, 4), checkpoint_of(arrays_of(net(3, 4)))
    plan = plan_reuse(checkpoint, model)
    swapped = replace(plan.rows[0], sources=("hidden1.bias",), source_shapes=((4,),))
    twice = replace(plan, rows=(*plan.rows, plan.rows[0]))

    with pytest.raises(PlanError, match=r"hidden1.weight  expected \(4, 3\), got \(4,\) after no operation"):
        apply_plan(replace(plan, rows=(swapped, plan.rows[1])), checkpoint, model)
    with pytest.raises(PlanError, match=r"hidden1.weight is planned 2 times"):
        apply_plan(twice, checkpoint, model)


def test_a_cast_that_was_edited_away_is_asked_for():
    source = {name: array.astype(np.float64) for name, array in arrays_of(net(3, 4)).items()}
    model, checkpoint = net(3, 4), checkpoint_of(source)
    plan = plan_reuse(checkpoint, model)
    rows = tuple(replace(row, operations=()) for row in plan.rows)

    with pytest.raises(PlanError, match=r"is float32, the source float64: add the operation .*Cast"):
        apply_plan(replace(plan, rows=rows), checkpoint, model)


def test_an_adopted_eps_is_set_with_the_weights():
    model, checkpoint = Convolutional(), keras_checkpoint(Requirement("bn", "eps", 1e-3))

    apply_plan(plan_reuse(checkpoint, model, adopt=r"bn\.eps"), checkpoint, model)

    assert model.bn.eps == 1e-3


def test_an_adopted_bias_is_made_and_filled():
    theirs, model = Convolutional(bias=True), Convolutional()
    checkpoint = checkpoint_of(keras_arrays_of(dict(theirs.named_children())), layout="tensorflow")

    plan = plan_reuse(checkpoint, model, adopt=r"conv\.bias")
    apply_plan(plan, checkpoint, model)

    assert torch.equal(model.conv.bias, theirs.conv.bias)
    assert next(row for row in plan.rows if row.name == "conv.bias").is_reused


def test_a_failure_takes_back_what_was_adopted():
    arrays = keras_arrays_of(dict(Convolutional().named_children()))
    arrays["conv/kernel"][0] = np.nan
    checkpoint = checkpoint_of(arrays, layout="tensorflow", requirements=(Requirement("bn", "eps", 1e-3),))
    model = Convolutional(bias=False)

    with pytest.raises(PlanError, match="nonfinite"):
        apply_plan(plan_reuse(checkpoint, model, adopt=".*"), checkpoint, model)

    assert model.bn.eps == 1e-5


def test_frozen_parameters_can_be_filled_and_stay_frozen():
    model, checkpoint = net(3, 4).requires_grad_(False), checkpoint_of(arrays_of(net(3, 4)))

    apply_plan(plan_reuse(checkpoint, model), checkpoint, model)

    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_change_that_does_not_give_the_source_s_function_is_refused():
    """A plan edited by hand, or a model that changed since: nothing is written."""
    model = Convolutional()
    plan = plan_reuse(keras_checkpoint(EPS), model, adopt=".*")
    wrong = replace(plan, requirements=tuple(replace(row, required=0.5) for row in plan.requirements))
    before = state_of(model)

    with pytest.raises(PlanError, match=r"does not give the source's function; nothing was changed.\n  setting bn.eps"):
        apply_plan(wrong, keras_checkpoint(EPS), model)

    assert_same(before, model)
    assert model.bn.eps == 1e-5


def on_meta():
    """A tied network on the meta device, one of whose weights is frozen."""
    with torch.device("meta"):
        model = net(3, 3, 3)
    model.hidden2.weight = model.hidden1.weight
    model.hidden1.bias.requires_grad_(False)
    return model


def tied_checkpoint():
    """What fills it."""
    source = arrays_of(net(3, 3, 3))
    source["hidden2.weight"] = source["hidden1.weight"].copy()
    return checkpoint_of(source)


def test_a_model_on_the_meta_device_gets_its_memory():
    """Its values, its ties and its frozen parameters as those of a model on the CPU."""
    model, expected, checkpoint = on_meta(), net(3, 3, 3), tied_checkpoint()
    expected.hidden2.weight = expected.hidden1.weight
    for filled in (model, expected):
        apply_plan(plan_reuse(checkpoint, filled), checkpoint, filled)
    assert_same(state_of(expected), model)
    assert model.hidden2.weight is model.hidden1.weight
    assert isinstance(model.hidden1.weight, nn.Parameter)
    assert [name for name, array in model.named_parameters() if not array.requires_grad] == ["hidden1.bias"]


def test_arrays_on_the_meta_device_share_no_memory():
    """A source that fills two of them is copied for each."""
    with torch.device("meta"):
        model = net(3, 3, 3)
    checkpoint = tied_checkpoint()
    apply_plan(plan_reuse(checkpoint, model), checkpoint, model)
    with torch.no_grad():
        model.hidden1.weight.zero_()
    assert model.hidden2.weight.any()


def test_an_array_that_would_stay_on_the_meta_device_is_refused():
    """A fresh layer has no initial weights there, nor has a table that no checkpoint holds."""
    with torch.device("meta"):
        model = net(3, 3, 3)
        model.register_buffer("angles", torch.empty(3), persistent=False)
    checkpoint = tied_checkpoint()
    plan = plan_reuse(checkpoint, model, fresh=["hidden2"])
    missing = r"3 arrays lie on the meta device .* fill them: hidden2\.weight, hidden2\.bias, angles\."
    with pytest.raises(PlanError, match=missing):
        apply_plan(plan, checkpoint, model)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_an_interrupt_while_writing_leaves_the_meta_device_as_it_was(monkeypatch):
    """Every parameter is the object that it was."""
    model, checkpoint = on_meta(), tied_checkpoint()
    plan, before = plan_reuse(checkpoint, model), dict(model.named_parameters())
    copies = []

    def interrupt(values, tensor, holders, write=loading._hold):
        write(values, tensor, holders)
        copies.append(values)
        if len(copies) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loading, "_hold", interrupt)
    with pytest.raises(KeyboardInterrupt):
        apply_plan(plan, checkpoint, model)
    assert all(array is before[name] for name, array in model.named_parameters())


def test_rows_that_would_keep_initial_values_need_memory():
    """A table with more rows than the source: the others have no values on the meta device."""
    with torch.device("meta"):
        model = net(3, 4)
    checkpoint = checkpoint_of(arrays_of(net(3, 2)))
    plan = plan_reuse(checkpoint, model, adapt={"hidden1": "first rows"})
    with pytest.raises(PlanError, match="has none on the meta device: create this layer on the CPU"):
        apply_plan(plan, checkpoint, model)
    assert all(parameter.is_meta for parameter in model.parameters())
