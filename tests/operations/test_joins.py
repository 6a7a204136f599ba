"""Operations that make one array of several, or of none."""

import numpy as np
import pytest

from regraft.errors import PlanError
from regraft.operations.joins import Concatenate, Divide, Fill, KeepRest, Subtract
from regraft.operations.running import run_operations, shape_after


def test_arrays_are_joined_in_the_order_of_the_sources():
    assert run_operations([Concatenate(0)], [np.zeros(1), np.ones(2)]).tolist() == [0, 1, 1]


def test_a_difference_takes_the_second_from_the_first():
    assert run_operations([Subtract()], [np.array([5.0]), np.array([2.0])]).tolist() == [3]


@pytest.mark.parametrize(("divisor", "expected"), [(4.0, [0.5, 1.0]), (0.0, [0.0, 0.0])])
def test_caffes_sums_are_divided_by_their_count(divisor, expected):
    """A count of 0 means an untrained layer, whose statistics Caffe takes as 0."""
    assert run_operations([Divide()], [np.array([2.0, 4.0]), np.array([divisor])]).tolist() == expected


def test_rows_that_the_source_has_not_keep_the_targets_values():
    own = np.full((4, 2), 7.0)

    kept = run_operations([KeepRest(4)], [np.zeros((3, 2))], own=lambda: own)

    assert kept[:, 0].tolist() == [0, 0, 0, 7]
    assert (own == 7.0).all()


def test_a_filled_array_needs_no_source():
    assert run_operations([Fill(1.0, (2,))], []).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("operation", "shapes", "told"),
    [
        (Concatenate(0), [(2, 3), (2, 4)], "other axes differ"),
        (Subtract(), [(2,), (3,)], "two arrays of one shape"),
        (Divide(), [(2,), (2,)], "an array and one value"),
        (Fill(0.0, (2,)), [(2,)], "has no source"),
    ],
)
def test_shapes_that_do_not_go_together_are_refused(operation, shapes, told):
    with pytest.raises(PlanError, match=told):
        shape_after([operation], shapes)
