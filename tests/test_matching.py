"""The plan has one right answer for every array, or a problem that says what to do."""

from collections import OrderedDict
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from in_memory import arrays_of, checkpoint_of, keras_arrays_of
from regraft.arrays import Requirement
from regraft.errors import PatternError, PlanError
from regraft.formats.roles import EMA_ROOTS
from regraft.matching import plan_reuse


def net(*sizes, prefix="hidden"):
    """Dense layers hidden1, hidden2 …"""
    return nn.Sequential(OrderedDict((f"{prefix}{i + 1}", nn.Linear(a, b)) for i, (a, b) in enumerate(pairwise(sizes))))


class Convolutional(nn.Module):
    """A convolution, its batch-norm and a classifier."""

    def __init__(self, *, channels=3, classes=4, bias=False):
        super().__init__()
        self.conv = nn.Conv2d(channels, 5, 3, bias=bias)
        self.bn = nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, classes)

    def forward(self, x):
        """(n, c, h, w) → (n, classes)."""
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))


def statuses(plan):
    return {row.name: row.status for row in plan.rows}


def test_the_same_names_need_no_rename_from_keras():
    model = Convolutional()
    source = keras_arrays_of(dict(Convolutional().named_children()))

    plan = plan_reuse(checkpoint_of(source, layout="tensorflow"), model)

    assert not plan.problems
    assert statuses(plan) == {
        "conv.weight": "converted",
        "bn.weight": "renamed",
        "bn.bias": "renamed",
        "bn.running_mean": "renamed",
        "bn.running_var": "renamed",
        "bn.num_batches_tracked": "kept_init",
        "fc.weight": "converted",
        "fc.bias": "renamed",
    }


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model.", "state_dict.model.", "_model."])
def test_wrappers_are_taken_off_and_told(prefix):
    plan = plan_reuse(checkpoint_of(arrays_of(net(3, 4, 2), prefix=prefix)), net(3, 4, 2))

    assert not plan.problems
    assert any(prefix and repr(prefix) in note for note in plan.notes) == bool(prefix)


