"""Settings are compared in torch's terms: equal functions are met, others are problems with a way out."""

import pytest
from torch import nn

from regraft.arrays import Requirement
from regraft.plans.describing import describe_model
from regraft.plans.settings import compare_settings, with_choices
from regraft.tf_layers import padded


def rows_of(module, *facts, layout="tensorflow"):
    (layer,) = describe_model(nn.ModuleDict({"layer": module}))
    told = [Requirement("theirs", attribute, value) for attribute, value in facts]
    return compare_settings(told, {"theirs": [layer]}, layout)


@pytest.mark.parametrize(
    ("conv", "padding"),
    [
        (nn.Conv2d(1, 1, 3, padding=1), "same"),
        (nn.Conv2d(1, 1, 3, padding=1), [[1, 1], [1, 1]]),
        (nn.Conv2d(1, 1, (3, 5), dilation=2, padding=(2, 4)), "same"),
        (nn.Conv2d(1, 1, 1, stride=2), "same"),
        (nn.Conv2d(1, 1, 3, padding="same"), "same"),
        (nn.Conv2d(1, 1, 3), "valid"),
        (padded(nn.Conv2d(1, 1, 3, stride=2), "same"), "same"),
        (padded(nn.Conv1d(1, 1, 3), "causal"), "causal"),
        (padded(nn.Conv2d(1, 1, 3), ((0, 1), (0, 1))), [[0, 1], [0, 1]]),
    ],
)
def test_paddings_that_add_the_same_zeros_are_met(conv, padding):
    assert [row.status for row in rows_of(conv, ("padding", padding))] == ["met"]


@pytest.mark.parametrize(
    ("conv", "padding"),
    [
        (nn.Conv2d(1, 1, 3, stride=2, padding=1), "same"),
        (nn.Conv2d(1, 1, 2, padding=1), "same"),
        (nn.Conv2d(1, 1, 3, padding=1), [[0, 1], [0, 1]]),
        (nn.Conv1d(1, 1, 3, padding=1), "causal"),
    ],
)
def test_paddings_that_add_others_are_problems_with_a_way_out(conv, padding):
    (row,) = rows_of(conv, ("padding", padding))

    assert row.is_problem
    assert "regraft.tf_layers.padded(model.layer," in row.note


def test_momentum_is_told_but_stops_nothing():
    """It moves the statistics in training; what a model computes does not depend on it."""
    row = rows_of(nn.BatchNorm2d(2), ("eps", 1e-5), ("momentum", 0.99))[1]

    assert (row.status, row.required, row.found) == ("accepted", 0.01, 0.1)
    assert with_choices([row], set(), {"layer.momentum"})[0].status == "adopted"


def test_another_form_of_the_gru_names_the_module_that_has_it():
    row = rows_of(nn.GRU(2, 3), ("reset_after", False))[0]

    assert row.is_problem
    assert "ResetBeforeGRU" in row.note


def test_groups_of_a_norm_are_compared():
    """They change what is normalised and leave no trace in the arrays; Keras writes -1 for a group for each channel."""
    assert rows_of(nn.GroupNorm(2, 8), ("groups", 4))[0].is_problem
    assert rows_of(nn.GroupNorm(4, 8), ("groups", 4))[0].status == "met"
    assert rows_of(nn.GroupNorm(8, 8), ("groups", -1))[0].status == "met"
    assert rows_of(nn.GroupNorm(2, 8), ("groups", -1))[0].required == 8


def test_a_plain_recurrent_layer_s_activation_is_compared():
    """torch's default is tanh, and its own word for it nonlinearity."""
    assert rows_of(nn.RNN(2, 3), ("activation", "relu"))[0].is_problem
    assert rows_of(nn.RNN(2, 3, nonlinearity="relu"), ("activation", "relu"))[0].status == "met"


def test_a_layer_that_reads_backwards_is_another_function():
    """No setting of torch's has it: the inputs are turned round."""
    row = rows_of(nn.LSTM(2, 3), ("go_backwards", True))[0]

    assert row.is_problem
    assert "x.flip(1)" in row.note
    assert rows_of(nn.LSTM(2, 3), ("go_backwards", False))[0].status == "met"


def test_a_hard_sigmoid_is_another_function():
    assert rows_of(nn.LSTM(2, 3), ("recurrent_activation", "hard_sigmoid"))[0].is_problem


@pytest.mark.parametrize(("layout", "told"), [("tensorflow", "0.001"), ("torch", "")])
def test_an_eps_that_nobody_tells_is_assumed_but_not_in_torchs_own_files(layout, told):
    rows = rows_of(nn.BatchNorm2d(2), layout=layout)

    assert [row.status for row in rows] == (["assumed"] if told else [])
    assert all(told in row.note for row in rows)


@pytest.mark.parametrize(
    ("theirs", "module", "expected"),
    [
        ("RMSNormalization", nn.LayerNorm(4, bias=False), [("RMS norm", "layer norm")]),
        ("LayerNormalization", nn.RMSNorm(4), [("layer norm", "RMS norm")]),
        ("LayerNormalization", nn.GroupNorm(1, 4), [("layer norm", "group norm")]),
        ("InstanceNormalization", nn.GroupNorm(4, 4), []),
        ("LayerNormalization", nn.LayerNorm(4), []),
        ("MyNorm", nn.LayerNorm(4), []),
    ],
)
def test_a_norm_of_another_kind_is_a_problem(theirs, module, expected):
    """Their arrays have the same shapes, and they compute something else."""
    (layer,) = describe_model(nn.ModuleDict({"layer": module}))

    rows = compare_settings((), {"theirs": [layer]}, "torch", {"theirs": theirs})

    assert [(row.required, row.found) for row in rows if row.is_problem] == expected


def test_steps_that_a_mask_leaves_out_are_a_problem_of_the_layer_behind_it():
    (row,) = rows_of(nn.LSTM(2, 3), ("masked", True))

    assert row.is_problem
    assert "pack_padded_sequence" in row.note


@pytest.mark.parametrize(("merge", "is_problem"), [("concat", False), ("sum", True)])
def test_both_directions_are_joined_alike(merge, is_problem):
    (row,) = rows_of(nn.LSTM(2, 3, bidirectional=True), ("merge", merge))

    assert row.is_problem is is_problem
