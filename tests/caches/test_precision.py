"""Rounding: bounded, measured, and exact where it is said to be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regraft.caches.precision import PRECISIONS, SCALE, check_precision, decode, difference, encode
from regraft.errors import CacheError

STEP = {"float32": 0.0, "bfloat16": 2**-8, "float16": 2**-11, "int8": 1 / 254}


def there_and_back(rows, precision):
    """What a store gives back."""
    stored = encode("x", rows, precision)
    return decode(stored["x"], rows.dtype, stored.get("x" + SCALE))


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
    with pytest.raises(CacheError, match=r"(?s)x has values that are no finite numbers.*bfloat16"):
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
