"""Rounding: bounded, measured, and exact where it is said to be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from regraft.caches.precision import (
    OWN_SCALE,
    PRECISIONS,
    SCALE,
    check_precision,
    decode_rows,
    difference,
    encode,
    rounding,
)
from regraft.errors import CacheError
from trunks import tiny_data, tiny_trunk

STEP = {"float32": 0.0, "bfloat16": 2**-8, "float16": 2**-11, "int8": 1 / 254}


def there_and_back(rows, precision):
    """What a store gives back."""
    stored = encode("x", rows, precision)
    return decode_rows(stored["x"], rows.dtype, stored.get("x" + SCALE), stored.get("x" + OWN_SCALE))


@given(
    precision=st.sampled_from(PRECISIONS),
    shape=st.sampled_from([(5,), (5, 3), (5, 4, 3), (5, 3, 2, 2)]),
    size=st.floats(1e-3, 1e3),
    seed=st.integers(0, 9),
)
def test_a_value_moves_by_half_a_step_at_most(precision, shape, size, seed):
    """Relative to the largest value of its channel."""
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size
    back = there_and_back(rows, precision)
    assert back.dtype == rows.dtype
    assert (back - rows).abs().max() <= STEP[precision] * rows.abs().max() * 1.001  # float32's own rounding


@pytest.mark.parametrize("precision", PRECISIONS)
def test_whole_numbers_are_never_rounded(precision):
    """Token numbers and masks stay as they are."""
    for rows in (torch.arange(1000, 1005), torch.tensor([True, False])):
        assert torch.equal(there_and_back(rows, precision), rows)


def test_int8_has_a_scale_for_each_channel():
    """A small channel beside a large one keeps its detail: dimension 1 of images, the last one of tokens."""
    for shape in ((1, 3, 1, 1), (1, 1, 3), (1, 3)):
        rows = torch.ones(4, *shape[1:]) * torch.tensor([1e-4, 1.0, 1e4]).view(shape)
        assert torch.allclose(there_and_back(rows, "int8"), rows, rtol=1e-6)


@pytest.mark.parametrize("factor", [10, 100, 1000, 1e30])
@pytest.mark.parametrize("shape", [(50, 8), (50, 6, 8), (50, 8, 3, 3)])
def test_one_large_row_does_not_take_the_detail_of_the_others(factor, shape):
    """It has a step of its own."""
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    alone = there_and_back(rows, "int8")[1:] - rows[1:]
    rows[0] *= factor
    beside = there_and_back(rows, "int8") - rows
    assert beside[1:].norm() <= alone.norm() * 1.2  # the first row's values were among the largest of some channels
    assert beside[0].double().norm() / rows[0].double().norm() < 0.02  # a step for all channels is a little coarser


def test_a_channel_of_zeros_stays_zero():
    """No division by zero."""
    assert torch.equal(there_and_back(torch.zeros(3, 2), "int8"), torch.zeros(3, 2))


def test_float16_refuses_what_it_cannot_hold():
    """Infinity instead of a value is a wrong feature."""
    with pytest.raises(CacheError, match=r"(?s)pool reaches 1e\+05.*bfloat16"):
        encode("pool", torch.tensor([[1e5]]), "float16")


@pytest.mark.parametrize("gap", [torch.nan, torch.inf])
def test_int8_refuses_gaps(gap):
    """They would come back as numbers."""
    with pytest.raises(CacheError, match=r"(?s)x has values that are not finite.*bfloat16"):
        encode("x", torch.tensor([[1.0, gap]]), "int8")


def test_differences_are_told_in_numbers():
    """The largest one, and the relative root mean square."""
    told = difference(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]))
    assert (told.largest, told.relative) == (0.5, pytest.approx(0.1))
    assert str(told) == "largest 0.5, relative 0.1"


def test_an_unknown_precision_is_answered_with_the_known_ones():
    """Before anything is computed."""
    with pytest.raises(CacheError, match=r"No precision 'half'. Precisions: float32"):
        check_precision("half")


class Dropping(nn.Module):
    """A head with a layer that is random in training."""

    def __init__(self):
        super().__init__()
        self.drop, self.last = nn.Dropout(0.5), nn.Linear(4, 3)

    def forward(self, features):
        return self.last(self.drop(features["hidden"]))


def test_rounding_is_measured_at_leaves_and_outputs():
    """The head is called in evaluation mode and left in its own."""
    head = Dropping().train()
    features = tiny_trunk()(tiny_data()[0])

    measured = rounding(features, features, "bfloat16", head)

    assert head.drop.training
    assert set(measured) == {"hidden", "output"}
    assert 0 < measured["hidden"].relative < 4e-3  # bfloat16 keeps 8 bits
    assert 0 < measured["output"].relative < 1e-2
    assert rounding(features, features, "float32", None)["hidden"].largest == 0


def test_the_compute_is_part_of_the_difference():
    """Features that were computed in bfloat16 are compared with float32's."""
    exact = tiny_trunk()(tiny_data()[0])
    measured = rounding(exact, {"hidden": exact["hidden"] * 1.01}, "float32", None)
    assert measured["hidden"].relative == pytest.approx(0.01, rel=1e-3)
