"""Operations that change values."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import PlanError
from regraft.operations.changes import Cast, Pad, RepeatInputs, SumInputs, VarianceFromInverse
from regraft.operations.running import run_operations


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
def test_a_cast_to_bfloat16_rounds_as_torch_does(values):
    """The float32 that is left is exactly torch's bfloat16."""
    array = np.array(values, dtype=np.float32)

    got = run_operations([Cast("bfloat16")], [array])

    assert torch.equal(torch.from_numpy(got), torch.from_numpy(array).bfloat16().float())


def test_a_cast_that_overflows_gives_infinity_and_no_warning():
    assert np.isinf(run_operations([Cast("float32")], [np.array([1e300])])).all()


def test_a_summed_kernel_answers_a_grey_image_as_the_old_one_answers_its_three_copies():
    kernel = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    grey = torch.randn(2, 1, 5, 5, dtype=torch.float64)

    summed = torch.from_numpy(run_operations([SumInputs()], [kernel.numpy()]))

    expected = torch.conv2d(grey.expand(-1, 3, -1, -1), kernel)
    assert torch.allclose(torch.conv2d(grey, summed), expected, atol=1e-12)  # other order of sums


def test_repeated_input_channels_keep_the_answer_to_a_constant_image():
    kernel = torch.randn(4, 3, 3, 3, dtype=torch.float64)

    repeated = torch.from_numpy(run_operations([RepeatInputs(6)], [kernel.numpy()]))

    before = torch.conv2d(torch.ones(1, 3, 5, 5, dtype=torch.float64), kernel)
    after = torch.conv2d(torch.ones(1, 6, 5, 5, dtype=torch.float64), repeated)
    assert torch.allclose(before, after, atol=1e-12)  # other order of sums


def test_lasagnes_inverse_deviation_becomes_the_variance():
    variance = np.array([0.5, 2.0, 9.0], dtype=np.float32)
    stored = 1 / np.sqrt(variance + 1e-4)

    assert np.allclose(run_operations([VarianceFromInverse(1e-4)], [stored]), variance, rtol=1e-6)  # one rounding


def test_padding_adds_zeros_on_both_sides():
    assert run_operations([Pad(0, 1, 2)], [np.ones(2)]).tolist() == [0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("operation", "told"),
    [(SumInputs(), "no input axis"), (RepeatInputs(2), "no input axis"), (Pad(3, 1, 1), "no axis 3")],
)
def test_a_vector_has_no_input_channels(operation, told):
    with pytest.raises(PlanError, match=told):
        operation.shapes([(4,)])