@pytest.mark.parametrize("word", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_a_part_that_was_compiled_or_sharded_keeps_its_name(word):
    """torch.compile of one layer puts its word into the middle of the names."""
    source = {f"model.{name.replace('hidden1.', f'hidden1.{word}.')}": a for name, a in arrays_of(net(3, 4, 2)).items()}

    plan = plan_reuse(checkpoint_of(source), net(3, 4, 2))

    assert not plan.problems
    assert any(repr(f"model.{word}.") in note for note in plan.notes)


def test_a_wrapper_of_the_model_is_seen_through_too():
    plan = plan_reuse(checkpoint_of(arrays_of(net(3, 4))), nn.Sequential(OrderedDict(module=net(3, 4))))

    assert not plan.problems
    assert plan.rows[0].target == "module.hidden1.weight"


def test_the_chapters_plan_restores_three_layers_and_leaves_the_rest():
    model = net(6, 5, 4, 4, 3, 2)
    source = keras_arrays_of(dict(net(6, 5, 4, 4, 4, 2).named_children()), prefix="dnn/")

    plan = plan_reuse(
        checkpoint_of(source, layout="tensorflow"), model, reuse="hidden[123]", rename={r"dnn/(.*)": r"\1"}
    )

    assert plan.heading().startswith("6 reused · 4 fresh · 0 problems")


def test_every_array_of_both_sides_has_exactly_one_answer():
    model = Convolutional()
    source = keras_arrays_of(dict(Convolutional().named_children())) | {
        "global_step": np.array(3),
        "old/kernel": np.ones((2, 2), np.float32),
        "conv/kernel/Adam": np.ones(3, np.float32),
    }
    roles = {"global_step": "counter", "conv/kernel/Adam": "optimizer_slot"}

    plan = plan_reuse(checkpoint_of(source, layout="tensorflow", roles=roles), model, fresh="fc")

    assert [row.target for row in plan.rows if row.target] == list(model.state_dict())
    answered = [source for row in plan.rows for source in row.sources]
    assert sorted(answered) == sorted(source)
    assert statuses(plan)["global_step"] == statuses(plan)["conv/kernel/Adam"] == "optimizer_slot"
    assert statuses(plan)["fc/kernel"] == "excluded"
    assert statuses(plan)["old/kernel"] == "unused"


def test_a_target_without_a_source_is_a_problem_unless_declared_fresh():
    checkpoint = checkpoint_of(arrays_of(net(3, 4)))

    with pytest.raises(PlanError, match=r"(?s)hidden2.weight.*hidden2.bias.*missing: no array.*fresh="):
        plan_reuse(checkpoint, net(3, 4, 2)).check()
    assert not plan_reuse(checkpoint, net(3, 4, 2), fresh="hidden2").problems


def test_a_common_prefix_is_met_with_the_rule_that_takes_it_off():
    checkpoint = checkpoint_of(arrays_of(net(3, 4, 2), prefix="dnn."))

    with pytest.raises(PlanError, match=r"""(?s)4 names begin with 'dnn\.'.*rename=\{r"dnn\\\.\(\.\*\)": r"\\1"\}"""):
        plan_reuse(checkpoint, net(3, 4, 2)).check()


def test_other_input_channels_are_told_with_both_ways_out():
    checkpoint = checkpoint_of(arrays_of(Convolutional()))

    with pytest.raises(
        PlanError,
        match=r"(?s)target  conv.weight  expected \(5, 1, 3, 3\).*got +\(5, 3, 3, 3\).*trained on 3 input channels, "
        r'the model takes 1.*adapt=\{"conv": "sum"\}.*fresh=\["conv"\]',
    ):
        plan_reuse(checkpoint, Convolutional(channels=1)).check()


def test_input_channels_are_adapted_when_asked_and_shown_so():
    checkpoint = checkpoint_of(arrays_of(Convolutional()))

    plan = plan_reuse(checkpoint, Convolutional(channels=1), adapt={"conv": "sum"})

    assert not plan.problems
    assert statuses(plan)["conv.weight"] == "adapted"


def test_another_number_of_classes_is_a_problem_of_that_layer_only():
    plan = plan_reuse(checkpoint_of(arrays_of(Convolutional())), Convolutional(classes=7))

    assert [row.name for row in plan.problems] == ["fc.weight", "fc.bias"]
    assert "The number of outputs differs" in plan.problems[0].note


def test_a_square_kernel_of_an_unknown_framework_is_undecidable():
    """Its shape fits either way; even kernels that fit in one way only are not tried."""
    source = {"hidden1.w": np.ones((4, 4), np.float32), "hidden1.b": np.ones(4, np.float32)}

    plan = plan_reuse(checkpoint_of(source), net(4, 4))

    assert statuses(plan) == {"hidden1.weight": "undecidable_orientation", "hidden1.bias": "renamed"}
    with pytest.raises(PlanError, match='layout="tensorflow"'):
        plan.check()
    assert not plan_reuse(checkpoint_of(source), net(4, 4), layout="tensorflow").problems


def test_a_torch_file_with_keras_names_is_not_believed():
    """safetensors is written by Flax and Keras too: then its kernels are (in, out)."""
    source = keras_arrays_of(dict(net(4, 4).named_children()))

    plan = plan_reuse(checkpoint_of(source, layout="torch"), net(4, 4))

    assert statuses(plan)["hidden1.weight"] == "undecidable_orientation"


class Flattening(nn.Module):
    """A convolution whose map of 2 × 3 places is flattened before two dense layers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.fc = nn.Linear(24, 24)
        self.out = nn.Linear(24, 2)


FLATTENED = (Requirement("fc", "flatten_order", "channels_last"), Requirement("fc", "flatten_channels", 4))


def test_a_flattened_map_is_reordered_when_the_file_tells_of_it():
    source = keras_arrays_of(dict(Flattening().named_children()))

    plan = plan_reuse(checkpoint_of(source, layout="tensorflow", requirements=FLATTENED), Flattening())

    assert not plan.problems
    assert "flattened map (6, 4) -> (4, 6)" in next(row for row in plan.rows if row.name == "fc.weight").work()


def test_a_flattened_map_that_is_only_suspected_is_a_problem_until_the_user_decides():
    """24 inputs behind a convolution of 4 channels: six places, in an order that the file does not tell."""
    source = checkpoint_of(keras_arrays_of(dict(Flattening().named_children())), layout="tensorflow")

    plan = plan_reuse(source, Flattening())
    told = plan_reuse(source, Flattening(), adapt={"fc.weight": "flatten 2x3x4"})
    kept = plan_reuse(source, Flattening(), adapt={"fc.weight": "as stored"})

    assert [row.name for row in plan.problems] == ["fc.weight"]
    with pytest.raises(PlanError, match=r'6 places × 4 channels.*\n.*"flatten HxWx4"'):
        plan.check()
    assert not told.problems
    assert not kept.problems
    assert statuses(told)["fc.weight"] == "adapted"


def test_torchs_own_files_flatten_as_torch_does():
    assert not plan_reuse(checkpoint_of(arrays_of(Flattening()), layout="torch"), Flattening()).problems


def test_a_transposed_convolution_of_a_lone_kernel_is_undecidable():
    model = nn.Sequential(OrderedDict(up=nn.ConvTranspose2d(4, 4, 3)))
    source = {"up/kernel": np.ones((3, 3, 4, 4), np.float32), "up/bias": np.ones(4, np.float32)}

    plan = plan_reuse(checkpoint_of(source), model)

    assert statuses(plan)["up.weight"] == "undecidable_orientation"
    assert not plan_reuse(checkpoint_of(source), model, layout="flax").problems


def test_a_dense_kernel_of_onnx_without_its_axes_is_decided_by_the_user():
    """A square MatMul fits both ways; the user's word is taken, nobody else's."""
    arrays = {"hidden1/weight": np.eye(4, dtype=np.float32), "hidden1/bias": np.ones(4, np.float32)}
    source = checkpoint_of(arrays, layout="onnx")

    plan = plan_reuse(source, net(4, 4))
    told = plan_reuse(source, net(4, 4), adapt={r"hidden1\.weight": "transposed"})

    assert [row.status for row in plan.problems] == ["undecidable_orientation"]
    assert not told.problems
    assert "(in, out) -> (out, in)" in told.rows[0].work()


def test_a_parameter_of_no_known_layer_is_undecidable_until_the_user_decides():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.zeros(3, 3))

    source = {"table": np.ones((3, 3), np.float32), "x/kernel": np.ones((1, 1), np.float32)}

    plan = plan_reuse(checkpoint_of(source, layout="tensorflow"), Own())
    decided = plan_reuse(checkpoint_of(source, layout="tensorflow"), Own(), adapt={"table": "as stored"})

    assert statuses(plan)["table"] == "undecidable_orientation"
    assert not decided.problems


def test_two_sources_for_one_target_are_ambiguous():
    source = arrays_of(net(3, 4)) | arrays_of(net(3, 4), prefix="module.")

    with pytest.raises(PlanError, match=r"(?s)ambiguous: Several arrays of the checkpoint match this one"):
        plan_reuse(checkpoint_of(source), net(3, 4)).check()


def test_averages_are_listed_and_used_on_request():
    source = arrays_of(net(3, 4)) | arrays_of(net(3, 4), prefix="ema.")
    roles = {name: "ema" for name in source if name.startswith("ema.")}

    plain = plan_reuse(checkpoint_of(source, roles=roles), net(3, 4))
    averaged = plan_reuse(checkpoint_of(source, roles=roles), net(3, 4), ema=True)

    assert plain.rows[0].sources == ("hidden1.weight",)
    assert averaged.rows[0].sources == ("ema.hidden1.weight",)
    with pytest.raises(PlanError, match="no moving averages"):
        plan_reuse(checkpoint_of(arrays_of(net(3, 4))), net(3, 4), ema=True)


@pytest.mark.parametrize("root", EMA_ROOTS)
@pytest.mark.parametrize("raw", ["", "state_dict.", "network.", "net.module."])
def test_a_requested_average_is_never_the_raw_weight(root, raw):
    """Whatever the trainer calls it: right, or a problem, but not the other numbers without a word."""
    averages = arrays_of(net(3, 4), prefix=f"{root}.")
    source = arrays_of(net(3, 4), prefix=raw) | averages

    plan = plan_reuse(checkpoint_of(source, roles=dict.fromkeys(averages, "ema")), net(3, 4), ema=True)

    assert [row.sources for row in plan.rows if row.target] == [(name,) for name in averages]


def test_an_average_under_a_root_that_nobody_knows_leaves_its_weight_out():
    source = arrays_of(net(3, 4)) | arrays_of(net(3, 4), prefix="strange.")
    roles = {name: "ema" for name in source if name.startswith("strange.")}

    plan = plan_reuse(checkpoint_of(source, roles=roles), net(3, 4), ema=True)

    assert [row.status for row in plan.rows if row.target] == ["missing", "missing"]


@pytest.mark.parametrize("pattern", [".*", r"\w+", r".*\.eps", r"bn\.eps", "bn"])
def test_a_pattern_for_what_is_met_or_fresh_is_no_mistake(pattern):
    """So that one line works for every checkpoint."""
    model = Convolutional()
    checkpoint = checkpoint_of(arrays_of(model))

    assert not plan_reuse(checkpoint, model, adopt=pattern, accept=pattern).problems
    assert not plan_reuse(checkpoint, model, adopt=pattern, accept=pattern, fresh="bn").problems


@pytest.mark.parametrize("option", ["reuse", "fresh", "accept", "adopt"])
def test_a_pattern_that_chooses_nothing_is_an_error_with_near_names(option):
    with pytest.raises(PatternError, match="matches the pattern 'hiden1'"):
        plan_reuse(checkpoint_of(arrays_of(net(3, 4))), net(3, 4), **{option: "hiden1"})


def test_an_adaptation_that_chooses_nothing_is_an_error():
    with pytest.raises(PatternError, match="No array of the model matches the pattern 'conv9'"):
        plan_reuse(checkpoint_of(arrays_of(net(3, 4))), net(3, 4), adapt={"conv9": "sum"})


def test_another_dtype_is_a_row_of_its_own_status():
    source = {name: array.astype(np.float64) for name, array in arrays_of(net(3, 4)).items()}

    plan = plan_reuse(checkpoint_of(source), net(3, 4))

    assert [row.status for row in plan.rows] == ["cast", "cast"]


def test_tied_tensors_are_filled_from_the_one_source_that_a_file_keeps():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 3)
            self.out = nn.Linear(3, 5, bias=False)
            self.out.weight = self.embed.weight

    plan = plan_reuse(checkpoint_of({"embed.weight": np.ones((5, 3), np.float32)}, layout="torch"), Tied())

    assert not plan.problems
    assert plan.rows[1].sources == ("embed.weight",)
    assert "same tensor" in plan.rows[1].note


def test_tied_tensors_cannot_be_fresh_and_reused_at_once():
    model = net(3, 3, 3)
    model.hidden2.weight = model.hidden1.weight

    plan = plan_reuse(checkpoint_of(arrays_of(net(3, 3, 3)), layout="torch"), model, fresh=r"hidden2\.weight")

    assert [row.name for row in plan.problems if row.status == "tied_conflict"] == ["hidden2.weight"]


def test_a_norm_without_scale_takes_one_and_says_so():
    source = keras_arrays_of(dict(Convolutional().named_children()))
    del source["bn/gamma"]

    plan = plan_reuse(checkpoint_of(source, layout="tensorflow"), Convolutional())

    row = next(row for row in plan.rows if row.target == "bn.weight")
    assert (row.status, row.sources, row.work()) == ("converted", (), "filled with 1")


def test_a_norm_with_an_array_that_nobody_understands_is_not_completed():
    """The unknown array may be the scale under a strange name."""
    source = keras_arrays_of(dict(Convolutional().named_children()))
    source["bn/strange"] = source.pop("bn/gamma")

    plan = plan_reuse(checkpoint_of(source, layout="tensorflow"), Convolutional())

    assert statuses(plan)["bn.weight"] == "missing"


def test_a_bias_that_the_model_has_no_place_for_is_a_problem():
    """Leaving it behind in silence would change the function."""
    source = arrays_of(Convolutional(bias=True))

    plan = plan_reuse(checkpoint_of(source), Convolutional())

    assert [row.name for row in plan.problems] == ["conv.bias"]
    assert not plan_reuse(checkpoint_of(source), Convolutional(), accept=r"conv\.bias").problems


EPS = Requirement("bn", "eps", 1e-3)


def keras_checkpoint(*requirements):
    source = keras_arrays_of(dict(Convolutional().named_children()))
    return checkpoint_of(source, layout="tensorflow", requirements=requirements)


def test_another_eps_is_a_problem_that_says_what_to_set():
    with pytest.raises(PlanError, match=r"(?s)setting bn.eps  expected 0.001, got 1e-05.*model.bn.eps = 0.001"):
        plan_reuse(keras_checkpoint(EPS), Convolutional()).check()


@pytest.mark.parametrize("option", ["accept", "adopt"])
def test_another_eps_is_kept_or_taken_over_when_asked(option):
    plan = plan_reuse(keras_checkpoint(EPS), Convolutional(), **{option: r".*\.eps"})

    assert not plan.problems
    assert plan.requirements[0].status == option + "ed"


def test_momentum_is_compared_in_torchs_terms():
    """Keras keeps 0.99 of the old statistics; torch's momentum is the new part, 0.01."""
    plan = plan_reuse(keras_checkpoint(EPS, Requirement("bn", "momentum", 0.99)), Convolutional(), adopt=".*")

    assert {row.attribute: row.required for row in plan.requirements} == {"eps": 1e-3, "momentum": 0.01}


def test_an_eps_that_the_file_does_not_tell_is_an_assumption():
    plan = plan_reuse(keras_checkpoint(), Convolutional())

    assert [row.status for row in plan.requirements] == ["assumed"]
    assert "tensorflow's own default is 0.001" in plan.requirements[0].note


@given(st.permutations(range(4)))
def test_the_order_of_the_file_does_not_matter(order):
    model = net(3, 4, 2)
    names = list(arrays_of(model))
    shuffled = {names[index]: arrays_of(model)[names[index]] for index in order}

    plan = plan_reuse(checkpoint_of(shuffled), model)

    assert [row.sources for row in plan.rows] == [(name,) for name in names]


def test_layers_that_cannot_be_told_apart_are_one_problem_each():
    """And not one for each pair of them: a thousand arrays would make a hundred thousand."""
    model = nn.ModuleList(nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}) for _ in range(12))
    source = {name.replace("a", "q", 1): array for name, array in arrays_of(model).items()}

    plan = plan_reuse(checkpoint_of(source, layout="torch"), model, match="structure")

    assert 0 < len(plan.problems) <= len(source)


def test_transposed_is_refused_where_the_layout_has_decided():
    """A square kernel would fit either way."""
    source = keras_arrays_of(dict(net(4, 4).named_children()))

    plan = plan_reuse(checkpoint_of(source, layout="tensorflow"), net(4, 4), adapt={r"hidden1\.weight": "transposed"})

    assert [row.status for row in plan.problems] == ["shape_mismatch"]
    assert '"transposed" would undo it' in plan.problems[0].note
