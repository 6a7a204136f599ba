"""Operations that only move values."""

import numpy as np
import pytest

from regraft.errors import PlanError
from regraft.operations.moves import Flip, Gates, PermuteFlat, Reshape, Take, Transpose
from regraft.operations.running import run_operations


def test_a_transpose_with_words_says_both_orders():
    assert str(Transpose((3, 2, 0, 1), ("h", "w", "in", "out"))) == "(h, w, in, out) -> (out, in, h, w)"


def test_a_flattened_map_is_read_in_the_other_order():
    """Unfolding, permuting and folding by hand gives the same columns."""
    array = np.arange(2 * 24, dtype=np.float32).reshape(2, 24)

    got = run_operations([PermuteFlat(1, (2, 3, 4), (2, 0, 1))], [array])

    assert np.array_equal(got, array.reshape(2, 2, 3, 4).transpose(0, 3, 1, 2).reshape(2, 24))


def test_gates_are_reordered_in_blocks():
    array = np.arange(8.0).reshape(8, 1)

    got = run_operations([Gates(0, (0, 2, 1, 3), "ifco")], [array])

    assert got[:, 0].tolist() == [0, 1, 4, 5, 2, 3, 6, 7]


def test_gates_name_both_orders():
    assert str(Gates(0, (0, 1, 3, 2), "ijfo")) == "gates ijfo -> ijof"


def test_flipping_twice_changes_nothing():
    array = np.arange(24.0).reshape(2, 3, 4)

    assert np.array_equal(run_operations([Flip((0, 2)), Flip((0, 2))], [array]), array)


def test_a_single_element_can_lose_its_axis():
    array = np.arange(6.0).reshape(2, 3)

    assert run_operations([Take(0, 1, 2, drop=True)], [array]).tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    ("operation", "shape", "told"),
    [
        (Transpose((1, 0)), (2, 3, 4), "moves 2 axes, the array has 3"),
        (Reshape((5,)), (2, 3), "6 elements become 5"),
        (Flip((2,)), (2, 3), "no such axis"),
        (PermuteFlat(1, (2, 2, 2), (2, 0, 1)), (4, 9), "must hold 2 × 2 × 2 elements"),
        (Gates(0, (0, 1, 2)), (4, 2), "3 equal gates"),
        (Take(0, 1, 4), (3, 2), "no elements 1 to 3"),
        (Take(0, 0, 2, drop=True), (3, 2), "only a single element"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused_with_the_reason(operation, shape, told):
    with pytest.raises(PlanError, match=told):
        operation.shapes([shape])
