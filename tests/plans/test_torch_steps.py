"""The steps that torch's modules and calls do, and the modules that do them."""

import pytest
import torch
from torch import nn

from regraft.plans.steps import Absent, Activation, CallStep, Pool, Unknown, function_of_text
from regraft.plans.torch_steps import module_for, steps_of_call, steps_of_module
from regraft.tf_layers import PaddedPool, SameMaxPool2d

HERE = CallStep("there", "call")


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (nn.MaxPool2d(3, 2, 1), "max 3x3, stride 2x2, padding 1x1"),
        (nn.AvgPool2d(3, 1, 1), "average 3x3, stride 1x1, padding 1x1 of zeros"),
        (nn.AvgPool1d(2), "average 2, stride 2"),
        (SameMaxPool2d(3, 2), "max 3x3, stride 2x2, padding same"),
        (nn.SiLU(), "silu"),
        (nn.GELU("tanh"), "gelu_tanh"),
        (nn.LeakyReLU(0.2), "leaky_relu(0.2)"),
    ],
)
def test_a_module_without_arrays_is_told_by_what_it_does(module, text):
    (step,) = steps_of_module(module, "there")

    assert (str(step.function), step.where.layer) == (text, "there")


def test_modules_that_change_no_value_are_no_steps():
    assert not [
        step for module in (nn.Identity(), nn.Dropout(), nn.Flatten()) for step in steps_of_module(module, "there")
    ]


@pytest.mark.parametrize(
    ("word", "args", "kwargs", "text"),
    [
        ("avg_pool2d", (None, 3), {"stride": 1, "padding": 1}, "average 3x3, stride 1x1, padding 1x1 of zeros"),
        ("avg_pool2d", (None, 3, 1, 1, False, False), {}, "average 3x3, stride 1x1, padding 1x1"),
        ("max_pool2d", (None, 2), {"ceil_mode": True}, "max 2x2, stride 2x2, rounded up"),
        ("relu_", (None,), {}, "relu"),
        ("gelu", (None,), {"approximate": "tanh"}, "gelu_tanh"),
    ],
)
def test_a_call_is_told_like_the_module(word, args, kwargs, text):
    assert [str(step.function) for step in steps_of_call(word, args, kwargs, HERE)] == [text]


def test_a_call_with_more_than_one_argument_is_not_taken_for_an_activation():
    """x.clip(0, 6) and its kin are functions of their own."""
    assert [step.function for step in steps_of_call("silu", (None, 2.0), {}, HERE)] == [Unknown("silu")]


@pytest.mark.parametrize(
    "text",
    [
        "max 3x3, stride 2x2, padding 1x1",
        "max 3x3, stride 2x2, padding same",
        "max 3x3, stride 2x2, padding 1x1 of zeros",
        "average 3x3, stride 1x1, padding 1x1",
        "average 3, stride 2, padding 0-1",
        "average 3x3, stride 2x2, padding 0-1x1 of zeros",
        "hard_swish",
        "elu(0.5)",
    ],
)
def test_a_word_becomes_a_module_that_is_told_by_it(text):
    (step,) = steps_of_module(module_for(function_of_text(text)), "there")

    assert str(step.function) == text


def test_padding_that_does_not_count_leaves_an_average_of_ones():
    average = PaddedPool("average", (3, 3), (2, 2), "same")

    assert torch.equal(average(torch.ones(1, 2, 4, 5)), torch.ones(1, 2, 2, 3))


def test_nothing_is_a_module_too_and_what_torch_cannot_do_is_none():
    assert isinstance(module_for(Absent("pool")), nn.Identity)
    assert module_for(Pool("max", (3, 3), (2, 2), ceil=True)) is None
    assert module_for(Activation("softmax")) is None
