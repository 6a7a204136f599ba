"""Verification passes what is right, and tells of what is wrong where it begins and why."""

import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from regraft.errors import VerifyError
from regraft.verifying import read_golden, verify


def small(eps=1e-3):
    torch.manual_seed(0)
    model = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4, eps=eps), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(),
            square=nn.Linear(4, 4), out=nn.Linear(4, 2),
        )
    )  # fmt: skip
    with torch.no_grad():
        model.bn.running_var.fill_(0.01)
    return model.eval()


INPUTS = np.random.default_rng(0).normal(size=(5, 3, 7, 8)).astype(np.float32)


def outputs(model, name=None):
    """The output of a layer, or of the whole."""
    x = torch.from_numpy(INPUTS)
    with torch.no_grad():
        for layer, module in model.named_children():
            x = module(x)
            if layer == name:
                break
    return x.numpy()


def test_equal_outputs_are_verified_with_their_errors():
    result = verify(small(), INPUTS, outputs(small()))

    assert result.max_error == result.mean_error == 0.0
    assert "agrees within 1e-05" in str(result)


def test_the_model_comes_back_in_its_own_mode_and_unchanged():
    model = small()
    model.train()
    model.bn.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    with pytest.raises(VerifyError, match="differ"):
        verify(model, INPUTS, outputs(small(eps=1e-5)) + 1)

    assert model.training
    assert not model.bn.training
    assert model.bn.eps == 1e-3
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_first_layer_that_differs_is_named():
    right = small()
    recorded = {name: outputs(right, name) for name in ("square", "conv", "bn")}

    with pytest.raises(VerifyError, match=r"(?s)max error .*first layer that differs is bn: max error"):
        verify(small(eps=1e-5), INPUTS, outputs(right), intermediate=recorded)


def test_a_wrong_eps_is_recognised():
    with pytest.raises(VerifyError, match=r"It agrees when the eps of the norms is 0\.001"):
        verify(small(eps=1e-5), INPUTS, outputs(small()))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda model: model.square.weight.copy_(model.square.weight.T.clone()), "square dense kernels are transposed"),
        (
            lambda model: model.conv.weight.copy_(model.conv.weight.transpose(2, 3).clone()),
            "height and width of the convolution kernels are swapped",
        ),
        (lambda model: model.conv.weight.copy_(model.conv.weight.flip(2, 3)), "kernels are flipped"),
        (lambda model: model.conv.weight.copy_(model.conv.weight.flip(1)), "BGR or RGB"),
    ],
)
def test_a_wrong_axis_order_is_recognised(spoil, told):
    """The mutation check: each mistake is found, and the hint names it."""
    model = small()
    with torch.no_grad():
        spoil(model)

    with pytest.raises(VerifyError, match=rf"It agrees when .*{told}"):
        verify(model, INPUTS, outputs(small()))


def test_a_suspicion_that_gives_maps_of_another_size_hides_nothing():
    """Padded as "same" the convolution's maps would be smaller than the dense layer behind them takes."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=2), nn.Flatten(), nn.Linear(4 * 9 * 10, 2))

    with pytest.raises(VerifyError, match=r"differ by more than 1e-05.\n  output: max error"):
        verify(model, INPUTS, np.zeros((5, 2), np.float32))


def test_nan_is_a_difference():
    model = small()
    with torch.no_grad():
        model.out.bias[0] = float("nan")

    with pytest.raises(VerifyError, match="max error inf"):
        verify(model, INPUTS, outputs(small()))


def test_outputs_of_another_shape_are_told_with_the_usual_cause():
    model = nn.Conv2d(3, 4, 3)

    with pytest.raises(
        VerifyError, match=r"(?s)\(5, 5, 6, 4\) was recorded, the model gives \(5, 4, 5, 6\).*transpose"
    ):
        verify(model, INPUTS, np.zeros((5, 5, 6, 4), np.float32))


def test_an_unknown_layer_is_answered_with_near_ones():
    with pytest.raises(VerifyError, match=r"no layer 'bm'\. Did you mean 'bn'"):
        verify(small(), INPUTS, outputs(small()), intermediate={"bm": np.zeros(1)})


def test_several_inputs_and_outputs_keep_their_structure():
    class Two(nn.Module):
        def forward(self, a, b):
            return {"sum": a + b, "difference": a - b}

    a, b = np.ones((2, 2), np.float32), np.full((2, 2), 3.0, np.float32)

    result = verify(Two(), {"a": a, "b": b}, {"sum": a + b, "difference": a - b})

    assert [output.name for output in result.outputs] == ["output 0", "output 1"]
    with pytest.raises(VerifyError, match="3 arrays were recorded, the model gives 2"):
        verify(Two(), (a, b), (a, a, a))


def test_inputs_that_the_model_cannot_take_are_told_with_their_shapes():
    """Recorded channels last, as TensorFlow does."""
    with pytest.raises(VerifyError, match=r"recorded inputs \(5, 7, 8, 3\): [\s\S]*transpose it, x\.transpose"):
        verify(small(), INPUTS.transpose(0, 2, 3, 1), outputs(small()))


def test_a_recording_that_is_a_named_pipe_is_refused(tmp_path):
    """It would be waited for."""
    os.mkfifo(tmp_path / "io.npz")
    with pytest.raises(VerifyError, match=r"io\.npz is not a file"):
        read_golden(tmp_path / "io.npz")
