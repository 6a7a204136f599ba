"""Numbers of eight and four bits, against torch's own."""

import numpy as np
import pytest
import torch

from regraft.containers.small_floats import SMALL_FLOATS, widened_values


@pytest.mark.parametrize("dtype", [dtype for dtype in SMALL_FLOATS if dtype.startswith("float8")])
def test_every_bit_pattern_of_eight_bits_is_widened_as_torch_does(dtype):
    """All 256 of them, the sign of zero, NaN and infinity included."""
    expected = torch.arange(256, dtype=torch.uint8).view(getattr(torch, dtype)).float().numpy()

    np.testing.assert_array_equal(widened_values(dtype), expected, strict=True)
    np.testing.assert_array_equal(np.signbit(widened_values(dtype)[:128]), np.signbit(expected[:128]))


def test_float4_holds_the_sixteen_numbers_of_its_description():
    """OCP microscaling formats, table 4."""
    half = [0, 0.5, 1, 1.5, 2, 3, 4, 6]

    assert widened_values("float4_e2m1fn").tolist() == [*half, *(-number for number in half)]
