"""The contract that every operation keeps."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import PlanError
from regraft.operations.joins import Concatenate
from regraft.operations.moves import Reshape, Transpose
from regraft.operations.operation import refusal
from regraft.operations.running import operation_from_json


@given(st.permutations([0, 1, 2]))
def test_the_announced_shape_is_the_shape_that_comes(axes):
    """A plan is checked without values, so the announcement must be true."""
    operation, array = Transpose(tuple(axes)), np.zeros((2, 3, 5))
    assert operation.shapes([array.shape]) == [operation.run([array])[0].shape]


def test_an_operation_on_each_array_keeps_their_number_and_a_join_makes_one():
    """The two kinds."""
    arrays = [np.zeros((2, 3)), np.ones((2, 3))]
    assert len(Transpose((1, 0)).run(arrays)) == 2
    assert Concatenate(0).shapes([array.shape for array in arrays]) == [(4, 3)]
    assert Concatenate(0).run(arrays)[0].shape == (4, 3)


@pytest.mark.parametrize("operation", [Transpose((1, 0)), Reshape((6,)), Concatenate(1)])
def test_an_operation_survives_json(operation):
    """As in a plan on disk."""
    assert operation_from_json(json.loads(json.dumps(operation.to_json()))) == operation


def test_a_refusal_names_operation_shape_and_reason():
    """The caller raises it."""
    with pytest.raises(PlanError, match=r"cannot be done to shape \(2, 3\): too small"):
        raise refusal(Transpose((1, 0)), (2, 3), "too small")
